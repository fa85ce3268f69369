"""Keep the optimizer and gradients in the host's memory.

Does: moves the optimizer's state and the gradients to the CPU, which makes the update there.
Helps: models that do not fit at all, on one GPU with much host memory and a fast link. For speed
    it pays only where the larger batch saves more than the copies and the CPU's update cost.
Avoid: where several ranks could share the state out instead; hosts short of memory or of cores.
Safety: rounding. The same update, made by another processor.
Place: system. The same training, slower and smaller.
Source: ZeRO-Offload (ATC 2021): models of 13 billion weights on one V100, a matter of size, not of
    speed; NVIDIA's Megatron Bridge documentation: offloading always adds overhead.
"""

from __future__ import annotations

from speedprof.advisor.finding import Finding
from speedprof.advisor.shares import number, percent, size, step_ms
from speedprof.mitigations import facts
from speedprof.mitigations.card import remedy
from speedprof.mitigations.memory.capacity import (
    TREATS,
    capacity,
    largest,
    not_binding,
    room_gain,
)
from speedprof.mitigations.mitigation import Fit, Misfit
from speedprof.profiler.run import Run

NAMES = ("Adam", "AdamW")
# The CPU reads weights, gradients and two states, and writes three of them; that much again is
# assumed to pass a server's memory at 20 GB/s, where no roof of it was measured.
PASSES = 7.0  # over tensors of the weights' size
HOST_GB_PER_S = 20.0
BY_HAND = """\
from torchao.optim import CPUOffloadOptimizer  # pip install torchao
optimizer = CPUOffloadOptimizer(
    model.parameters(), torch.optim.{name}, offload_gradients=True, fused=True, lr=...
)"""


def assess(run: Run, finding: Finding) -> Fit | Misfit:
    hindrance = not_binding(run)
    if hindrance is not None:
        return hindrance
    held, optimizer, free = capacity(run), largest(run), facts.available_bytes(run)
    rate, step = _gb_per_s(run), step_ms(run)
    if held is None or optimizer is None or free is None or not rate or not step:
        return Misfit(reason="the model, host memory or the speed of copies was not measured")
    if optimizer.name not in NAMES:
        return Misfit(reason=f"{optimizer.name} keeps less state than Adam does")
    needed = held.weights + held.gradients + held.states
    if needed > free:
        return Misfit(
            reason=f"the host has {size(free)} of memory free, {size(needed)} are needed"
        )
    copies = (held.gradients + held.weights) / rate / 1e6 / step
    update = PASSES * held.weights / _host_gb_per_s(run) / 1e6 / step
    freed = held.gradients + held.states
    times = held.times(freed)
    gain = room_gain(
        run, finding, times=(times, times), once=(copies + update, copies),
        what="keeping optimizer and gradients in the host's memory",
    )  # fmt: skip
    if isinstance(gain, Misfit):
        return gain
    return Fit(
        reason=f"memory is {percent(held.peak / held.total)} full; {size(freed)} may leave it for "
        f"{percent(copies)} of the step in copies at {number(rate)} GB/s",
        gain=gain,
        by_hand=BY_HAND.format(name=optimizer.name),
    )


def _gb_per_s(run: Run) -> float | None:
    """Return how fast copies are: the roof of pinned ones, or what this run's own reached."""
    pinned = run.roofs.transfers.pinned_gb_per_s if run.roofs and run.roofs.transfers else None
    if pinned is not None:
        return pinned.best
    return run.copies.gb_per_s if run.copies else None


def _host_gb_per_s(run: Run) -> float:
    memory = run.roofs.memory.all_threads_gb_per_s if run.roofs and run.roofs.memory else None
    return memory.best if memory else HOST_GB_PER_S


MITIGATION = remedy(
    "offloading",
    __doc__,
    treats=TREATS,
    assess=assess,
    how="patch",
    conflicts=("fused-optimizer", "eight-bit-optimizer", "adafactor"),
    after=("sharded-training",),
)
