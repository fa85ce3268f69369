"""Which remedies to use together, in which order, and what the whole plan gains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from speedprof.mitigations.catalogue import WORTH, Advice
from speedprof.mitigations.pipeline_model import PlanGain, after, plan_gain
from speedprof.profiler.run import Run

NO_LOSS = 1.0 / WORTH  # a predicted loss that is no larger than the noise of repeated runs


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Remedies that go together, first things first."""

    advice: tuple[Advice, ...]
    gain: PlanGain

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(one.mitigation.name for one in self.advice)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """What comes after the remedies: after each of them alone, and after those of the plan."""

    plan: Plan | None = None
    after: Mapping[str, PlanGain] = field(default_factory=dict)  # by the remedy's name


def outlook(run: Run, advice: Sequence[Advice]) -> Outlook:
    """Return what each of these remedies leaves of the step, and the plan made of them."""
    alone = {one.mitigation.name: after(run, one) for one in advice}
    return Outlook(
        plan=plan(run, advice),
        after={name: gain for name, gain in alone.items() if gain is not None},
    )


def plan(run: Run, advice: Sequence[Advice]) -> Plan | None:
    """Return the remedies among these that are worth using together; None where none is.

    Best first, one is taken where it is safe (it does not change what is trained and is not
    predicted to make the step slower), conflicts with none that was taken, and adds `WORTH` to
    the middle of what these gain without it: no risk for nothing.
    """
    taken: list[Advice] = []
    gained = 1.0
    for one in advice:
        if not _safe(one) or any(_conflict(one, other) for other in taken):
            continue
        gain = plan_gain(run, [*taken, one])
        if gain is not None and _middle(gain) >= WORTH * gained:
            taken.append(one)
            gained = _middle(gain)
    gain = plan_gain(run, taken) if taken else None
    return None if gain is None else Plan(advice=_in_order(taken), gain=gain)


def _safe(advice: Advice) -> bool:
    gain = advice.fit.gain
    return gain is not None and gain.low >= NO_LOSS and not advice.mitigation.changes_training


def _conflict(one: Advice, other: Advice) -> bool:
    first, second = one.mitigation, other.mitigation
    return first.name in second.conflicts or second.name in first.conflicts


def _middle(gain: PlanGain) -> float:
    return (gain.low + gain.high) / 2


def _in_order(taken: Sequence[Advice]) -> tuple[Advice, ...]:
    """Put each remedy behind those that it is to come after, the others as they are."""
    waiting, ordered = list(taken), list[Advice]()
    while waiting:
        names = {one.mitigation.name for one in waiting}
        free = [one for one in waiting if names.isdisjoint(one.mitigation.after)]
        first = (free or waiting)[0]  # in a circle the better one goes first
        waiting.remove(first)
        ordered.append(first)
    return tuple(ordered)
