"""Whether a remedy kept its word on the losses: the same, within rounding, within seed noise.

A run's losses are compared step by step with those of a run without the remedy, both from one
seed. What the script itself does not repeat exactly can prove no more than it repeats.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FEWEST = 8  # losses that a comparison can rest on
# Rounding to bfloat16 moves a number by up to 2^-8, and a loss is made of many such numbers:
# published curves of mixed precision lie within a few per cent of float32's step by step.
ROUNDING = 0.03  # of the loss, median over the steps
NOISE = 3.0  # standard errors

Losses = Sequence[float]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """`passed` is None where it could not be told."""

    passed: bool | None
    sentence: str


def prove(safety: str, old: Losses, new: Losses, *, again: Losses, other: Losses) -> Proof:
    """Judge by what the remedy's safety promises.

    `old` and `again` are two runs without the remedy from one seed, `other` one from another.
    """
    length = min(len(old), len(new))
    if length < FEWEST:
        few = f"only {length} losses were seen, {FEWEST} are needed"
        return Proof(passed=None, sentence=f"not proved: {few}")
    first, second = _array(old, length), _array(new, length)
    if not np.isfinite(second).all() and np.isfinite(first).all():
        return Proof(passed=False, sentence="the loss became infinite or no number")
    if safety == "exact":
        return _exact(first, second, repeats=same(old, again))
    if safety == "rounding":
        return _rounding(first, second, _array(again, len(again)))
    return _noise(first, second, _array(other, len(other)))


def _exact(old: Floats, new: Floats, *, repeats: bool) -> Proof:
    if np.array_equal(old, new):
        return Proof(passed=True, sentence=f"{len(old)} losses are equal to the last bit")
    if not repeats:
        return _rounding(old, new, old)
    step = int(np.flatnonzero(old != new)[0]) + 1
    return Proof(passed=False, sentence=f"the losses differ from step {step} on")


def _rounding(old: Floats, new: Floats, again: Floats) -> Proof:
    apart = float(np.median(np.abs(new - old) / np.maximum(np.abs(old), 1e-12)))
    length = min(len(old), len(again))
    own = np.abs(again[:length] - old[:length]) / np.maximum(np.abs(old[:length]), 1e-12)
    allowed = max(ROUNDING, NOISE * float(np.median(own)) if length else 0.0)
    sentence = f"losses differ by {_percent(apart)} (median of {len(old)} steps)"
    return Proof(passed=apart <= allowed, sentence=f"{sentence}, {_percent(allowed)} are allowed")


def _noise(old: Floats, new: Floats, other: Floats) -> Proof:
    """Compare the mean difference with that of two seeds, and its standard error."""
    length = min(len(old), len(new), len(other))
    if length < FEWEST:
        return Proof(passed=None, sentence="not proved: another seed gave too few losses")
    seeds, remedy = other[:length] - old[:length], new[:length] - old[:length]
    error = float(np.hypot(seeds.std(ddof=1), remedy.std(ddof=1))) / math.sqrt(length)
    allowed = abs(float(seeds.mean())) + NOISE * error
    apart = abs(float(remedy.mean()))
    sentence = f"the mean loss differs by {apart:.3g}, seeds by up to {allowed:.3g}"
    return Proof(passed=apart <= max(allowed, 1e-12), sentence=sentence)


def same(old: Losses, again: Losses) -> bool:
    """Tell whether one run repeats the other, as far as both went."""
    length = min(len(old), len(again))
    return length > 0 and list(old[:length]) == list(again[:length])


def _array(losses: Losses, length: int) -> Floats:
    return np.array(losses[:length], np.float64)


def _percent(part: float) -> str:
    return f"{100 * part:.2g} %"
