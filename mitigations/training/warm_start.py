"""Start from trained weights.

Does: loads published weights of the same or a similar model instead of random ones.
Helps: data of a known kind: photographs, text, speech.
Avoid: data unlike any published; weights whose licence or data forbid it.
Safety: changes_training. Another start; learning rate and length have to be tuned anew.
Place: retrofit x function. The initial weights know something.
Source: common practice (He et al., 2018, "Rethinking ImageNet pre-training": from scratch reaches
    the same accuracy, in more steps); no factor given.
"""

from __future__ import annotations

from speedprof.advisor.finding import Finding
from speedprof.mitigations.card import remedy
from speedprof.mitigations.mitigation import Fit, Misfit
from speedprof.mitigations.training.kinds import BOTH, anything, fewer_steps
from speedprof.profiler.run import Run

HOPE = "trained weights leave less to learn"
BY_HAND = """\
model = torchvision.models.resnet50(weights="DEFAULT")  # or AutoModel.from_pretrained(name)
model.fc = torch.nn.Linear(model.fc.in_features, classes)"""


def assess(run: Run, _finding: Finding) -> Fit | Misfit:
    return fewer_steps(run, anything, hope=HOPE, by_hand=BY_HAND)


MITIGATION = remedy("warm-start", __doc__, treats=BOTH, assess=assess)
