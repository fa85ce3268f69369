"""Numbers and names as a person reads them; the same words in the terminal and on the page."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from speedprof.mitigations.mitigation import Gain, Mitigation
    from speedprof.profiler.run import Phase, Run, StepTimes

DASH = "–"  # not measured; its reason is listed under "not measured"

LONGEST_NAME = 120
PHASE_NAMES = {
    "data_loading": "data loading",
    "host_to_device": "host to device",
    "compute": "compute",
    "communication": "communication",
    "host": "host",
    "outside": "outside the step",
}
SAFETY_WORDS = {
    "exact": "same numbers",
    "reseeded": "other random draws",
    "rounding": "other rounding",
    "changes_training": "changes training",
}
HOW_WORDS = {
    "automatic": "by --apply",
    "patch": "lines to write",
    "advice": "by decision",
}


def number(value: float) -> str:
    """Give three significant digits without an exponent: 0.042, 4.21, 42.1, 4,210."""
    size = abs(value)
    if size >= 100 or value == 0:
        return f"{value:,.0f}"
    if size >= 10:
        return f"{value:.1f}"
    return f"{value:.2f}" if size >= 0.1 else f"{value:.2g}" if size >= 0.001 else "<0.001"


def ms(value: float | None) -> str:
    """Say milliseconds; ten seconds and more in seconds."""
    if value is None:
        return DASH
    return f"{number(value / 1000)} s" if abs(value) >= 10_000 else f"{number(value)} ms"


def seconds(value: float | None) -> str:
    if value is None:
        return DASH
    if value < 120:
        return f"{number(value)} s"
    whole = round(value)
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {whole % 60:02d} s"


def percent(share: float | None) -> str:
    """Say a share (0..1) in whole percent; a little is never shown as nothing."""
    if share is None:
        return DASH
    if 0 < share < 0.005:
        return "<1 %"
    return f"{share * 100:.0f} %"


def spread(low: float, high: float) -> str:
    """Say half the width of an interval of shares in points: "± 2"."""
    points = (high - low) * 50
    return f"± {points:.1f}" if 0 < points < 0.95 else f"± {points:.0f}"


def quantity(value: float | None, unit: str) -> str:
    """Say a decimal multiple of a unit: 1,280,000 B is "1.28 MB"."""
    if value is None:
        return DASH
    for prefix, factor in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if abs(value) >= factor:
            return f"{number(value / factor)} {prefix}{unit}"
    return f"{number(value)} {unit}"


def count(value: float | None) -> str:
    if value is None:
        return DASH
    return f"{value:,}" if isinstance(value, int) else number(value)


def yes(value: bool | None) -> str:
    return DASH if value is None else "yes" if value else "no"


def gain(value: Gain | None) -> str:
    """Say a predicted ratio: "1.4–2.1× faster"."""
    if value is None:
        return "gain not predictable from this run"
    low, high = ratio(value.low), ratio(value.high)
    return f"{high}× faster" if low == high else f"{low}–{high}× faster"


def ratio(value: float) -> str:
    return f"{value:.2f}" if value < 1.2 else f"{value:.1f}" if value < 10 else f"{value:.0f}"


def place(mitigation: Mitigation) -> str:
    """Name a remedy's place in the taxonomy: "system" or "restrict × data"."""
    if mitigation.action is None or mitigation.component is None:
        return "system"
    return f"{mitigation.action} × {mitigation.component}"


def title(mitigation: Mitigation) -> str:
    """Return the remedy's name as a sentence: the first line of its card."""
    lines = mitigation.card.strip().splitlines()
    return lines[0].rstrip(".") if lines else mitigation.name


def step_line(run: Run) -> str:
    """Say in one line how many steps there were and how long they took."""
    steps = f"{count(run.steps)} {'step' if run.steps == 1 else 'steps'} on {run.device}"
    parts = [f"recorded trace: {steps}" if run.kind == "trace" else steps]
    if run.step_ms is not None:
        times = run.step_ms
        parts.append(ms(times.median_ms) + (_range(times) if times.count > 1 else ""))
        if times.samples_per_s is not None:
            parts.append(f"{number(times.samples_per_s)} samples/s")
    if run.world_size > 1:
        seen = len(run.ranks)
        some = f"{seen} of " if run.kind == "trace" and 0 < seen < run.world_size else ""
        parts.append(f"{some}{run.world_size} ranks")
    return " · ".join(parts)


UNEVEN = 0.1  # from here the mean, which the phases add up to, is said beside the median


def _range(times: StepTimes) -> str:
    """Say from where to where most steps are, in one unit, and the mean where it is another."""
    low, high = ms(times.p10_ms), ms(times.p90_ms)
    low = low if low.rpartition(" ")[2] != high.rpartition(" ")[2] else low.rpartition(" ")[0]
    uneven = abs(times.mean_ms - times.median_ms) > UNEVEN * times.median_ms
    mean = f", {ms(times.mean_ms)} on average" if uneven else ""
    return f" each ({low}–{high}{mean})"


def ending(run: Run) -> str | None:
    """Say how the run ended where that was not by itself and well."""
    if run.kind == "trace":
        return None  # a recording has no end of its own
    if run.stopped_by_us:
        return "stopped at a step boundary, as asked"
    if not run.finished or run.exit_status is None:
        return "the run did not finish; this is what was recorded until then"
    if run.exit_status < 0:
        return (
            f"the run was ended by signal {-run.exit_status}; this is what was recorded until then"
        )
    if run.exit_status:
        return (
            f"the script ended with status {run.exit_status}; this is what was recorded until then"
        )
    return None


def unseen_phases(run: Run) -> frozenset[str]:
    """Return the phases that are zero only because nobody could look."""
    gaps = {gap.what for gap in run.not_measured}
    phases = run.phases or {}
    return frozenset(name for name, phase in phases.items() if name in gaps and not phase.share)


def shortened(name: str) -> str:
    """Return the beginning of a name: those of C++ templates may be pages long."""
    return name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - 1] + "…"


def interval(phase: Phase) -> str:
    return f"{percent(phase.low)} to {percent(phase.high)}"
