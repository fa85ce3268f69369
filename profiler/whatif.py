"""Ceilings by trial: the script as it is, and with one cost taken away at a time, in turns.

Real trials stand between the others, so that a machine that grows slower or faster meanwhile shows
in the interval, not in the ratio. The loader alone and the training on batches from memory are the
two parts of DS-Analyzer (Mohan et al., VLDB 2021) and of NVIDIA's benchy: the real rate is at most
the lesser of the two.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from speedprof.profiler import launcher, run_folder, trial_runs, trials
from speedprof.profiler.interpreter import Target
from speedprof.profiler.prepared_files import FOLDER, Prepared
from speedprof.profiler.run_whatif import FILE

if TYPE_CHECKING:
    from speedprof.profiler.measured_ceilings import Series
    from speedprof.profiler.run import Run
    from speedprof.profiler.run_whatif import WhatIf

STEPS, LEAST_S, MOST_S = 40, 5.0, 20.0  # of a trial: so many steps and seconds, or the most
WARMUP = 5  # steps: allocator, autotuning and the loader's first batches
LIMIT_S = 900.0  # of the first trial, start-up and all
SLOWER, ALLOWED_S = 3.0, 60.0  # a later trial may take so many times the first, and so much more

Tell = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Order:
    """What to try, and how long."""

    target: Target
    parent: Path
    name: str | None = None
    steps: int | None = None  # per trial; None: STEPS, and as many as LEAST_S to MOST_S hold
    rounds: int = 1
    limit_s: float = LIMIT_S


@dataclass(kw_only=True)
class Trial:
    """One trial and what it showed."""

    kind: str
    folder: Path
    wall_s: float
    series: Series | None = None
    problem: str | None = None
    failed: bool = False  # the script itself ended with an error


@dataclass(kw_only=True)
class Outcome:
    """All that is known so far."""

    order: Order
    folder: Path
    trials: list[Trial] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)  # trials not made, and why
    finished: bool = False
    prepared: Prepared = field(init=False)

    def __post_init__(self) -> None:
        self.prepared = Prepared(folder=self.folder / FOLDER)

    def of(self, kind: str) -> list[Trial]:
        return [trial for trial in self.trials if trial.kind == kind]

    @property
    def first(self) -> Path | None:
        """Return the run of the first real trial, the one whose report tells of the others."""
        real = self.of(trials.REAL)
        return real[0].folder if real else None


def measure(order: Order, tell: Tell) -> tuple[Outcome, WhatIf]:
    """Make the trials; Ctrl-C ends them, and what is known by then is returned.

    `tell` hears which trial goes on. Raises SpeedprofError where the script cannot be started,
    OSError where nothing can be written.
    """
    from speedprof.profiler.whatif_results import conclude

    name = order.name or order.target.name
    folder = run_folder.create(order.parent, name, prefix="whatif-")
    outcome = Outcome(order=order, folder=folder)
    try:
        _all(outcome, tell)
        outcome.finished = True
    except KeyboardInterrupt:
        tell("interrupted: what is known so far is kept")
    finally:
        outcome.prepared.forget()
    found = conclude(outcome)
    write(outcome, found)
    return outcome, found


def write(outcome: Outcome, found: WhatIf) -> None:
    """Write what is known beside the trials, and into the run whose report is to show it."""
    import msgspec

    text = msgspec.json.format(msgspec.json.encode(found), indent=1).decode() + "\n"
    for folder in (outcome.folder, outcome.first):
        if folder is not None:
            run_folder.write(folder / FILE, text)


def _all(outcome: Outcome, tell: Tell) -> None:
    first = _trial(outcome, trials.REAL, tell)
    if first.series is None:
        return
    run = _loaded(first.folder)
    kinds, outcome.missing = planned(run)
    for _ in range(outcome.order.rounds):
        for kind in kinds:
            if outcome.trials[-1].kind != trials.REAL:
                _trial(outcome, trials.REAL, tell)
            trial = _trial(outcome, kind, tell)
            if trial.problem is not None:
                kinds = [other for other in kinds if other != kind]


def planned(run: Run) -> tuple[list[str], dict[str, str]]:
    """Return the trials to make beside real ones, and why the others are not made."""
    missing: dict[str, str] = {}
    # which loader is the training's, each trial finds out for itself
    if not any(loader.batches for loader in run.loaders):
        why = "no DataLoader fed the training: there is no loader to replay or to time alone"
        missing |= dict.fromkeys((trials.REPLAYED, trials.ON_DEVICE, trials.LOADER), why)
    elif run.device == "cpu":
        missing[trials.ON_DEVICE] = "no GPU was used"
    if run.world_size < 2:
        missing[trials.NO_COMMUNICATION] = "one process alone exchanges nothing"
    order = (trials.REPLAYED, trials.ON_DEVICE, trials.NO_COMMUNICATION, trials.LOADER)
    return [kind for kind in order if kind not in missing], missing


def _trial(outcome: Outcome, kind: str, tell: Tell) -> Trial:
    found = outcome.prepared.there
    trial = _tried(outcome, kind, tell)
    if trial.failed and found:
        outcome.prepared.forget()  # it may not want to find what it wrote
        shutil.rmtree(trial.folder, ignore_errors=True)
        outcome.trials.remove(trial)
        trial = _tried(outcome, kind, tell)
    return trial


def _tried(outcome: Outcome, kind: str, tell: Tell) -> Trial:
    from speedprof.profiler.measured_ceilings import series

    number = len(outcome.trials) + 1
    folder = outcome.folder / f"{number}-{kind}"
    trial = Trial(kind=kind, folder=folder, wall_s=0.0)
    outcome.trials.append(trial)
    order = _run_order(outcome, kind)
    ended = trial_runs.run(
        order,
        folder,
        limit_s=_limit_s(outcome),
        tell=lambda steps: tell(f"trial {number}, {NAMES[kind]}: step {steps}"),
        prepared=outcome.prepared,
    )
    trial.wall_s = ended.wall_s
    trial.series = series(folder, kind, WARMUP)
    trial.problem = ended.problem or _too_little(trial)
    trial.failed = ended.exit_status > 0
    return trial


def _run_order(outcome: Outcome, kind: str) -> launcher.Order:
    from speedprof.profiler.trials.replay import KEPT

    order = outcome.order
    replays = kind in (trials.REPLAYED, trials.ON_DEVICE)
    asked = order.steps is not None
    return launcher.Order(
        target=order.target,
        parent=outcome.folder,
        name=f"{order.name or order.target.name} ({NAMES[kind]})",
        warmup=WARMUP + KEPT * (1 + (kind == trials.ON_DEVICE)) if replays else WARMUP,
        windows=False,
        trial={
            "kind": kind,
            "steps": order.steps or STEPS,
            "least_s": 0.0 if asked else LEAST_S,
            "most_s": order.limit_s if asked else MOST_S,
        },
    )


def _limit_s(outcome: Outcome) -> float:
    """Return the seconds that the next trial may take: the first one tells."""
    first = outcome.trials[0].wall_s
    limit = outcome.order.limit_s
    return limit if first <= 0 else min(limit, SLOWER * first + ALLOWED_S)


def _too_little(trial: Trial) -> str | None:
    from speedprof.profiler.measured_ceilings import FEWEST, refusal

    if trial.series is None:
        return refusal(trial.folder) or NOTHING[trial.kind]
    rows = len(trial.series.wall_ms)
    if rows >= FEWEST:
        return None
    what = "batches" if trial.kind == trials.LOADER else "steps after warm-up"
    return f"only {rows} {what} were measured, {FEWEST} are needed; let the script train longer"


def _loaded(folder: Path) -> Run:
    from speedprof.profiler.attribution import load

    return load(folder)


NAMES = {
    trials.REAL: "as it is",
    trials.REPLAYED: "batches from memory",
    trials.ON_DEVICE: "batches from the device",
    trials.LOADER: "the loader alone",
    trials.NO_COMMUNICATION: "without communication",
}
NOTHING = {
    trials.REAL: "no training step was seen",
    trials.REPLAYED: "no batch was replayed: the training thread drew none from the loader before "
    "backward, or the script ended first",
    trials.ON_DEVICE: "no kept batch was seen on its way to the device (Tensor.to, Tensor.cuda)",
    trials.LOADER: "the script ended before the loader could be drawn from",
    trials.NO_COMMUNICATION: "no DistributedDataParallel was built",
}
