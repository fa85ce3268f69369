"""Trials in turns: of the plan in force, and of another one beside it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from speedprof.mitigations.tuning.budget import Budget, OutOfTimeError, kept_back_s, likely_s
from speedprof.mitigations.tuning.decision import Speedup, speedup
from speedprof.mitigations.tuning.trial import Plan, Trial, Trials

Decide = Callable[[Speedup, int], bool | None]
RECENT = 4  # trials; what was measured before them may be the machine's mood of then


class UnsteadyError(Exception):
    """The script, or the plan in force, failed in a trial after it went well in others."""


@dataclass(frozen=True, kw_only=True)
class Compared:
    """What trials of another plan say of it."""

    made: tuple[Trial, ...]
    found: Speedup | None = None
    verdict: bool | None = None  # None: it was not decided, or they failed
    problem: str | None = None  # why a trial failed, or why the remedy had no effect
    out_of_time: bool = False
    cut: str = ""  # which trial the end of the budget cut off, if one

    @property
    def folders(self) -> tuple[str, ...]:
        return tuple(trial.folder.name for trial in self.made)


class Turns:
    """Makes trials while the budget lasts, and compares them."""

    def __init__(self, trials: Trials, budget: Budget) -> None:
        self._trials, self._budget = trials, budget
        self.plan: Plan = ()  # in force
        self._wanted: Plan = ()  # perhaps in force soon: its measurement will take time, too
        self.current: Trial | None = None  # the last of the plan in force

    def trial(
        self, plan: Plan, what: str, *, seed: int = 0, windows: bool = False, last: bool = False
    ) -> Trial:
        """Make a trial; raises OutOfTimeError where the budget is not likely to hold it.

        All but the `last` ones leave the time that the whole plan's measurement will take. A trial
        that hangs is ended long before the budget is.
        """
        made = self._trials.made
        first = not made
        likely = likely_s(plan, made, windows=windows)
        left = self._budget.left_s()
        if not last:
            left -= kept_back_s(self._wanted, made, self._budget.whole_s)
        if left < likely:
            raise OutOfTimeError
        patience = self._budget.most_s if first else self._budget.patience_s(likely)
        limit = min(patience, left)
        trial = self._trials.run(plan, what, seed=seed, windows=windows, limit_s=limit)
        by_budget = limit < patience and trial.wall_s >= limit
        if trial.problem is not None and by_budget and not first:
            raise OutOfTimeError(f"its trial was cut off after {trial.wall_s:.0f} s")
        return trial

    def against(
        self, plan: Plan, what: str, decide: Decide, *, remedy: str | None = None
    ) -> Compared:
        """Make trials of a plan, and of that in force in turn with them, until they decide.

        The last trial of the plan in force counts where it is recent; what is kept is measured
        between two of them, so that a machine that got quieter meanwhile is no gain. Where a
        `remedy` is named that has no effect, one trial is enough.
        """
        made: list[Trial] = []
        found: Speedup | None = None
        self._wanted = plan
        try:
            beside = [self._recent()]
            while True:
                made.append(self.trial(plan, what))
                idle = made[-1].without_effect(remedy) if remedy else None
                problem = made[-1].problem or idle
                if problem is not None:
                    return Compared(made=tuple(made), problem=problem)
                if len(made) > len(beside):
                    beside.append(self._again())
                found = _compared(beside, made)
                verdict = decide(found, len(made))
                if verdict and len(beside) < 2:
                    beside.append(self._again())
                    found = _compared(beside, made)
                    since = decide(_compared(beside[-1:], made), len(made))
                    verdict = decide(found, len(made)) if since else None
                if verdict is not None:
                    return Compared(made=tuple(made), found=found, verdict=verdict)
        except OutOfTimeError as error:
            return Compared(made=tuple(made), found=found, out_of_time=True, cut=str(error))
        finally:
            self._wanted = self.plan

    def _recent(self) -> Trial:
        """Return a trial of the plan in force that was made of late, or just now."""
        for one in self._trials.made[-RECENT:]:
            if one is self.current:
                return one
        return self._again()

    def _again(self) -> Trial:
        trial = self.trial(self.plan, "without it")
        if trial.problem is not None:  # it went well before
            raise UnsteadyError(trial.problem)
        self.current = trial
        return trial

    def adopt(self, plan: Plan, made: tuple[Trial, ...]) -> None:
        """Put a plan in force, of which these trials were made."""
        self.plan = self._wanted = plan
        self.current = made[-1]


def _compared(old: list[Trial], new: list[Trial]) -> Speedup:
    return speedup([one.rows for one in old], [one.rows for one in new])
