"""What a trial changes inside the training process: batches, collectives, and where files go.

A trial is a short run of the user's script with one thing taken away, so that a ceiling can be
measured. `begin` is called by the injection, before anything else of ours wraps torch.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from speedprof.profiler.session import Session

FEWEST = 12  # steps, or batches: less does not tell how they vary
Waiting = dict[str, Callable[[ModuleType], None]]
REAL, REPLAYED, ON_DEVICE = "real", "replayed", "on_device"
LOADER, NO_COMMUNICATION = "loader", "no_communication"
KINDS = (REAL, REPLAYED, ON_DEVICE, LOADER, NO_COMMUNICATION)


@dataclass(frozen=True, kw_only=True)
class Length:
    """When a trial has seen enough: so many steps and seconds, or the most seconds."""

    steps: int
    least_s: float
    most_s: float

    def enough(self, done: int, seconds: float) -> bool:
        """Tell, after the warm-up."""
        if done >= self.steps and seconds >= self.least_s:
            return True
        return done >= min(FEWEST, self.steps) and seconds >= self.most_s


def begin(session: Session, waiting: Waiting, trial: dict[str, Any]) -> None:
    """Begin a session that is a trial: below the probes, so that these measure what it does."""
    from speedprof.profiler.trials import protection

    try:
        protection.protect_torch()
    except (AttributeError, KeyError, TypeError) as error:  # a torch that is built otherwise
        raise SystemExit(f"speedprof: torch.save cannot be protected ({error})") from error
    length = Length(
        steps=int(trial["steps"]),
        least_s=float(trial["least_s"]),
        most_s=float(trial["most_s"]),
    )
    several = int(os.environ.get("WORLD_SIZE", "1")) > 1
    if several:  # ranks must end with the same step, or they wait for each other
        session.options = replace(session.options, stop_after=length.steps)
    session.fence.guard("trial", _install)(session, str(trial["kind"]), length)
    if trial.get("seed") is not None:
        from speedprof.profiler.trials import losses

        session.fence.guard("losses", losses.install)(session, int(trial["seed"]))
    session.begin(waiting)
    protection.protect_companions(waiting)
    if not several:
        session.fence.guard("trial", _limit)(session, length)


def _install(session: Session, kind: str, length: Length) -> None:
    if kind == REPLAYED:
        from speedprof.profiler.trials.replay import Replay

        Replay(session).install("replay batches from memory")
    elif kind == ON_DEVICE:
        from speedprof.profiler.trials.device_replay import DeviceReplay

        DeviceReplay(session).install("replay batches from memory")
    elif kind == LOADER:
        from speedprof.profiler.trials.loader_alone import LoaderAlone

        LoaderAlone(session, length).install("draw batches and do nothing else")
    elif kind == NO_COMMUNICATION:
        from speedprof.profiler.trials.skip_collectives import SkipCollectives

        SkipCollectives(session).install()


def _limit(session: Session, length: Length) -> None:
    """Stop at the first step boundary after the warm-up at which the trial is long enough."""
    inner = session.tracker.at_boundary
    began: list[int] = []

    def at_boundary(now: int, cut: bool) -> int:
        boundary = inner(now, cut)
        done = session.tracker.steps + (0 if cut else 1) - session.options.warmup
        if done >= 0 and not began:
            began.append(now)
        if began and length.enough(done, (now - began[0]) / 1e9):
            session.stopping = True
        return boundary

    session.tracker.at_boundary = at_boundary
