"""Accumulate gradients over as few batches as memory allows.

Does: makes each of the batches of an update larger and takes fewer of them: 4 times 16 samples
    instead of 16 times 4.
Helps: updates over many small batches, each of which launches every operator anew.
Avoid: models with batch norm, whose statistics follow the batch; accumulating where the whole
    batch fits.
Safety: rounding. The same samples in each update, their gradients added up in another order.
Place: system. The same update.
Source: Hugging Face's performance guide: rather 16 batches of 4 than 64 of 1; no isolated
    published figure.
"""

from __future__ import annotations

from speedprof.advisor.finding import Finding
from speedprof.advisor.shares import percent
from speedprof.mitigations import facts
from speedprof.mitigations.card import remedy
from speedprof.mitigations.facts import loader_call
from speedprof.mitigations.gains import ceiling, removing
from speedprof.mitigations.kernel_gains import bounded
from speedprof.mitigations.memory.capacity import FILLED, Capacity, capacity
from speedprof.mitigations.mitigation import Fit, Misfit
from speedprof.profiler.run import Run

SURELY = 0.5  # of what the host does for each batch, as in capacity.py


def assess(run: Run, finding: Finding) -> Fit | Misfit:
    hindrance = _unsuited(run)
    if hindrance is not None:
        return Misfit(reason=hindrance)
    loader, held, hosted = run.training_loader(), capacity(run), run.share("host")
    if loader is None or not loader.batch_size or held is None or hosted is None:
        return Misfit(reason="the batch size, what fills the memory or the phases were not seen")
    count = round(run.batches_per_step or 0)
    times = _times(held, count)
    full = percent(held.peak / held.total)
    if times < 2:
        return Misfit(reason=f"memory is {full} full: batches of twice the size do not fit")
    saved = hosted * (1.0 - 1.0 / times)
    gain = removing(
        SURELY * saved, saved, what=f"host's work for {count} batches, for {count // times} then"
    )
    return Fit(
        reason=f"each update adds up {count} batches of {loader.batch_size}, with the memory "
        f"{full} full: {count // times} of {times * loader.batch_size} fit",
        gain=bounded(gain.low, gain.high, gain.model, most=ceiling(finding.high)),
        parameters={"batch_size": times * loader.batch_size, "batches": count // times},
        by_hand=loader_call(loader, batch_size=times * loader.batch_size)
        + f"\n# and an update after every {count // times} batches, by which the loss is divided",
    )


def _times(held: Capacity, count: int) -> int:
    """Return by how much batches can grow: the largest divisor of their number that fits."""
    kept = held.weights + held.gradients + held.states
    most = (FILLED * held.total - kept) / held.activations
    return max((size for size in range(1, count + 1) if count % size == 0 and size <= most),
               default=1)  # fmt: skip


def _unsuited(run: Run) -> str | None:
    if not facts.is_gpu(run):
        return f"larger batches pay on GPUs, the training runs on {run.device}"
    if run.batches_per_step is None:
        return "how many batches make an update was not measured"
    if round(run.batches_per_step) < 2:
        return "each update takes one batch: there is nothing to take together"
    known = [model.modules for model in run.models if model.modules is not None]
    if not known:
        return "whether the model has batch norms was not recorded"
    normed = any("BatchNorm" in name for modules in known for name in modules)
    return "the statistics of its batch norms would change with the batch" if normed else None


MITIGATION = remedy(
    "gradient-accumulation",
    __doc__,
    treats=(
        ("host", "launch"),
        ("host", "python"),
        ("compute", "arithmetic"),
        ("compute", "memory_bandwidth"),
    ),
    assess=assess,
    how="patch",
)
