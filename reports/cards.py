"""A remedy as the page shows it: what, why here, how much, how safe, and the lines to paste."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from speedprof.mitigations.applied.automatic import in_words
from speedprof.reports import plan_words, wording

if TYPE_CHECKING:
    from speedprof.mitigations.catalogue import Advice
    from speedprof.reports.view import View

LEAST_SCALE = 2.0  # the gain bars end at twice as fast, or at the largest gain predicted


@dataclass(frozen=True, slots=True, kw_only=True)
class GainBar:
    """A predicted range as a bar.

    Positions are percent of its width, the left end is "no gain".
    """

    left: float
    width: float
    ticks: tuple[tuple[float, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    place: int  # 1 is the best
    name: str
    title: str
    bottleneck: str
    reason: str
    gain: str
    outcome: str | None  # "41.2 ms → 19.6–29.4 ms a step"
    then: str | None  # "then computing leads (82 %)"
    model: str | None
    bar: GainBar | None
    safety: str
    safety_words: str
    how: str
    taxonomy: str
    parameters: tuple[tuple[str, str], ...]
    code: str
    source: str
    text: str  # the whole card


def cards(view: View) -> tuple[Card, ...]:
    """Return a card for each remedy, best first, their bars on one scale."""
    highest = [advice.fit.gain.high for advice in view.advice if advice.fit.gain is not None]
    scale = max([LEAST_SCALE, *highest])
    return tuple(
        _card(view, advice, place=place, scale=scale)
        for place, advice in enumerate(view.advice, start=1)
    )


def _card(view: View, advice: Advice, *, place: int, scale: float) -> Card:
    mitigation, fit = advice.mitigation, advice.fit
    mean_ms = None if view.run.step_ms is None else view.run.step_ms.mean_ms
    return Card(
        place=place,
        name=mitigation.name,
        title=wording.title(mitigation),
        bottleneck=advice.finding.bottleneck.replace("_", " "),
        reason=fit.reason,
        gain=wording.gain(fit.gain),
        outcome=_outcome(advice, mean_ms),
        then=plan_words.then(view, mitigation.name),
        model=None if fit.gain is None else fit.gain.model,
        bar=_bar(advice, scale),
        safety=mitigation.safety,
        safety_words=wording.SAFETY_WORDS[mitigation.safety],
        how=_how(advice),
        taxonomy=wording.place(mitigation),
        parameters=tuple((str(key), repr(value)) for key, value in fit.parameters.items()),
        code=fit.by_hand.strip("\n"),
        source=mitigation.source,
        text=mitigation.card.strip(),
    )


def _how(advice: Advice) -> str:
    """Say how it is applied, with its value: one by name wins over the script's own."""
    mitigation = advice.mitigation
    how = wording.HOW_WORDS[mitigation.how]
    said = in_words(mitigation.name, advice.fit.parameters)
    return how if mitigation.how != "automatic" or said == mitigation.name else f"{how} {said}"


def _outcome(advice: Advice, mean_ms: float | None) -> str | None:
    gain = advice.fit.gain
    if gain is None or mean_ms is None or gain.low <= 0:
        return None
    best, worst = wording.ms(mean_ms / gain.high), wording.ms(mean_ms / gain.low)
    after = best if best == worst else f"{best} to {worst}"
    return f"{wording.ms(mean_ms)} → {after} a step"


def _bar(advice: Advice, scale: float) -> GainBar | None:
    gain = advice.fit.gain
    if gain is None:
        return None
    low, high = (_position(value, scale) for value in (gain.low, gain.high))
    middle = (1 + scale) / 2
    ticks = tuple((_position(at, scale), f"{wording.ratio(at)}×") for at in (middle, scale))
    return GainBar(left=low, width=max(high - low, 1.0), ticks=((0.0, "1×"), *ticks))


def _position(value: float, scale: float) -> float:
    return round(100 * min(max((value - 1) / (scale - 1), 0.0), 1.0), 2)
