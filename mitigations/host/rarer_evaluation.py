"""Evaluate less often, on fewer samples, and without building a graph.

Does: evaluates every so many epochs or on a fixed subset, under `torch.inference_mode()`, in
    larger batches.
Helps: evaluation sets that are large beside the training between two evaluations.
Avoid: early stopping or schedules that need each value.
Safety: exact. The weights do not depend on how often they are evaluated, unless a schedule does.
Place: system. The trained program stays.
Source: PyTorch performance tuning guide (disable gradients in evaluation); no isolated published
    figure.
"""

from __future__ import annotations

from speedprof.advisor.finding import Finding
from speedprof.advisor.shares import percent
from speedprof.mitigations.card import remedy
from speedprof.mitigations.gains import removing
from speedprof.mitigations.mitigation import Fit, Misfit
from speedprof.profiler.run import Run

BY_HAND = """\
# {where}
with torch.inference_mode():  # no graph; batches may be twice as large
    evaluate(model)  # every second time, or on a fixed part of the evaluation set"""


def assess(run: Run, finding: Finding) -> Fit | Misfit:
    if run.outside is None:
        return Misfit(reason="the time between steps was not measured")
    if run.outside.evaluation_ms <= 0:
        return Misfit(reason="no evaluation was seen")
    return Fit(
        reason=f"evaluation takes {percent(finding.share)} of the time",
        gain=removing(
            finding.low * 0.5, finding.high * 0.8, what="evaluating, half to four fifths as often"
        ),
        by_hand=BY_HAND.format(where=finding.where or "where the model is evaluated"),
    )


MITIGATION = remedy(
    "rarer-evaluation", __doc__, treats=(("outside", "evaluation"),), assess=assess
)
