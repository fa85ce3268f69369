"""Which of the user's functions make the batches, from all windows of a process together."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

from speedprof.profiler.labels import LABEL, LABELS, SEGMENTS
from speedprof.profiler.stacks import Source

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from speedprof.profiler.reduced import ReducedWindow

# Below this part of the traced time a function that makes batches is not worth calling the
# run's source of input.
WORTH_NAMING = 0.01
# A sample's time and its stack lie some microseconds apart, so that one taken where a backward
# pass gives way to the making of a batch may seem to be in both. A generator that holds the
# training loop has training inside in most of its samples.
MISTAKEN = 0.1


def batch_sources(windows: Sequence[ReducedWindow]) -> frozenset[Source]:
    """Return the functions that make batches.

    A whole training loop may live in a generator, so nobody is believed who was seen with
    training going on inside, or while training went on nowhere.
    """
    inside: Counter[Source] = Counter()
    samples: Counter[Source] = Counter()
    training = 0
    for window in windows:
        training += window.training_samples
        for seen in window.evidence:
            inside[seen.source] += seen.training_inside
            samples[seen.source] += seen.samples
    return frozenset(
        source
        for source, times in inside.items()
        if training and times <= MISTAKEN * samples[source]
    )


def cubes(window: ReducedWindow, sources: frozenset[Source]) -> tuple[NDArray[np.int64], ...]:
    """Return ns by (step, segment, label), without and of the time in batch sources.

    The second keeps its time by the label it had; all of it is data loading.
    """
    shape = (len(window.cube), len(SEGMENTS), len(LABELS))
    kept = np.array(window.cube, np.int64).reshape(shape)
    moved = np.zeros(shape, np.int64)
    for number, chain in enumerate(window.chains):
        part = np.array(chain.cube, np.int64).reshape(shape)
        if makes_batches(window, number, sources):
            moved += part
        else:
            kept += part
    return kept, moved


def makes_batches(window: ReducedWindow, chain: int, sources: frozenset[Source]) -> bool:
    return chain >= 0 and any(source in sources for source in window.chains[chain].sources)


def input_kind(
    windows: Sequence[ReducedWindow], sources: frozenset[Source], *, has_loader: bool
) -> str | None:
    """Tell what feeds the training: "loader", "generator", "function"; None: unknown."""
    spent: Counter[Source] = Counter()
    loader = whole = 0
    for window in windows:
        whole += window.boundaries[-1] - window.boundaries[0]
        loader += sum(sum(s[LABEL["data_loading"]] for s in step) for step in window.cube)
        for chain in window.chains:
            source = next((s for s in chain.sources if s in sources), None)
            if source is not None:
                spent[source] += int(np.array(chain.cube, np.int64).sum())
    named, most = next(iter(spent.most_common(1)), (None, 0))
    if named is not None and most >= WORTH_NAMING * whole and not (has_loader and loader >= most):
        return "generator" if named.generator else "function"
    return "loader" if has_loader else None
