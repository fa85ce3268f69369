"""Plan a shorter training, with its whole schedule.

Does: trains fewer steps and scales the schedule of the learning rate, so that it still decays to
    nothing at the end.
Helps: every training; the cost is proportional to its length.
Avoid: cutting a long schedule off instead: its learning rate is still high.
Safety: changes_training. Less training: the quality falls, often by little.
Place: remove x optimization. Updates go.
Source: MosaicML Composer's card: ResNet-50 on ImageNet loses 76.6 to 75.6 % of accuracy at half of
    the length; Li et al. (1905.04753): linear decay is robust at any budget.
"""

from __future__ import annotations

from speedprof.advisor.finding import Finding
from speedprof.mitigations.card import remedy
from speedprof.mitigations.mitigation import Fit, Misfit
from speedprof.mitigations.training.kinds import BOTH, anything, fewer_steps
from speedprof.profiler.run import Run

HOPE = "half of the steps are half of the time, with all of the learning rate's schedule in them"
BY_HAND = """\
total_steps = total_steps // 2
schedule = torch.optim.lr_scheduler.LinearLR(
    optimizer, start_factor=1.0, end_factor=0.0, total_iters=total_steps
)  # after the warm-up"""


def assess(run: Run, _finding: Finding) -> Fit | Misfit:
    return fewer_steps(run, anything, hope=HOPE, by_hand=BY_HAND)


MITIGATION = remedy("shorter-schedule", __doc__, treats=BOTH, assess=assess, how="patch")
