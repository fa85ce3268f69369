"""Stop when the evaluation gets no better.

Does: ends the training after some evaluations without progress and keeps the best weights.
Helps: trainings of a generous fixed length with regular evaluation, fine-tuning above all.
Avoid: schedules that decay late: the best comes with the decay (then: shorter-schedule).
Safety: changes_training. Less training, decided by a noisy measure.
Place: remove x optimization. Updates go.
Source: Prechelt (1998), "Early stopping - but when?"; no figure that transfers.
"""

from __future__ import annotations

from speedprof.advisor.finding import Finding
from speedprof.mitigations.card import remedy
from speedprof.mitigations.mitigation import Fit, Misfit
from speedprof.mitigations.training.kinds import BOTH, fewer_steps
from speedprof.profiler.run import Run

HOPE = "steps after the last progress are spent for nothing"
BY_HAND = """\
if score > best:
    best, since = score, 0
    torch.save(model.state_dict(), "best.pt")
else:
    since += 1
    if since == 5:
        break"""


def evaluated(run: Run) -> str | None:
    """Return why nothing tells when to stop."""
    if any(loader.role == "evaluation" for loader in run.loaders):
        return None
    if run.outside is not None and run.outside.evaluation_ms > 0:
        return None
    if run.outside is None and not run.loaders:
        return "whether the script evaluates was not seen"
    return "no evaluation was seen, and nothing else tells when to stop"


def assess(run: Run, _finding: Finding) -> Fit | Misfit:
    return fewer_steps(run, evaluated, hope=HOPE, by_hand=BY_HAND)


MITIGATION = remedy("early-stopping", __doc__, treats=BOTH, assess=assess, how="patch")
