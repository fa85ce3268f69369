"""What a trial changes inside the training process: batches, collectives, and where files go.

A trial is a short run of the user's script with one thing taken away, so that a ceiling can be
measured. `begin` is called by the injection, before anything else of ours wraps torch.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from speedprof.profiler.session import Session

Waiting = dict[str, Callable[[ModuleType], None]]
REAL, REPLAYED, ON_DEVICE = "real", "replayed", "on_device"
LOADER, NO_COMMUNICATION = "loader", "no_communication"
KINDS = (REAL, REPLAYED, ON_DEVICE, LOADER, NO_COMMUNICATION)


def begin(session: Session, waiting: Waiting, trial: dict[str, Any]) -> None:
    """Begin a session that is a trial: below the probes, so that these measure what it does."""
    from speedprof.profiler.trials import protection

    protection.protect_torch(waiting)
    session.fence.guard("trial", _install)(session, trial)
    session.begin(waiting)
    session.fence.guard("trial", _limit)(session, float(trial["seconds"]))


def _install(session: Session, trial: dict[str, Any]) -> None:
    kind = trial["kind"]
    if kind == REPLAYED:
        from speedprof.profiler.trials.replay import Replay

        Replay(session).install("replay batches from memory")
    elif kind == ON_DEVICE:
        from speedprof.profiler.trials.device_replay import DeviceReplay

        DeviceReplay(session).install("replay batches from memory")
    elif kind == LOADER:
        from speedprof.profiler.trials.loader_alone import LoaderAlone

        alone = LoaderAlone(session, int(trial["batches"]), float(trial["seconds"]))
        alone.install("draw batches and do nothing else")
    elif kind == NO_COMMUNICATION:
        from speedprof.profiler.trials.skip_collectives import SkipCollectives

        SkipCollectives(session).install()


def _limit(session: Session, seconds: float) -> None:
    """Stop at a step boundary once so many seconds have gone by after the warm-up.

    No sooner than FEWEST steps after it, which are needed to tell how steps vary.
    """
    inner = session.tracker.at_boundary
    began: list[int] = []

    def at_boundary(now: int, cut: bool) -> int:
        boundary = inner(now, cut)
        done = session.tracker.steps + (0 if cut else 1) - session.options.warmup
        if done >= 0 and not began:
            began.append(now)
        if done >= FEWEST and began and now - began[0] > seconds * 1e9:
            session.stopping = True
        return boundary

    session.tracker.at_boundary = at_boundary


FEWEST = 12  # steps
