"""The device waits for the host to launch its next operator.

Does: says how much of the step goes into dispatching operators to an idle device.
Why: many small operators cost more to start than to run; fusing, graphs or larger batches help.
Evidence: the device is idle while the training thread is inside operators or launch calls.
Threshold: 5 % of the step (gpuprof warns from 10 %, XProf from 3 % and 15 %).
"""

from __future__ import annotations

from speedprof.advisor import circumstances
from speedprof.advisor.finding import Finding
from speedprof.advisor.shares import Part, finding, fraction, number, top_line, worth_naming
from speedprof.profiler.run import Host, Run

NAME = "launch-bound"
WHOLE_FROM = 10  # operators; of so many a tenth of one says nothing


def host_part(run: Run, field: str) -> Part | None:
    """Return one of the four parts of the host phase, None where unknown or small."""
    if run.host is None:
        return None
    total = sum(getattr(run.host, name) for name in Host.__struct_fields__)
    return worth_naming(run, "host", fraction(getattr(run.host, field), total))


def check(run: Run) -> Finding | None:
    cost = host_part(run, "launch_ms")
    if cost is None:
        return None
    operators = run.compute.operators_per_step if run.compute else None
    many = f"{_operators(operators)} a step: " if operators else ""
    line = top_line(run, "host", "launch")
    around = circumstances.joined(circumstances.tiny(run))
    evidence = f"{many}launching work on an idle device takes {cost.text} of each step{around}"
    return finding(cost, NAME, "launch", evidence=evidence, where=line.where if line else None)


def _operators(count: float) -> str:
    if count == 1:
        return "1 operator"
    return f"{round(count):,} operators" if count >= WHOLE_FROM else f"{number(count)} operators"
