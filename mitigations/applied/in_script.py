"""`speedprof.apply()`: the script puts a plan in force itself."""

from __future__ import annotations

import atexit
import multiprocessing
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, final

from speedprof.mitigations.applied import words
from speedprof.mitigations.applied.automatic import AUTOMATIC
from speedprof.mitigations.applied.process import Applied, Process, chosen
from speedprof.mitigations.applied.rivals import rival
from speedprof.mitigations.plan_files import PlanFile, Remedy, read, understand
from speedprof.profiler.errors import SpeedprofError
from speedprof.profiler.facts import rank_and_world
from speedprof.profiler.fence import Fence
from speedprof.profiler.patches import Patches
from speedprof.profiler.session import Session, current

CALL = "speedprof.apply()"

_in_force: list[AppliedPlan] = []


def apply(plan: str | os.PathLike[str]) -> AppliedPlan:
    """Put the remedies of a plan in force in this process.

    `plan` is a TOML file, or a line like ``loader-workers=4,tf32``. Call it before what it is to
    change is built: loaders, the optimizer, the model's first step. The remedies stay until the
    process ends, or for a ``with`` block; then one line on stderr says what came of them. Under
    `speedprof run` they stand in its record and its report instead.

    Raises SpeedprofError, and changes nothing, where the plan is faulty or does not go with one
    that is in force. What is in force already stays as it is; so does what `--apply` put there.
    """
    wanted = understand(plan, CALL) if isinstance(plan, str) else read(Path(plan))
    import torch  # noqa: F401 - under `speedprof run` this begins the measuring

    session = current()
    if session is not None and session.over:
        session = None
    new, left = _sorted_out(wanted, _by_command(session))
    made = AppliedPlan(wanted, session, left)
    made.begin(new)
    return made


@final
class AppliedPlan:
    """A plan that the script put in force; `undo()`, or leaving its `with` block, takes it back.

    As text it is what came of it so far, in one sentence.
    """

    def __init__(self, plan: PlanFile, session: Session | None, left: list[str]) -> None:
        self._session = session
        self._remarks = left
        fence = Fence(self._remarks.append) if session is None else session.fence
        self._process = Process(fence, session.waiting if session else {}, plan.proved())
        self._take_back = fence.guard(CALL, self._undo)
        self._told: list[tuple[str, dict[str, object]]] | None = None  # once it is over
        self._pid = os.getpid()

    @property
    def patches(self) -> Patches:
        return self._process.patches

    @property
    def applied(self) -> list[Applied]:
        return self._process.in_order()

    def __enter__(self) -> AppliedPlan:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None or self in _in_force[-1:]:
            self.undo()

    def __str__(self) -> str:
        told = self.told()
        changes = [str(fact["text"]) for kind, fact in told if kind == "change"]
        notes = [str(fact["text"]) for kind, fact in told if kind == "note"]
        return "; ".join(filter(None, [words.sentence(self.applied, changes), *notes]))

    def begin(self, remedies: Iterable[Remedy]) -> None:
        """Put these of the plan's remedies in force, until the process ends at the latest."""
        _in_force.append(self)
        if self._session is not None:
            self._session.plans.append(self)
        entries: list[dict[str, Any]] = [
            {"name": one.name, "parameters": dict(one.parameters)} for one in remedies
        ]
        if self._session is None:
            self._process.apply(entries)
        else:  # the probes see what comes of it
            self._session.beneath(lambda: self._process.apply(entries))
        atexit.register(self._end)

    def undo(self) -> None:
        """Take back what the plan changed; raises SpeedprofError where another came after it."""
        if self._told is not None:
            return
        if _in_force[-1] is not self:
            later = ", ".join(one.name for one in _in_force[-1].applied) or "nothing new"
            raise SpeedprofError(f"take back what came later first: the plan with {later}")
        self._take_back()

    def told(self) -> list[tuple[str, dict[str, object]]]:
        """Return what the record keeps of it."""
        if self._told is not None:
            return self._told
        remarks: list[tuple[str, dict[str, object]]] = [
            ("note", {"text": text}) for text in self._remarks
        ]
        return self._process.told() + remarks

    def _end(self) -> None:
        """See to the end of the process; those that came later have ended already."""
        if self._told is None and os.getpid() == self._pid:
            self._take_back()

    def _undo(self) -> None:
        self._told = self.told()
        said = str(self)
        _in_force.remove(self)
        if self._session is None:
            left = self._process.undo()
            if not self._idle():
                _tell("; ".join([said, *left]))
        elif self._session.over:
            self._process.undo()
            self._session.patches.undo()  # probes that lay below, if any
        else:
            self._session.beneath(self._process.undo)

    def _idle(self) -> bool:
        """Whether this is a process of `multiprocessing`, a loader's worker say, without a use."""
        child = multiprocessing.parent_process() is not None
        return child and not any(one.effects for one in self.applied)


def _tell(said: str) -> None:
    """Say on stderr what came of a plan, once for all ranks."""
    if said and sys.stderr is not None and rank_and_world()[0] == 0:
        sys.stderr.write(f"speedprof: {said}\n")


def _by_command(session: Session | None) -> list[Applied]:
    """Return what `speedprof run --apply` put in force."""
    plans: list[Any] = [] if session is None else session.plans
    return [one for plan in plans if isinstance(plan, Process) for one in plan.applied]


def _sorted_out(wanted: PlanFile, by_command: list[Applied]) -> tuple[list[Remedy], list[str]]:
    """Return the remedies to put in force, and a sentence for each that the command line forbids.

    What is in force with the same values needs nothing.
    """
    own = {one.name: one for plan in _in_force for one in plan.applied}
    commanded = {one.name for one in by_command}
    new, left = [], []
    for remedy in wanted.remedies:
        other = remedy.name if remedy.name in commanded else rival(remedy.name, commanded)
        if other is not None:
            left.append(f"{CALL} leaves {remedy.name} out: --apply put {other} in force")
        elif remedy.name not in own:
            new.append(remedy)
            _refuse_rivals(remedy, own)
        elif own[remedy.name].parameters != chosen(AUTOMATIC[remedy.name], remedy.parameters):
            raise SpeedprofError(
                f"{CALL}: {remedy.name} is in force already, with other values; take that back "
                "first (`undo()` of what the first call returned)"
            )
    return new, left


def _refuse_rivals(remedy: Remedy, own: dict[str, Applied]) -> None:
    other = rival(remedy.name, own)
    if other is not None:
        raise SpeedprofError(
            f"{CALL}: {remedy.name} does not go together with {other}, which is in force"
        )
