"""Several steps one after the other: what is drawn for all of them, and what the pipeline has."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from speedprof.mitigations.dali.graph import Graph
from speedprof.mitigations.dali.steps import Arguments, Step


def drawn(steps: Iterable[Step], random: Any, sizes: Any) -> tuple[Arguments, Any]:
    """Draw the arguments of every step, by the number of the step and their name.

    And return the sizes (height, width) of what comes out.
    """
    given: Arguments = {}
    for number, step in enumerate(steps):
        found, sizes = step.draw(random, sizes)
        given |= prefixed(found, str(number))
    return given, sizes


def built(steps: Iterable[Step], graph: Graph, given: Arguments) -> None:
    """Add the operators of every step; `given` holds the nodes of what `drawn` returns."""
    for number, step in enumerate(steps):
        step.build(graph, only(given, str(number)))


def prefixed(given: Arguments, prefix: str) -> Arguments:
    return {f"{prefix}_{name}": value for name, value in given.items()}


def only(given: Arguments, prefix: str) -> Arguments:
    """Return the arguments that `prefixed` gave this prefix, by their own names."""
    start = f"{prefix}_"
    return {name[len(start) :]: value for name, value in given.items() if name.startswith(start)}
