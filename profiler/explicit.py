"""`speedprof.step()`: the script says itself what a step is."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Generic, TypeVar, overload

from speedprof.profiler.session import Session, current

Item = TypeVar("Item")


class Step:
    """One step, as a context manager; without `speedprof run` it does nothing."""

    def __enter__(self) -> None:
        session = current()
        if session is not None:
            session.step_begins(time.perf_counter_ns())

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        session = current()
        if session is not None and error is None:
            _ended(session)


class Steps(Generic[Item]):
    """An iterable whose every item is a step; the wait for the item belongs to its step."""

    def __init__(self, items: Iterable[Item]) -> None:
        self._items = items

    def __iter__(self) -> Iterator[Item]:
        session = current()
        if session is None:
            yield from self._items
            return
        session.step_begins(time.perf_counter_ns())
        items = iter(self._items)
        while True:
            begin, known = time.perf_counter_ns(), session.waited_ns()
            try:
                item = next(items)
            except StopIteration:
                return
            session.step_waited(begin, time.perf_counter_ns(), session.waited_ns() - known)
            yield item
            _ended(session)


@overload
def step() -> Step: ...
@overload
def step(items: Iterable[Item]) -> Steps[Item]: ...
def step(items: Iterable[Item] | None = None) -> Step | Steps[Item]:
    """Mark a training step in a loop that speedprof cannot tell steps of by itself.

    Use it as ``with speedprof.step(): ...`` around the body of the loop, or as
    ``for batch in speedprof.step(batches): ...``. A step lasts from the end of the one before
    (the first: from its own beginning) to its end, so that waiting for input between two bodies
    belongs to the later one. In a script that was not started by `speedprof run` it costs nothing
    and does nothing.
    """
    return Step() if items is None else Steps(items)


def _ended(session: Session) -> None:
    session.step_ends(time.perf_counter_ns())
    session.stop_if_due()
