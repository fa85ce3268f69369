"""Where each remedy applies, where it does not and why, and where that is not known."""

from __future__ import annotations

import remedies_communication
import remedies_compute
import remedies_copies
import remedies_host
import remedies_loading
import remedies_memory
import remedies_training
import runs
from case_runs import (
    Case,
    Make,
    gpu,
    hosting,
)

from speedprof.profiler.run import Environment

APPLIES: dict[str, Make] = {
    "deferred-reading": lambda: hosting(sync_calls=[runs.sync_call()]),
    "rarer-work": lambda: hosting(lines=[runs.line("host", "python", 0.3)]),
    "collect-garbage-less": lambda: hosting(garbage_ms=12.0),
    "expandable-segments": lambda: gpu({"host": 0.3}),
    "rarer-checkpoints": lambda: runs.run(
        {"outside": 0.3}, outside=runs.outside(checkpoint_ms=30)
    ),
    "rarer-evaluation": lambda: runs.run({"outside": 0.3}, outside=runs.outside(evaluation_ms=30)),
}

MISFITS: dict[str, list[Case]] = {
    "deferred-reading": [],
    "rarer-work": [],
    "collect-garbage-less": [(lambda: hosting(garbage_ms=0.5), "only 0.5 %")],
    "expandable-segments": [
        (hosting, "runs on cpu"),
        (
            lambda: gpu(
                {"host": 0.3},
                environment=Environment(
                    flags={"PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True"}
                ),
            ),
            "already",
        ),
    ],
    "rarer-checkpoints": [],
    "rarer-evaluation": [],
}

NOT_MEASURED: dict[str, list[Make]] = {
    "deferred-reading": [hosting],
    "rarer-work": [hosting],
    "collect-garbage-less": [hosting],
    "expandable-segments": [],
    "rarer-checkpoints": [lambda: runs.run({"outside": 0.3})],
    "rarer-evaluation": [lambda: runs.run({"outside": 0.3})],
}

for _folder in (
    remedies_loading,
    remedies_copies,
    remedies_compute,
    remedies_host,
    remedies_memory,
    remedies_communication,
    remedies_training,
):
    APPLIES |= _folder.APPLIES
    MISFITS |= _folder.MISFITS
    NOT_MEASURED |= _folder.NOT_MEASURED
