"""Measure, try one remedy at a time, keep what is faster and proved, go on with what is next."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from speedprof.advisor.judgement import judge
from speedprof.mitigations.applied.automatic import AUTOMATIC
from speedprof.mitigations.catalogue import Advice, advise, find
from speedprof.mitigations.mitigation import SAFETIES, Gain
from speedprof.mitigations.plan_files import Remedy
from speedprof.mitigations.tuning.candidates import advised, neighbours, together
from speedprof.mitigations.tuning.decision import WORTH, Speedup, decided, speedup
from speedprof.mitigations.tuning.proof import Proof, prove
from speedprof.mitigations.tuning.trial import Length, Plan, Tell, Trial, Trials
from speedprof.profiler import run_folder
from speedprof.profiler.attribution import load
from speedprof.profiler.errors import SpeedprofError
from speedprof.profiler.interpreter import Target

OTHER_SEED = 1
MOST_ROUNDS_OF_ADVICE = 8
BY_SPREAD = ("changes_training", "reseeded", "rounding")  # what moves losses most comes first
FEWEST_PAIRS, MOST_PAIRS = 2, 6  # of trials of the whole plan
NARROW = 1.1  # high / low of the whole plan's interval; more pairs would tell little more


@dataclass(frozen=True, kw_only=True)
class Order:
    """What to tune, how long, and what may be changed."""

    target: Target
    parent: Path
    name: str | None = None
    budget_s: float = 600.0
    safety: str = "rounding"  # the least safe that is tried
    allow: tuple[str, ...] = ()  # remedies beyond it
    length: Length = field(default_factory=Length)


@dataclass(frozen=True, kw_only=True)
class Tried:
    """One remedy, what was predicted of it and what came of it."""

    remedy: Remedy
    predicted: Gain | None
    measured: Speedup | None
    proof: Proof | None
    kept: bool
    why: str
    trials: tuple[str, ...]  # their folders


@dataclass(kw_only=True)
class Tuned:
    """What is proved so far."""

    folder: Path
    plan: Plan = ()
    tried: list[Tried] = field(default_factory=list)
    total: Speedup | None = None
    before: Path | None = None  # runs with windows: as it was, and under the plan
    after: Path | None = None
    ended: str = "interrupted"


class _OutOfTimeError(Exception):
    """The budget does not hold another trial."""


@dataclass(frozen=True, kw_only=True)
class _Candidate:
    remedy: Remedy
    predicted: Gain | None
    beside: Plan = ()  # remedies that it needs to be worth it


class Tuner:
    """One tuning of one script."""

    def __init__(self, order: Order, tell: Tell) -> None:
        self._order, self._tell = order, tell
        self._begin = time.monotonic()
        folder = run_folder.create(order.parent, order.name or order.target.name, prefix="tune-")
        self.tuned = Tuned(folder=folder)
        self._trials = Trials(
            target=order.target, folder=folder, length=order.length, tell=self._told
        )
        self._original: list[Trial] = []
        self._current: list[Trial] = []
        self._other: Trial | None = None
        self._done: set[tuple[str, str]] = set()

    def run(self) -> Tuned:
        """Tune to the end, the budget or Ctrl-C; what is proved by then is returned.

        Raises SpeedprofError where the script cannot be measured as it is.
        """
        try:
            self._measure_as_it_is()
            self.tuned.ended = self._improve()
            self._confirm()
        except _OutOfTimeError:
            self.tuned.ended = "the budget is used up"
        except KeyboardInterrupt:
            self.tuned.ended = "interrupted"
        return self.tuned

    def _told(self, what: str) -> None:
        left = max(0.0, self._left_s())
        self._tell(f"{what}, {left // 60:.0f}:{left % 60:02.0f} left")

    def _left_s(self) -> float:
        return self._order.budget_s - (time.monotonic() - self._begin)

    def _trial(self, plan: Plan, what: str, *, seed: int = 0, windows: bool = False) -> Trial:
        longest = max((trial.wall_s for trial in self._trials.made), default=0.0)
        if self._left_s() < longest:
            raise _OutOfTimeError
        return self._trials.run(plan, what, seed=seed, windows=windows)

    def _measure_as_it_is(self) -> None:
        first = self._trial((), "as it is", windows=True)
        if first.problem is not None:
            raise SpeedprofError(f"the script cannot be tuned: {first.problem}")
        self.tuned.before = self.tuned.after = first.folder
        again = self._trial((), "as it is again")
        self._original = [first, again]
        self._current = [again]

    def _improve(self) -> str:
        for _ in range(MOST_ROUNDS_OF_ADVICE):
            assert self.tuned.after is not None
            if not self._one_more(self.tuned.after):
                return f"no further remedy is predicted to gain {WORTH - 1:.0%} or more"
            self.tuned.after = self._trial(self.tuned.plan, "measure again", windows=True).folder
        return "enough remedies were tried"

    def _one_more(self, folder: Path) -> bool:
        """Try what is advised on this run until one is kept; tell whether one was."""
        for candidate in self._candidates(folder):
            self._done.add(_key(candidate.remedy))
            tried = self._try(candidate)
            self.tuned.tried.append(tried)
            if tried.kept:
                self._search(candidate)
                return True
        return False

    def _candidates(self, folder: Path) -> Iterator[_Candidate]:
        run = load(folder)
        for advice in advise(run, judge(run)):
            name = advice.mitigation.name
            if name not in AUTOMATIC or not self._allowed(advice):
                continue
            gain = advice.fit.gain
            remedy = advised(name, advice.fit.parameters)
            if _key(remedy) in self._done or self._in_force(name):
                continue
            if gain is None or gain.high >= WORTH:
                beside = tuple(
                    advised(other, parameters) for other, parameters in advice.fit.beside.items()
                )
                yield _Candidate(remedy=remedy, predicted=gain, beside=beside)

    def _allowed(self, advice: Advice) -> bool:
        mitigation = advice.mitigation
        safe = SAFETIES.index(mitigation.safety) <= SAFETIES.index(self._order.safety)
        return safe or mitigation.name in self._order.allow

    def _in_force(self, name: str) -> bool:
        conflicts = find(name).conflicts
        return any(one.name == name or one.name in conflicts for one in self.tuned.plan)

    def _try(self, candidate: _Candidate) -> Tried:
        """Make trials with and without it in turns until they decide."""
        remedy = candidate.remedy
        plan = together(self.tuned.plan, *candidate.beside, remedy)
        made: list[Trial] = []
        found: Speedup | None = None
        verdict: bool | None = None
        while verdict is None:
            trial = self._trial(plan, remedy.name)
            if trial.problem is not None:
                return self._failed(candidate, [*made, trial], trial.problem)
            made.append(trial)
            if len(made) > len(self._current):
                self._current.append(self._trial(self.tuned.plan, "without it"))
            found = speedup([one.rows for one in self._current], [one.rows for one in made])
            verdict = decided(found, len(made))
        proof = self._proved(plan, made) if verdict else None
        kept = bool(verdict) and proof is not None and proof.passed is True
        if kept:
            self.tuned.plan, self._current = plan, made
        why = _why(found, verdict=bool(verdict), proof=proof)
        idle = _without_effect(made[-1], remedy.name)
        return Tried(
            remedy=remedy,
            predicted=candidate.predicted,
            measured=found,
            proof=proof,
            kept=kept,
            why=idle or why,
            trials=tuple(trial.folder.name for trial in made),
        )

    def _failed(self, candidate: _Candidate, made: list[Trial], problem: str) -> Tried:
        return Tried(
            remedy=candidate.remedy,
            predicted=candidate.predicted,
            measured=None,
            proof=None,
            kept=False,
            why=problem,
            trials=tuple(trial.folder.name for trial in made),
        )

    def _proved(self, plan: Plan, made: list[Trial]) -> Proof:
        """Judge the losses by what all that is in force together may change.

        Other random draws move them further than other rounding does.
        """
        safeties = {find(one.name).safety for one in plan}
        safety = next((one for one in BY_SPREAD if one in safeties), "exact")
        if safety not in ("exact", "rounding") and self._other is None:
            self._other = self._trial((), "another seed", seed=OTHER_SEED)
        first, again = (trial.losses for trial in self._original)
        other = self._other.losses if self._other is not None else []
        return prove(safety, again, made[-1].losses, again=first, other=other)

    def _search(self, candidate: _Candidate) -> None:
        """Try the neighbours of a parameter that was only predicted."""
        for remedy in neighbours(candidate.remedy):
            if _key(remedy) in self._done:
                continue
            self._done.add(_key(remedy))
            tried = self._try(_Candidate(remedy=remedy, predicted=None))
            self.tuned.tried.append(tried)

    def _confirm(self) -> None:
        """Measure the whole plan against the script as it is, in fresh pairs."""
        old: list[Trial] = []
        new: list[Trial] = []
        while self.tuned.plan and len(old) < MOST_PAIRS:
            old.append(self._trial((), "as it is"))
            new.append(self._trial(self.tuned.plan, "the plan"))
            if old[-1].problem or new[-1].problem:
                return
            if len(old) < FEWEST_PAIRS:
                continue
            found = speedup([one.rows for one in old], [one.rows for one in new])
            self.tuned.total = found
            if found.high <= NARROW * found.low:
                return


def _key(remedy: Remedy) -> tuple[str, str]:
    return remedy.name, repr(sorted(remedy.parameters.items()))


def _without_effect(trial: Trial, name: str) -> str | None:
    one = next((one for one in trial.applied if one.name == name), None)
    if one is None or one.effects:
        return None
    return f"it had no effect ({'; '.join(one.notes) or 'what it changes was not met'})"


def _why(found: Speedup | None, *, verdict: bool, proof: Proof | None) -> str:
    if not verdict:
        return f"not faster beyond noise: {found}"
    return proof.sentence if proof is not None else ""
