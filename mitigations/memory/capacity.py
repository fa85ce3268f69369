"""What fills a device's memory, and what a larger batch would gain where some of it is freed.

Freed memory makes no step faster. It pays where a larger batch then spreads what a step costs
however many samples it has: launching, Python, exchanging gradients, the update.
"""

from __future__ import annotations

from dataclasses import dataclass

from speedprof.advisor.finding import Finding
from speedprof.advisor.shares import fraction, percent, step_ms
from speedprof.mitigations import facts
from speedprof.mitigations.gains import ceiling
from speedprof.mitigations.kernel_gains import bounded
from speedprof.mitigations.mitigation import Gain, Misfit
from speedprof.profiler.run import Optimizer, Run

# Of device memory, allocated at its fullest. torch-tb-profiler and gpuprof warn from 0.9; what
# fragments hold and what cuBLAS and NCCL take for themselves is on top of what is allocated.
FULL = 0.85
FILLED = 0.9  # to which a larger batch may fill it
WORTH = 1.03  # the catalogue's own limit
SURELY = 0.5  # of what seems the same for any batch
LEAST_ACTIVATIONS = 0.05  # of the peak: the batch itself and workspaces are there at least
# What a full memory makes worse: the allocator's search for room, and what a larger batch would
# spread over more samples. A full memory by itself is a finding on compute, without a cause.
TREATS = (
    ("compute", "arithmetic"),
    ("compute", "memory_bandwidth"),
    ("host", "allocator"),
    ("host", "launch"),
    ("communication", "transfer"),
)
STATES = {  # tensors of the size of the weights that the optimizer keeps
    "Adam": 2, "AdamW": 2, "NAdam": 2, "RAdam": 2, "Adamax": 2, "Adagrad": 1, "RMSprop": 1,
    "SGD": 1, "Adafactor": 0,
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Capacity:
    """The bytes of one device at its fullest moment, by what they hold."""

    total: int
    peak: int
    weights: float
    gradients: float
    states: float  # of the optimizer

    @property
    def activations(self) -> float:
        """Return what grows with the batch: the rest of the peak."""
        kept = self.weights + self.gradients + self.states
        return max(self.peak - kept, LEAST_ACTIVATIONS * self.peak)

    def times(self, freed: float) -> float:
        """Return by how much the batch may grow in the memory that was freed."""
        return 1.0 + max(freed, 0.0) / self.activations


def fullness(run: Run) -> float | None:
    """Return how full the fullest rank's device was (0..1), None where that was not recorded."""
    known = [
        rank.peak_device_bytes / rank.device_memory_bytes
        for rank in run.ranks
        if rank.peak_device_bytes and rank.device_memory_bytes
    ]
    return max(known, default=None)


def not_binding(run: Run) -> Misfit | None:
    """Return why freeing memory would gain nothing, None where memory binds."""
    full = fullness(run)
    if not facts.is_gpu(run):
        return Misfit(reason=f"device memory belongs to GPUs, the training runs on {run.device}")
    if full is None:
        return Misfit(reason="how full the device's memory is was not recorded")
    if full < FULL:
        return Misfit(reason=f"the device's memory is only {percent(full)} full: it does not bind")
    return None


def largest(run: Run) -> Optimizer | None:
    """Return the optimizer of most weights."""
    return max(run.optimizers, key=lambda optimizer: optimizer.elements or 0, default=None)


def capacity(run: Run) -> Capacity | None:
    """Return what fills the fullest device, None where model or optimizer were not seen."""
    optimizer = largest(run)
    ranks = [rank for rank in run.ranks if rank.peak_device_bytes and rank.device_memory_bytes]
    if not ranks or not run.models or optimizer is None or not optimizer.elements:
        return None
    fullest = max(ranks, key=lambda r: (r.peak_device_bytes or 0) / (r.device_memory_bytes or 1))
    model = max(run.models, key=lambda one: one.bytes)
    each = model.bytes / max(model.parameters, 1)
    return Capacity(
        total=fullest.device_memory_bytes or 0,
        peak=fullest.peak_device_bytes or 0,
        weights=float(model.bytes),
        gradients=each * optimizer.elements,
        states=each * optimizer.elements * STATES.get(optimizer.name, 1),
    )


def fixed_share(run: Run) -> float | None:
    """Return the share of the step that stays the same in a larger batch.

    The host (but its waiting for the device), exposed communication and the update.
    """
    if not run.phases:
        return None
    hosted = run.phases["host"].share
    if run.host is not None:
        whole = sum(getattr(run.host, name) for name in run.host.__struct_fields__)
        hosted *= 1.0 - (fraction(run.host.synchronisation_ms, whole) or 0.0)
    updating = fraction(run.compute.optimizer_ms if run.compute else None, step_ms(run)) or 0.0
    return min(hosted + run.phases["communication"].share + updating, 1.0)


def larger_batch(fixed: float, times: float, *, each: float = 0.0, once: float = 0.0) -> float:
    """Return old / new time per sample of a batch `times` as large.

    `each` grows with the samples and `once` does not; both are new costs, as shares of today's
    step.
    """
    return 1.0 / max((1.0 - fixed) + each + (fixed + once) / max(times, 1.0), 0.01)


def room_gain(
    run: Run,
    finding: Finding,
    *,
    times: tuple[float, float],
    each: tuple[float, float] = (0.0, 0.0),
    once: tuple[float, float] = (0.0, 0.0),
    what: str,
) -> Gain | Misfit:
    """Return what the freed room is worth, or that it is not; pairs: careful, hopeful."""
    fixed = fixed_share(run)
    if fixed is None:
        return Misfit(reason="what of the step stays the same in a larger batch was not measured")
    low = larger_batch(SURELY * fixed, times[0], each=each[0], once=once[0])
    high = larger_batch(fixed, times[1], each=each[1], once=once[1])
    grown = (
        f"{times[0]:.2f} to {times[1]:.2f} times"
        if times[0] < times[1]
        else f"{times[0]:.2f} times"
    )
    costs = [
        f"{100 * min(cost):+.0f} to {100 * max(cost):+.0f} % of the step {words}"
        for cost, words in ((each, "for each batch of today's size"), (once, "once"))
        if cost != (0.0, 0.0)
    ]
    model = (
        f"per sample: {what} makes room for {grown} the batch, which spreads "
        f"{100 * SURELY * fixed:.0f} to {100 * fixed:.0f} % of the step"
    )
    gain = bounded(min(low, high), max(low, high), ", and ".join([model, *costs]),
                   most=ceiling(finding.high))  # fmt: skip
    if gain.high < WORTH:
        change = 100 * (gain.high - 1.0)
        return Misfit(
            reason=f"{what} makes room for {grown} the batch, and that changes the time of a "
            f"sample by {change:.1f} % at best"
        )
    return gain
