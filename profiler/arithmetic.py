"""How much of the device's arithmetic a training uses: FLOPs against time and against the roof.

Model FLOPs utilisation as of Chowdhery et al. 2022 (PaLM, appendix B), with the FLOPs that were
launched in place of those of a formula: the time that they would take at the roof of their own
precision, as part of the step's wall time.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import msgspec

from speedprof.profiler import record_facts as facts
from speedprof.profiler.device_peaks import device_peaks
from speedprof.profiler.operators import ARITHMETIC
from speedprof.profiler.run import Arithmetic, ArithmeticKind, NotMeasured

if TYPE_CHECKING:
    from collections.abc import Sequence

    from speedprof.profiler import reduced
    from speedprof.profiler.device_peaks import DevicePeaks
    from speedprof.profiler.ranks import Trained

ENOUGH = 0.5  # of the time of products; with FLOPs for less, the rest could say anything
NO_SHAPES = (
    "no operator shapes were recorded; record a trace with "
    "torch.profiler.profile(record_shapes=True) and `speedprof analyze` it"
)
NO_ROOF = "the device has no published roof that is known here"


def of_ranks(parts: Sequence[Trained]) -> tuple[Arithmetic | None, NotMeasured | None]:
    """Return what the ranks' windows tell, by the roof of the first one's device."""
    windows = [window for part in parts for window in part.windows]
    name = _device_name(parts[0]) if parts else None
    steps_ms = [part.rank.step_ms.mean_ms for part in parts if part.rank.step_ms is not None]
    if not windows or not steps_ms or parts[0].rank.device == "cpu":
        return None, None
    peaks, mean_ms = device_peaks(name), sum(steps_ms) / len(steps_ms)
    found, why = arithmetic(windows, peaks, step_ms=mean_ms)
    if why is None:
        return found, None
    if why == NO_ROOF and name is None:
        why = "the trace does not name the device"
    return found, NotMeasured(what="arithmetic" if found is None else "MFU", why=why)


def of_peak(counted: Arithmetic | None) -> dict[str, float]:
    """Return what part of its roof each kind reaches, where most of its FLOPs are known."""
    if counted is None:
        return {}
    return {
        name: kind.of_peak
        for name, kind in counted.kinds.items()
        if kind.of_peak is not None and kind.counted_ms >= ENOUGH * kind.ms
    }


def _device_name(part: Trained) -> str | None:
    process = part.record.last("process", facts.Process)
    told = part.record.last("device", facts.Device)
    if told is not None and told.device_name:
        return told.device_name
    return process.device_name if process else None


def arithmetic(
    windows: Sequence[reduced.ReducedWindow], peaks: DevicePeaks | None, *, step_ms: float
) -> tuple[Arithmetic | None, str | None]:
    """Return what is known, and why something is not: nothing at all, or no MFU.

    `peaks` is the device's roof, published or measured, None where it is not known. `step_ms`
    is the wall time of a step.
    """
    entries = _told([entry for window in windows for entry in window.arithmetic])
    flops = sum(entry.flops for entry in entries)
    if not flops:
        return None, NO_SHAPES
    coverage = _coverage(entries)
    if coverage < ENOUGH:
        return None, (
            "not enough recorded: the shapes tell the FLOPs of "
            f"{coverage:.0%} of the time of matrix products, convolutions and attention"
        )
    steps = sum(len(window.cube) for window in windows)
    precisions = _sum(entries, "precision")
    counted = sum(entry.counted_ns for entry in entries)
    found = Arithmetic(
        flops=flops / steps,
        tflops_per_s=flops / counted / 1e3,
        coverage=coverage,
        precisions={name: amount / steps for name, amount in precisions.most_common() if amount},
        kinds=_kinds(entries, peaks, steps),
    )
    rates, why = _rates(precisions, peaks)
    if why is not None or peaks is None:
        return found, why
    ideal_ms = sum(precisions[name] / steps / rate / 1e9 for name, rate in rates.items())
    roof = {"peaks": rates, "device": peaks.device, "source": peaks.source}
    return msgspec.structs.replace(found, mfu=ideal_ms / step_ms, **roof), None


def _told(entries: list[reduced.Arithmetic]) -> list[reduced.Arithmetic]:
    """Give what has no precision of its own that in which most FLOPs were done."""
    known = _sum([entry for entry in entries if entry.precision], "precision")
    usual = next((name for name, amount in known.most_common(1) if amount), "")
    return [
        entry if entry.precision else msgspec.structs.replace(entry, precision=usual)
        for entry in entries
    ]


def _sum(entries: Sequence[reduced.Arithmetic], by: str) -> Counter[str]:
    summed: Counter[str] = Counter()
    for entry in entries:
        summed[getattr(entry, by)] += entry.flops
    return summed


def _coverage(entries: Sequence[reduced.Arithmetic]) -> float:
    products = [entry for entry in entries if entry.kind in ARITHMETIC]
    whole = sum(entry.ns for entry in products)
    return sum(entry.counted_ns for entry in products) / whole if whole else 0.0


def _rates(
    precisions: Counter[str], peaks: DevicePeaks | None
) -> tuple[dict[str, float], str | None]:
    """Return the roof of each precision that was used, or why there is none."""
    used = [name for name, amount in precisions.items() if amount]
    if peaks is None:
        return {}, NO_ROOF
    if "" in used:
        return {}, "the names of its kernels do not tell in which precision they multiply"
    missing = [name for name in used if name not in peaks.tflops]
    if missing:
        return {}, f"the {peaks.device} has no published roof for {missing[0]}"
    return {name: peaks.tflops[name] for name in used}, None


def _kinds(
    entries: Sequence[reduced.Arithmetic], peaks: DevicePeaks | None, steps: int
) -> dict[str, ArithmeticKind]:
    names = sorted({entry.kind for entry in entries}, key=lambda name: -_ns(entries, name))
    return {name: _kind([e for e in entries if e.kind == name], peaks, steps) for name in names}


def _ns(entries: Sequence[reduced.Arithmetic], kind: str) -> int:
    return sum(entry.ns for entry in entries if entry.kind == kind)


def _kind(
    entries: Sequence[reduced.Arithmetic], peaks: DevicePeaks | None, steps: int
) -> ArithmeticKind:
    counted, flops = sum(e.counted_ns for e in entries), sum(e.flops for e in entries)
    rates = {} if peaks is None else peaks.tflops
    ideal = sum(e.flops / rates[e.precision] / 1e3 for e in entries if e.precision in rates)
    known = counted > 0 and all(e.precision in rates for e in entries if e.flops)
    return ArithmeticKind(
        ms=sum(entry.ns for entry in entries) / steps / 1e6,
        counted_ms=counted / steps / 1e6,
        flops=flops / steps,
        tflops_per_s=flops / counted / 1e3 if counted else 0.0,
        of_peak=ideal / counted if known else None,
    )
