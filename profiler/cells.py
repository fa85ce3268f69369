"""A window cut into cells: each has a step, a place in the loop, a label and a stack."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from speedprof.profiler.idle import UNSEEN, Seen
from speedprof.profiler.intervals import Partition, Times, overlay
from speedprof.profiler.labels import LABEL, LABELS, PHASE_OF, SEGMENTS
from speedprof.profiler.window_phases import UNEXPLAINED, Explained

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from speedprof.profiler.reduced import Cube
    from speedprof.profiler.stacks import Source, Stack

NO_CHAIN = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class Cells:
    """Columns over the cells; `moments` finds a cell by time."""

    steps: int  # of the window; one may have no cell
    length: Times
    step: NDArray[np.int64]
    segment: NDArray[np.int64]
    label: NDArray[np.int64]
    stack: NDArray[np.int64]  # or idle.UNSEEN
    seen: NDArray[np.bool_]  # the sample was taken in the cell's own phase
    waiting: NDArray[np.bool_]
    chain: NDArray[np.int64]  # index into chains, or NO_CHAIN
    chains: list[tuple[Source, ...]]
    moments: Partition  # codes: index of the cell

    def cube(self, chosen: NDArray[np.bool_]) -> Cube:
        """Return ns by step, segment and label of the chosen cells."""
        summed = np.zeros((self.steps, len(SEGMENTS), len(LABELS)), np.int64)
        where = (self.step[chosen], self.segment[chosen], self.label[chosen])
        np.add.at(summed, where, self.length[chosen])
        return [place.tolist() for place in summed]


def cut(explained: Explained, seen: Seen) -> Cells:
    """Cut a window wherever anything changes."""
    boundaries = explained.boundaries
    distinct = np.unique(boundaries)
    steps = Partition(distinct, np.searchsorted(boundaries, distinct[:-1], "right") - 1)
    edges, (label, segment, step, piece) = overlay(
        [explained.moments, explained.segments, steps, seen.pieces]
    )
    stack, waiting = seen.stack[piece], seen.waiting[piece]
    chains, chain_of = _chains(seen.stacks)
    chain = np.where(stack == UNSEEN, NO_CHAIN, chain_of[stack])
    open_to_chains = _open(label) & _open(_at_sample(seen, piece, explained.moments))
    label = np.where(label == UNEXPLAINED, _unexplained(stack, waiting, seen.stacks), label)
    phase = np.unique(PHASE_OF, return_inverse=True)[1]
    return Cells(
        steps=len(boundaries) - 1,
        length=np.diff(edges),
        step=step,
        segment=segment,
        label=label,
        stack=stack,
        seen=phase[label]
        == np.append(phase, -1)[_at_sample(seen, piece, Partition(edges, label))],
        waiting=waiting,
        chain=np.where(open_to_chains, chain, NO_CHAIN),
        chains=chains,
        moments=Partition(edges, np.arange(len(edges) - 1)),
    )


# Work that a batch source may do in the training thread. What a GPU computes is left out: it
# may be what the training launched before.
_OPEN_TO_CHAINS = [
    UNEXPLAINED,
    *(LABEL[name] for name in ("compute.forward", "host_to_device")),
    *(index for index, phase in enumerate(PHASE_OF) if phase == "host"),
]


def _unexplained(
    stack: NDArray[np.int64], waiting: NDArray[np.bool_], stacks: list[Stack]
) -> NDArray[np.int64]:
    """Label the host's own time by what its stack says, or by whether it waits."""
    host = np.where(waiting, LABEL["host.synchronisation"], LABEL["host.python"])
    said = np.array([LABEL[s.outside] if s.outside else -1 for s in stacks] + [-1], np.int64)
    found = said[stack]  # UNSEEN is the last
    return np.where(found >= 0, found, host)


def _open(label: NDArray[np.int64]) -> NDArray[np.bool_]:
    return np.isin(label, _OPEN_TO_CHAINS)


def _at_sample(seen: Seen, piece: NDArray[np.int64], labels: Partition) -> NDArray[np.int64]:
    """Return, for cells of these pieces, the label at the moment of their sample, -1 without."""
    there = np.append(labels.at(seen.at), -1)
    return there[seen.sample[piece]]  # UNSEEN is the last


def _chains(stacks: list[Stack]) -> tuple[list[tuple[Source, ...]], NDArray[np.int64]]:
    numbers: dict[tuple[Source, ...], int] = {}
    of_stack = [numbers.setdefault(s.sources, len(numbers)) if s.sources else -1 for s in stacks]
    return list(numbers), np.array([*of_stack, NO_CHAIN], np.int64)
