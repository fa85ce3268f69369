"""Cases of mitigations/host: where each applies, where not and why, where that is unknown."""

from __future__ import annotations

import runs
from case_runs import COPYING, Case, Make, gpu, hosting
from msgspec.structs import replace

from speedprof.profiler.run import Environment, Line, Run

CHECKED = {"anomaly_detection": "True"}
UNCHECKED = {"anomaly_detection": "False"}
MASK = "mask = torch.ones(length, length).to(device)"


def flagged(flags: dict[str, str], **facts: object) -> Run:
    return hosting(environment=Environment(flags=flags), **facts)


def creating(code: str | None = MASK, share: float = 0.2, **facts: object) -> Run:
    line = replace(runs.line(COPYING, "copy", share, "model.py:30"), code=code)
    return gpu({COPYING: 0.25}, lines=[line], **facts)


def asking(*others: Line) -> Run:
    waiting = runs.line("host", "waiting", 0.2)
    return hosting(lines=[waiting, *others], host=runs.host(synchronisation_ms=40.0))


APPLIES: dict[str, Make] = {
    "no-debugging": lambda: flagged(CHECKED),
    "deferred-reading": lambda: hosting(sync_calls=[runs.sync_call()]),
    "create-on-device": creating,
    "rarer-work": lambda: hosting(lines=[runs.line("host", "python", 0.3)]),
    "collect-garbage-less": lambda: hosting(garbage_ms=12.0),
    "rarer-checkpoints": lambda: runs.run(
        {"outside": 0.3}, outside=runs.outside(checkpoint_ms=30)
    ),
    "rarer-evaluation": lambda: runs.run({"outside": 0.3}, outside=runs.outside(evaluation_ms=30)),
}

MISFITS: dict[str, list[Case]] = {
    "no-debugging": [
        (lambda: flagged(UNCHECKED), "no such switch is on"),
        (
            lambda: flagged(UNCHECKED | {"TORCH_DISTRIBUTED_DEBUG": "DETAIL"}),
            "TORCH_DISTRIBUTED_DEBUG does not make this slower",
        ),
        (lambda: flagged(UNCHECKED | {"CUDA_LAUNCH_BLOCKING": "0"}), "no such switch is on"),
    ],
    "deferred-reading": [
        (lambda: hosting(sync_calls=[runs.sync_call(ms_per_step=0.2)]), "only 0.2 ms a step"),
        (lambda: asking(runs.line("compute", "compute", 0.4)), "computes for longer"),
    ],
    "create-on-device": [
        (lambda: creating(device="cpu"), "runs on cpu"),
        (lambda: creating("images = images.to(device)"), "no line was seen"),
        (lambda: creating("x = torch.tensor(values).to(device)"), "no line was seen"),
        (lambda: creating("half = torch.zeros(3).to(torch.float16)"), "no line was seen"),
        (lambda: creating("torch.zeros(3).to(device),"[:-2]), "no line was seen"),
        (lambda: creating(share=0.001), "only 0.1 %"),
    ],
    "rarer-work": [(lambda: hosting(lines=[runs.line("host", "python", 0.01)]), "only 1.0 %")],
    "collect-garbage-less": [(lambda: hosting(garbage_ms=0.5), "only 0.5 %")],
    "rarer-checkpoints": [
        (lambda: runs.run({"outside": 0.3}, outside=runs.outside(other_ms=30)), "no checkpoint")
    ],
    "rarer-evaluation": [
        (lambda: runs.run({"outside": 0.3}, outside=runs.outside(other_ms=30)), "no evaluation")
    ],
}

NOT_MEASURED: dict[str, list[Make]] = {
    "no-debugging": [hosting, lambda: flagged({"CUDA_LAUNCH_BLOCKING": "1"})],
    "deferred-reading": [hosting],
    "create-on-device": [lambda: creating(None), lambda: gpu({COPYING: 0.25})],
    "rarer-work": [hosting],
    "collect-garbage-less": [hosting],
    "rarer-checkpoints": [lambda: runs.run({"outside": 0.3})],
    "rarer-evaluation": [lambda: runs.run({"outside": 0.3})],
}
