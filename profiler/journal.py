"""What the probes saw and the tracker has not been told yet.

After a training step our code is in none of the processor's caches: telling the tracker at once
takes two to eight times what it takes in a loop of its own. So a probe only writes the moment
down, and the tracker is told of many moments together.
"""

from __future__ import annotations

from collections.abc import Callable, Sized
from typing import Any

MOST = 240  # moments that may wait: 40 steps of six
OLDEST_NS = 200_000_000  # a crash loses at most so much


class Journal:
    """Moments in the order they came; written by the training thread alone."""

    __slots__ = ("_catch_up", "_others", "_tell_others", "due", "moments", "room")

    def __init__(self, catch_up: Callable[[], None]) -> None:
        self._catch_up = catch_up
        self.moments: list[tuple[Any, ...]] = []
        self.room, self.due = 0, 0
        self._others: Sized = ()
        self._tell_others: Callable[[], None] = lambda: None

    def write(self, act: Callable[..., None], at: int, *rest: Any) -> None:
        """Remember to call `act(tracker, at, *rest)`; do so now where the tracker cannot wait."""
        if self._others:
            self._tell_others()
        self.moments.append((act, at, *rest))
        if len(self.moments) > self.room or at > self.due:
            self._catch_up()

    def also(self, waiting: Sized, tell: Callable[[], None]) -> None:
        """Call `tell`, which writes moments, before the next moment after `waiting` got items."""
        self._others, self._tell_others = waiting, tell

    def take(self) -> list[tuple[Any, ...]]:
        """Return what was written since the last time; it is the caller's from now on."""
        moments, self.moments = self.moments, []
        return moments

    def clear(self) -> None:
        self.moments = []
        self.room, self.due = 0, 0

    def let_wait(self, steps: int, now: int) -> None:
        """Let moments wait, but none with which so many steps could be over.

        A step has two moments at least, its first boundary may be the very next one.
        """
        self.room = max(0, min(MOST, 2 * steps - 3))
        self.due = now + OLDEST_NS
