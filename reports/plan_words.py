"""What remedies are worth together and which bottleneck comes next, in the words of a sentence."""

from __future__ import annotations

from typing import TYPE_CHECKING

from speedprof.advisor.words import PHASE_WORDS
from speedprof.reports import wording

if TYPE_CHECKING:
    from speedprof.mitigations.pipeline_model import PlanGain
    from speedprof.mitigations.plans import Plan
    from speedprof.reports.view import View


def sentence(view: View) -> str | None:
    """Say what the plan gains: "All of these together: 1.7–2.3× faster; then computing leads"."""
    plan = view.outlook.plan if view.outlook is not None else None
    if plan is None:
        return None
    then = leads(plan.gain)
    if len(plan.names) == 1:
        return f"After {plan.names[0]}, {then}"
    return f"{_who(view, plan)} together: {faster(plan.gain)}; then {then}"


def then(view: View, name: str) -> str | None:
    """Say what leads after one remedy: "then computing leads (82 %)"; None where it is unknown."""
    gain = view.outlook.after.get(name) if view.outlook is not None else None
    return None if gain is None else f"then {leads(gain)}"


def leads(gain: PlanGain) -> str:
    """Say which phase is the largest then, and its share: "computing leads (78 to 82 %)"."""
    words = [_lower(PHASE_WORDS[name]) for name in gain.next_bottleneck]
    if len(words) > 1:
        return f"{' or '.join(words)} leads"
    low, high = (wording.percent(share) for share in gain.next_share)
    return f"{words[0]} leads ({low if low == high else f'{low[:-2]} to {high}'})"


def faster(gain: PlanGain) -> str:
    """Say the predicted ratio of the whole plan: "1.7–2.3× faster"."""
    low, high = wording.ratio(gain.low), wording.ratio(gain.high)
    return f"{high}× faster" if low == high else f"{low}–{high}× faster"


def _who(view: View, plan: Plan) -> str:
    if len(plan.names) == len(view.advice):
        return "All of these"
    return " + ".join(plan.names)


def _lower(words: str) -> str:
    return words[0].lower() + words[1:]
