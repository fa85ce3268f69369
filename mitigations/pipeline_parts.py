"""The parts of a step that remedies act on.

Of a phase these are what each finding explains, of computing the kinds of kernels. Two remedies
for different parts of a phase do not get in each other's way; two for the same part act one after
the other on what remains of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from speedprof.advisor.shares import step_ms
from speedprof.profiler.run import PHASES, Run

if TYPE_CHECKING:
    from speedprof.mitigations.catalogue import Advice

REST = ""  # the part of a phase that no finding explains
COMPUTE = "compute"
PRODUCTS = ("matmul", "convolution", "attention")
STREAMS = ("elementwise", "normalisation", "reduction", "other")
# Which kernels a remedy makes faster; one that is not here acts on all of its phase.
KERNELS: dict[str, tuple[str, ...]] = {
    "tf32": ("matmul", "convolution"),
    "bf16-autocast": PRODUCTS,
    "channels-last": ("convolution", "normalisation"),
    "compile-model": STREAMS,
    "fused-optimizer": ("optimizer",),
    "cudnn-benchmark": ("convolution",),
    "low-precision-norm": ("normalisation",),
    "padded-dimensions": ("matmul", "attention"),
    "fused-attention": ("reduction", "elementwise", "matmul"),
}

Parts = dict[str, float]  # a part's name -> ms a step


def parts_of(run: Run, advice: Sequence[Advice]) -> dict[str, Parts]:
    """Return each phase in parts that add up to it, ms a step; phases must have been measured."""
    now = step_ms(run) or 0.0
    phases = run.phases or {}
    told = {name: phases[name].ms if name in phases else 0.0 for name in PHASES}
    found = {
        name: _found(told[name], [one for one in advice if one.finding.phase == name], now)
        for name in PHASES
    }
    kernels = _kernels(run, told[COMPUTE])
    return found | {COMPUTE: kernels} if kernels else found


def names(advice: Advice, parts: Parts) -> tuple[str, ...]:
    """Return the parts of its phase that a remedy acts on; all of them where nothing tells."""
    kernels = KERNELS.get(advice.mitigation.name, ())
    told = tuple(name for name in (*kernels, advice.finding.rule) if name in parts)
    return told or tuple(parts)


def without(parts: Parts, acted_on: Sequence[str], freed_ms: float, *, of: Parts) -> Parts:
    """Return parts after a remedy that, alone, frees so much of those `of` the step as it was.

    It takes the same fraction of what other remedies have left. Where the parts are smaller than
    what the remedy frees, it acts on all of the phase.
    """
    if freed_ms > sum(of[name] for name in acted_on):
        acted_on = tuple(parts)
    whole = sum(of[name] for name in acted_on)
    if whole <= 0:
        return parts
    kept = 1.0 - min(freed_ms / whole, 1.0)
    return {name: ms * (kept if name in acted_on else 1.0) for name, ms in parts.items()}


def _found(whole: float, advice: Sequence[Advice], now: float) -> Parts:
    """Return a phase by what findings explain of it; one part where they overlap."""
    parts = {one.finding.rule: one.finding.share * now for one in advice}
    rest = whole - sum(parts.values())
    if rest < -1e-9 * max(whole, 1.0):
        return {REST: whole}
    return parts | {REST: max(rest, 0.0)}


def _kernels(run: Run, whole: float) -> Parts:
    """Return computing by the kind of its kernels, nothing where that was not measured."""
    kinds = run.compute.kinds if run.compute is not None else {}
    total = sum(kinds.values())
    return {name: whole * ms / total for name, ms in kinds.items()} if total > 0 else {}
