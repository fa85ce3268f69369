"""The backward passes of a DistributedDataParallel, counted from update to update."""

from __future__ import annotations

import weakref
from collections import deque
from typing import Any

from speedprof.mitigations.applied.gradient_exchange import trained

ALIKE = 3  # updates with the same number of passes, one after the other, are a pattern
FIRST_LOOK = 8  # passes; then 16, 32, and so on, so that any pattern is found by its sixth update
MOST_EARLY = 3  # updates in a row that came early: the pattern is no longer the script's


class Passes:
    """The backward passes of one DistributedDataParallel, counted from update to update."""

    def __init__(self, model: Any) -> None:
        self.model = weakref.ref(model)
        self.parameters = frozenset(map(id, trained(model)))
        self.every = 1  # each so-many-th pass is exchanged
        self.since = 0  # passes since the last update
        self.total = 0
        self.look_at = FIRST_LOOK
        self.counts: deque[int] = deque(maxlen=ALIKE)
        self.begun = False  # a forward pass was made, its backward pass was not seen yet
        self.waiting = 0  # passes whose gradients have not been exchanged
        self.left = self.early = self.early_in_a_row = 0
        self.pattern = 0  # passes of an update, seen in several of them one after the other
        self.was_early = False  # the last update was
        self.off = False

    def seen(self, leaving: bool) -> None:
        """Count a backward pass, once for all forward passes that it goes through.

        `leaving`: it is not exchanged.
        """
        if not self.begun:
            return
        self.begun = self.was_early = False
        self.total += 1
        self.since += 1
        self.waiting = self.waiting + 1 if leaving else 0
        self.left += leaving

    def exchanged(self) -> None:
        """Note that what was waiting has been exchanged before its time."""
        self.waiting = 0
        self.left -= 1
        self.was_early = True
        self.early += 1
        self.early_in_a_row += 1

    def updated(self) -> None:
        """Note an update; a second one without a pass between is another optimizer's."""
        if not self.since:
            return
        if self.since >= self.every:
            self.early_in_a_row = 0
        elif self.early_in_a_row >= MOST_EARLY:
            self.every = 1
            self.early_in_a_row = 0
        self.counts.append(self.since)
        self.since = 0
        if len(self.counts) == ALIKE and len(set(self.counts)) == 1:
            self.pattern = self.counts[0]


def came_of(passes: Passes) -> str | None:
    """Say what came of leaving exchanges out; nothing where it was said already."""
    if passes.left:
        early = f"; {_came_early(passes.early)}" if passes.early else ""
        return f"{passes.left} of {passes.total} exchanges were left out{early}"
    if passes.off:
        return None
    if set(passes.counts) == {1}:
        return "each update has one backward pass: nothing to leave out"
    return "no fixed number of backward passes for each update was seen"


def _came_early(count: int) -> str:
    if count == 1:
        return "1 update came early and was exchanged before it"
    return f"{count} updates came early and were exchanged before them"
