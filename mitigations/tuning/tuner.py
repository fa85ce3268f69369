"""Measure, try one remedy at a time, keep what is faster and proved, go on with what is next."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from speedprof.mitigations.catalogue import find
from speedprof.mitigations.mitigation import SAFETIES
from speedprof.mitigations.tuning.budget import PAIRS, Budget, OutOfTimeError
from speedprof.mitigations.tuning.candidates import COSTS, Candidate, Key, candidates, named
from speedprof.mitigations.tuning.combining import MOST_TOGETHER, combination
from speedprof.mitigations.tuning.decision import WORTH, decided, doubted, speedup, superfluous
from speedprof.mitigations.tuning.proof import Proof, prove, same
from speedprof.mitigations.tuning.trial import KEEPING, Plan, Tell, Trial, Trials
from speedprof.mitigations.tuning.tuned import LATE, NO_TIME, Order, Tried, Tuned
from speedprof.mitigations.tuning.turns import Compared, Turns, UnsteadyError
from speedprof.profiler import run_folder
from speedprof.profiler.attribution import load
from speedprof.profiler.errors import SpeedprofError
from speedprof.profiler.run import Run

OTHER_SEED = 1
MOST_KEPT = 12  # remedies, and other values of them
BY_SPREAD = ("changes_training", "reseeded", "rounding")  # what moves losses most comes first
MOST_PAIRS = 6  # of trials of the whole plan
NARROW = 1.1  # high / low of the whole plan's interval; more pairs would tell little more
MOST_SETTLING = 150  # steps of warm-up before what is kept in the first epoch is there to be used
MOST_NOTES = 2  # of a remedy that was not kept


class Tuner:
    """One tuning of one script."""

    def __init__(self, order: Order, tell: Tell) -> None:
        self._order, self._tell = order, tell
        folder = run_folder.create(order.parent, order.name or order.target.name, prefix="tune-")
        length = order.length.within(order.budget_s)
        self.tuned = Tuned(folder=folder)
        self._budget = Budget(whole_s=order.budget_s, most_s=length.limit_s)
        self._trials = Trials(target=order.target, folder=folder, length=length, tell=self._told)
        self._turns = Turns(self._trials, self._budget)
        self._original: list[Trial] = []
        self._other: Trial | None = None
        self._done: dict[Key, Candidate] = {}
        self._combined: set[frozenset[Key]] = set()

    def run(self) -> Tuned:
        """Tune to the end, the budget or Ctrl-C; what is proved by then is returned.

        Raises SpeedprofError where the script cannot be measured as it is.
        """
        try:
            self._measure_as_it_is()
            self.tuned.ended = self._improve()
            self._confirm()
        except OutOfTimeError:
            self.tuned.ended = NO_TIME
        except KeyboardInterrupt:
            self.tuned.ended = "interrupted"
        finally:
            self._trials.prepared.forget()
        return self.tuned

    def _told(self, what: str) -> None:
        left = max(0.0, self._budget.left_s())
        self._tell(f"{what}, {left // 60:.0f}:{left % 60:02.0f} left")

    def _measure_as_it_is(self) -> None:
        first = self._turns.trial((), "as it is", windows=True)
        if first.problem is not None:
            short = self._budget.left_s() <= 0
            more = "; --budget MINUTES gives it more time" if short else ""
            raise SpeedprofError(f"the script cannot be tuned: {first.problem}{more}")
        self.tuned.before = self.tuned.after = first.folder
        again = self._as_it_is_again()
        if self._trials.prepared.there and first.losses and not same(first.losses, again.losses):
            first, again = again, self._as_it_is_again()  # it drew numbers while it prepared
        self._original = [first, again]
        self._turns.adopt((), (again,))

    def _as_it_is_again(self) -> Trial:
        again = self._turns.trial((), "as it is again")
        if again.problem is not None and self._trials.prepared.there:
            self._trials.prepared.forget()  # it may not want to find what it wrote
            again = self._turns.trial((), "as it is again")
        if again.problem is not None:
            raise SpeedprofError(f"the script went well once, and not again: {again.problem}")
        return again

    # -- one remedy after the other

    def _improve(self) -> str:
        """Keep what is faster until nothing is; return why it ended."""
        try:
            while len([one for one in self.tuned.tried if one.kept]) < MOST_KEPT:
                assert self.tuned.after is not None
                if not self._one_more(load(self.tuned.after)):
                    self._look_again()
                    return f"no further remedy is predicted to gain {WORTH - 1:.0%} or more"
                again = self._turns.trial(self.tuned.plan, "measure again", windows=True)
                if again.problem is not None:
                    return f"the plan failed when it was measured again: {again.problem}"
                self.tuned.after = again.folder
        except OutOfTimeError:
            return NO_TIME
        except UnsteadyError as error:
            return f"a trial failed that had gone well before: {error}"
        return "enough remedies were kept"

    def _one_more(self, run: Run) -> bool:
        """Try what may help this run until one is kept; tell whether one was."""
        self._trials.epoch_steps = _epoch_steps(run)
        every = candidates(run, self.tuned.plan, self._order.wanted)
        waiting = [one for one in every if one.key not in self._done]
        for place, candidate in enumerate(waiting):
            if candidate.remedy.name in COSTS:  # first what is cheap
                try:
                    if self._together():
                        return True
                except OutOfTimeError:
                    self._leave(waiting[place:])
                    raise
            self._done[candidate.key] = candidate
            why = self._not_for_us(candidate)
            if why is not None:
                self.tuned.tried.append(_untried(candidate, why))
                continue
            tried, out_of_time = self._try(candidate)
            self.tuned.tried.append(tried)
            if out_of_time:
                self._leave(waiting[place + 1 :])
                raise OutOfTimeError
            if tried.kept:
                return True
        return self._together()

    def _together(self) -> bool:
        """Try at once what was faster alone, but not beyond noise; tell whether it was kept."""
        found = combination(self.tuned.tried, self.tuned.plan, self._done)
        if found is None or found.keys in self._combined:
            return False
        self._combined.add(found.keys)
        decide = partial(doubted, most=MOST_TOGETHER)
        compared = self._turns.against(found.plan, "together", decide)
        proof = self._proved(found.plan, compared) if compared.verdict else None
        kept = proof is not None and proof.passed is True
        if kept:
            self._keep(found.plan, compared, f"then {found.words} took its place")
        self.tuned.tried = [
            found.told(one, compared, proof, kept=kept) if one in found.parts else one
            for one in self.tuned.tried
        ]
        if compared.out_of_time:
            raise OutOfTimeError
        return kept

    def _leave(self, waiting: list[Candidate]) -> None:
        for candidate in waiting:
            why = self._not_for_us(candidate) or LATE
            self.tuned.tried.append(_untried(candidate, why))

    def _not_for_us(self, candidate: Candidate) -> str | None:
        """Return why a candidate gets no trial, None where it does."""
        name, target = candidate.remedy.name, self._order.safety
        safety = find(name).safety
        if SAFETIES.index(safety) > SAFETIES.index(target) and name not in self._order.allow:
            return f"not tried: {safety}, beyond {target}; --allow {name} lets it be tried"
        steps = self._trials.epoch_steps
        if name == KEEPING and not 0 < steps <= MOST_SETTLING:
            epoch = f"epochs have {steps:,} steps" if steps else "how long epochs are is not known"
            return f"not tried: {epoch}, and what is kept pays from the second one on"
        return None

    def _try(self, candidate: Candidate) -> tuple[Tried, bool]:
        """Make trials with and without it; return what came of them, and if time ran out."""
        plan = candidate.within(self.tuned.plan)
        name = candidate.remedy.name
        decide = decided if candidate.predicted is not None else doubted
        compared = self._turns.against(plan, name, decide, remedy=name)
        proof = self._proved(plan, compared) if compared.verdict else None
        kept = proof is not None and proof.passed is True
        if kept:
            self._keep(plan, compared, f"then {named(candidate.remedy)} took its place")
        tried = Tried(
            remedy=candidate.remedy,
            predicted=candidate.predicted,
            measured=compared.found,
            proof=proof,
            kept=kept,
            why=_instead(candidate) + _why(compared, proof, name),
            trials=compared.folders,
        )
        return tried, compared.out_of_time

    def _proved(self, plan: Plan, compared: Compared) -> Proof:
        """Judge the losses by what all that is in force together may change.

        Other random draws move them further than other rounding does.
        """
        safeties = {find(one.name).safety for one in plan}
        safety = next((one for one in BY_SPREAD if one in safeties), "exact")
        if safety not in ("exact", "rounding") and self._other is None:
            try:
                self._other = self._turns.trial((), "another seed", seed=OTHER_SEED)
            except OutOfTimeError:
                return Proof(passed=None, sentence=f"not proved: {NO_TIME}")
        first, again = (trial.losses for trial in self._original)
        other = self._other.losses if self._other is not None else []
        return prove(safety, again, compared.made[-1].losses, again=first, other=other)

    # -- the whole plan

    def _keep(self, plan: Plan, compared: Compared, why: str) -> None:
        """Put a plan in force; what it leaves out of that before is told with the reason."""
        left_out = [one for one in self.tuned.plan if one not in plan]
        self.tuned.plan = plan
        self._turns.adopt(plan, compared.made)
        for place, tried in enumerate(self.tuned.tried):
            if tried.kept and tried.remedy in left_out:
                told = f"{tried.why}; {why}"
                self.tuned.tried[place] = replace(tried, kept=False, why=told)

    def _look_again(self) -> None:
        """Leave each remedy of several out once more; drop those that the plan can do without.

        What helped when it was kept may not beside those that came after it.
        """
        whole = self.tuned.plan
        for remedy in whole:
            without = tuple(one for one in self.tuned.plan if one != remedy)
            if not without:
                return
            compared = self._turns.against(
                without, f"without {remedy.name}", lambda found, n: superfluous(found.inverse, n)
            )
            if compared.out_of_time:
                return
            if compared.verdict and compared.found is not None:
                why = f"then left out: beside the others it gains {compared.found.inverse}"
                self._keep(without, compared, why)
        if self.tuned.plan != whole:
            again = self._turns.trial(self.tuned.plan, "measure again", windows=True)
            self.tuned.after = again.folder

    def _confirm(self) -> None:
        """Measure the whole plan against the script as it is, in fresh pairs."""
        old: list[Trial] = []
        new: list[Trial] = []
        try:
            while self.tuned.plan and len(old) < MOST_PAIRS:
                old.append(self._turns.trial((), "as it is", last=True))
                new.append(self._turns.trial(self.tuned.plan, "the plan", last=True))
                if old[-1].problem or new[-1].problem:
                    return
                found = speedup([one.rows for one in old], [one.rows for one in new])
                self.tuned.total = found
                if len(old) >= PAIRS and found.high <= NARROW * found.low:
                    break
        except OutOfTimeError:
            pass
        if self.tuned.total is not None and self.tuned.total.high < 1.0:
            self.tuned.plan = ()
            self.tuned.ended += "; together they were slower than the script as it is"


def _epoch_steps(run: Run) -> int:
    """Return the steps of an epoch of the training loader, 0 where that is not known."""
    loader = run.training_loader()
    if loader is None or not loader.length:
        return 0
    return round(loader.length / (loader.batch_size or 1) / (run.batches_per_step or 1.0))


def _untried(candidate: Candidate, why: str) -> Tried:
    return Tried(
        remedy=candidate.remedy,
        predicted=candidate.predicted,
        measured=None,
        proof=None,
        kept=False,
        why=why,
        trials=(),
    )


def _instead(candidate: Candidate) -> str:
    return f"instead of {', '.join(candidate.instead)}: " if candidate.instead else ""


def _why(compared: Compared, proof: Proof | None, name: str) -> str:
    if compared.problem is not None:
        return compared.problem
    if compared.out_of_time:
        begun = compared.made or compared.cut
        why = "; ".join(filter(None, (compared.cut, NO_TIME)))
        return f"not decided: {why}" if begun else LATE
    if not compared.verdict:
        told = [f"not faster beyond noise: {compared.found}", *compared.made[-1].notes(name)]
        return "; ".join(told[: 1 + MOST_NOTES])
    return proof.sentence if proof is not None else ""
