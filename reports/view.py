"""What every report shows: the facts, what they mean and what to do about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from speedprof.advisor.judgement import Judgement
from speedprof.profiler.ceilings import Ceiling, ceilings
from speedprof.profiler.run import Run

if TYPE_CHECKING:
    from speedprof.mitigations.catalogue import Advice
    from speedprof.mitigations.plans import Outlook


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """One run, judged and advised on; reports only say it, they conclude nothing."""

    run: Run
    judgement: Judgement
    advice: tuple[Advice, ...]  # best first
    ceilings: Mapping[str, Ceiling] = field(default_factory=dict)  # of each stall, by phase
    outlook: Outlook | None = None  # what comes after the remedies, and the plan made of them


def of(run: Run) -> View:
    """Judge a run and look for its remedies."""
    from speedprof.advisor.judgement import judge
    from speedprof.mitigations.catalogue import advise
    from speedprof.mitigations.plans import outlook

    judgement = judge(run)
    advice = advise(run, judgement)
    return View(
        run=run,
        judgement=judgement,
        advice=advice,
        ceilings=ceilings(run),
        outlook=outlook(run, advice),
    )
