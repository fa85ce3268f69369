"""Give each GPU a process of its own.

Does: replaces `DataParallel`, one process with a thread per GPU, by `DistributedDataParallel`, one
    process per GPU started by torchrun.
Helps: every model inside `DataParallel`: it copies the model to all GPUs in each step, gathers the
    outputs on one of them, and all its threads share one Python interpreter.
Avoid: nothing but a single visible GPU, where neither is needed.
Safety: rounding. Gradients are averaged over ranks instead of summed on one GPU; batch statistics
    are per GPU in both. Give each rank 1 / ranks of the batch, and a DistributedSampler.
Place: system. The same training, spread over processes.
Source: PyTorch performance tuning guide: "much better performance"; DDP paper (VLDB 2020): nearly
    linear to 256 GPUs. No figure isolates the change.
"""

from __future__ import annotations

from speedprof.advisor.finding import Finding
from speedprof.advisor.shares import percent
from speedprof.mitigations.card import remedy
from speedprof.mitigations.communication_gains import narrowed
from speedprof.mitigations.gains import ceiling
from speedprof.mitigations.mitigation import Fit, Misfit
from speedprof.profiler.run import Run

LEAST = 0.3  # of what the finding costs, assumed: DDP exchanges gradients, too, and launches
BY_HAND = """\
# started by: torchrun --nproc-per-node={gpus} train.py
torch.distributed.init_process_group("nccl")
device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
model = torch.nn.parallel.DistributedDataParallel(model.to(device), device_ids=[device.index])
sampler = torch.utils.data.DistributedSampler(dataset)  # and sampler.set_epoch(epoch)"""


def assess(run: Run, finding: Finding) -> Fit | Misfit:
    if not run.models:
        return Misfit(reason="how the model is spread over GPUs was not seen")
    if not any(model.wrapped == "DataParallel" for model in run.models):
        return Misfit(reason="no model was seen inside DataParallel")
    gpus = max((len(machine.gpus) for machine in run.machines), default=0)
    if gpus == 1:
        return Misfit(reason="there is 1 GPU: no wrapper is needed")
    return Fit(
        reason=f"DataParallel copies the model in each step and shares one interpreter: "
        f"{percent(finding.share)} of the step go there",
        gain=narrowed(
            ceiling(LEAST * finding.low),
            ceiling(finding.high),
            f"1 / (1 - share): {100 * LEAST:.0f} to 100 % of {percent(finding.share)} go",
        ),
        by_hand=BY_HAND.format(gpus=gpus or "gpu"),
    )


MITIGATION = remedy(
    "ddp-instead-of-dp",
    __doc__,
    treats=(("communication", "transfer"), ("host", "launch"), ("host", "python")),
    assess=assess,
)
