"""The device is busy moving data through its memory.

Does: says that the step is spent in operators that read and write more than they compute.
Why: fusing operators and smaller types help, fewer multiplications do not.
Evidence: the compute phase and its operators by kind (elementwise, normalisation, reduction,
    optimizer).
Threshold: half of the step, as for arithmetic; it is the verdict from 75 %.
"""

from __future__ import annotations

from speedprof.advisor.finding import Finding
from speedprof.advisor.rules.arithmetic_bound import bound_by
from speedprof.profiler.run import Run

NAME = "bandwidth-bound"


def check(run: Run) -> Finding | None:
    return bound_by(run, "memory_bandwidth", NAME)
