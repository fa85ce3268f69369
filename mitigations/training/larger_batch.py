"""Train with larger batches.

Does: doubles the batch of each device, and with it the global one: each launch does twice the
    work, each exchange serves twice the samples. (Larger per device and larger over all are one
    remedy here.)
Helps: steps whose time does not depend on the batch: launching, Python, communication.
Avoid: full device memory; devices that are busy already; without adapting the learning rate.
Safety: changes_training. Fewer, different updates: the learning rate has to follow (linear rule,
    with warm-up; LARS or LAMB for very large batches), quality must be checked.
Place: replace x optimization. Another batch size is another training.
Source: PyTorch CUDA graphs post: host cost is per operator, so it vanishes at large batches;
    linear rule (Goyal et al., 2017); LAMB (1904.00962): BERT in 76 minutes instead of 3 days, with
    batches of 32k on a TPUv3 pod; Nado et al. (2102.06356): tuned Nesterov and Adam match LARS and
    LAMB.
"""

from __future__ import annotations

from speedprof.advisor.finding import Finding
from speedprof.advisor.shares import percent
from speedprof.mitigations.card import remedy
from speedprof.mitigations.facts import loader_call
from speedprof.mitigations.gains import ceiling
from speedprof.mitigations.mitigation import Fit, Gain, Misfit
from speedprof.profiler.run import Run

ROOM = 0.45  # of device memory in use at most: activations double, weights do not


def assess(run: Run, finding: Finding) -> Fit | Misfit:
    loader = run.training_loader()
    if loader is None or not loader.batch_size:
        return Misfit(reason="the batch size was not seen")
    fullest = [
        rank.peak_device_bytes / rank.device_memory_bytes
        for rank in run.ranks
        if rank.peak_device_bytes and rank.device_memory_bytes
    ]
    if fullest and max(fullest) > ROOM:
        return Misfit(reason=f"device memory is {percent(max(fullest))} full already")
    size = 2 * loader.batch_size
    return Fit(
        reason=f"{percent(finding.share)} of the step stay as they are in a larger batch",
        gain=Gain(
            low=1.0,
            high=ceiling(finding.share / 2),
            model=f"per sample: twice the batch saves up to half of {percent(finding.share)}",
        ),
        parameters={"batch_size": size},
        by_hand=loader_call(loader, batch_size=size)
        + "\n# and scale the learning rate, with warm-up",
    )


MITIGATION = remedy(
    "larger-batch",
    __doc__,
    treats=(("host", "launch"), ("host", "python"), ("communication", "transfer")),
    assess=assess,
)
