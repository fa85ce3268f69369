"""Shares of the step: what a cause costs, with the interval of the phase that it is a part of."""

from __future__ import annotations

from dataclasses import dataclass

from speedprof.advisor.finding import Finding
from speedprof.profiler.run import Line, Run

# Below this share of the step no remedy repays its risk. torch-tb-profiler advises from 5 % of
# loading, XProf calls 5 % "moderately input-bound", TraceLens flags copies and exposed
# communication from 5 %.
FINDING_SHARE = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A part of one phase, as a share of the step's wall time."""

    phase: str
    share: float
    low: float
    high: float
    ms: float
    step_ms: float

    @property
    def text(self) -> str:
        """Say it with its numbers: "12.3 of 40.1 ms (31 %)"."""
        return f"{number(self.ms)} of {number(self.step_ms)} ms ({percent(self.share)})"


def step_ms(run: Run) -> float | None:
    """Return the mean step in milliseconds that the phases add up to, None where none was seen."""
    if run.phases:
        return sum(phase.ms for phase in run.phases.values())
    return run.step_ms.mean_ms if run.step_ms else None


def part(run: Run, phase: str, fraction: float) -> Part | None:
    """Return `fraction` (0..1) of the phase; None where phases were not measured."""
    mean = step_ms(run)
    if not run.phases or not mean or mean <= 0:
        return None
    whole = run.phases[phase]
    scale = min(max(fraction, 0.0), 1.0)
    return Part(
        phase=phase,
        share=whole.share * scale,
        low=whole.low * scale,
        high=whole.high * scale,
        ms=whole.ms * scale,
        step_ms=mean,
    )


def worth_naming(run: Run, phase: str, fraction: float | None) -> Part | None:
    """Return the part where it is known and costs at least `FINDING_SHARE` of the step."""
    if fraction is None:
        return None
    found = part(run, phase, fraction)
    return found if found and found.share >= FINDING_SHARE else None


def fraction(amount: float | None, of: float | None) -> float | None:
    """Return amount / of where both were measured and `of` is more than nothing."""
    if amount is None or of is None or of <= 0:
        return None
    return min(max(amount / of, 0.0), 1.0)


def finding(
    cost: Part, rule: str, cause: str | None, *, evidence: str, where: str | None = None
) -> Finding:
    """Make the finding that says what this part of a phase is due to."""
    return Finding(
        rule=rule,
        phase=cost.phase,
        cause=cause,
        share=cost.share,
        low=cost.low,
        high=cost.high,
        evidence=evidence,
        where=where,
    )


def top_line(run: Run, phase: str, *kinds: str) -> Line | None:
    """Return the costliest source line of the phase, of these kinds where some are given."""
    lines = (
        line for line in run.lines if line.phase == phase and (not kinds or line.kind in kinds)
    )
    return max(lines, key=lambda line: line.share, default=None)


def at(where: str | None) -> str:
    """Return " at train.py:41" where the place is known, otherwise nothing."""
    return f" at {where}" if where else ""


def percent(share: float) -> str:
    """Show a share with one digit below ten per cent and none above."""
    return f"{100 * share:.0f} %" if share >= 0.095 else f"{100 * share:.1f} %"


def number(value: float) -> str:
    """Show a quantity with three significant digits."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.3g}"


def plenty(count: float, noun: str) -> str:
    """Show a count with its noun: "1 worker", "2 workers"."""
    return f"{count:g} {noun}" if count == 1 else f"{count:g} {noun}s"


def size(amount: float) -> str:
    """Show bytes in the unit that a person would use."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if amount >= scale:
            return f"{number(amount / scale)} {unit}"
    return f"{amount:.0f} bytes"
