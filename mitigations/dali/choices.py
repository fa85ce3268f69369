"""Steps that some images of a batch go through and others do not: RandomApply and its like.

DALI splits the batch by what was drawn for each image, and merges it again: what an image is not
meant for is not computed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

from speedprof.mitigations.dali import draws
from speedprof.mitigations.dali.chains import built, drawn, only, prefixed
from speedprof.mitigations.dali.graph import Graph
from speedprof.mitigations.dali.steps import Arguments, Step

Steps = tuple[Step, ...]
ON = "on"  # which images go through


@dataclass(frozen=True)
class RandomApply(Step):
    """All steps or none, with one probability."""

    inner: Steps
    probability: float
    told: ClassVar[str] = "split and merge"
    random: ClassVar[bool] = True

    def draw(self, random: Any, sizes: Any) -> tuple[Arguments, Any]:
        chosen = draws.chance(random, len(sizes), self.probability).bool()
        return _drawn_for(chosen, self.inner, random, sizes)

    def build(self, graph: Graph, given: Arguments) -> None:
        _build_for(self.inner, graph, given)


@dataclass(frozen=True)
class RandomChoice(Step):
    """One of several chains, by their weights."""

    alternatives: tuple[Steps, ...]
    weights: tuple[float, ...]
    told: ClassVar[str] = "split and merge"
    random: ClassVar[bool] = True

    def draw(self, random: Any, sizes: Any) -> tuple[Arguments, Any]:
        which = draws.choice(random, len(sizes), self.weights)
        given: Arguments = {}
        after = sizes
        for number, inner in enumerate(self.alternatives):
            found, out = _drawn_for(which == number, inner, random, sizes)
            given |= prefixed(found, str(number))
            after = _where(which == number, out, after)
        return given, after

    def build(self, graph: Graph, given: Arguments) -> None:
        for number, inner in enumerate(self.alternatives):
            _build_for(inner, graph, only(given, str(number)))


@dataclass(frozen=True)
class RandomOrder(Step):
    """Every chain once, in an order of each image's own; none of them changes the size."""

    chains: tuple[Steps, ...]
    told: ClassVar[str] = "split and merge, once for each place in the order"
    random: ClassVar[bool] = True

    def draw(self, random: Any, sizes: Any) -> tuple[Arguments, Any]:
        orders = draws.order(random, len(sizes), len(self.chains))
        given: Arguments = {}
        for number, inner in enumerate(self.chains):
            found, _sizes = drawn(inner, random, sizes)
            for place in range(len(self.chains)):
                chosen = {ON: orders[:, place] == number, **found}
                given |= prefixed(chosen, f"{place}_{number}")
        return given, sizes

    def build(self, graph: Graph, given: Arguments) -> None:
        for place in range(len(self.chains)):
            for number, inner in enumerate(self.chains):
                _build_for(inner, graph, only(given, f"{place}_{number}"))


def some(graph: Graph, given: Arguments, build: Callable[[Graph, Arguments], None]) -> None:
    """Let `build` work on the images that are ON; it is given the other arguments."""
    others = {name: value for name, value in given.items() if name != ON}
    graph.some(given[ON], build, others)


def _drawn_for(chosen: Any, inner: Steps, random: Any, sizes: Any) -> tuple[Arguments, Any]:
    found, after = drawn(inner, random, sizes)
    return {ON: chosen, **found}, _where(chosen, after, sizes)


def _where(chosen: Any, one: Any, other: Any) -> Any:
    import torch

    return torch.where(chosen[:, None], one, other)


def _build_for(inner: Steps, graph: Graph, given: Arguments) -> None:
    some(graph, given, partial(built, inner))
