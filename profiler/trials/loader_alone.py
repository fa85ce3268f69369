"""The loader alone: the training thread draws batches as fast as it can, and does nothing else.

It begins after the first backward pass, with the loader that fed it, leaves out what was made
ahead meanwhile, and ends the script. A new epoch's start counts, as it does in training.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from speedprof.profiler.loader_facts import samples_in
from speedprof.profiler.trials.training_batches import Pass, Watch

if TYPE_CHECKING:
    from speedprof.profiler.session import Session
    from speedprof.profiler.trials import Length


class LoaderAlone(Watch):
    """Takes over at the first batch that training asks for after it has begun."""

    def __init__(self, session: Session, length: Length) -> None:
        super().__init__(session)
        self._length = length

    def draw(self, iterator: Any, drawing: Pass) -> Any:
        if not drawing.feed.trains:
            return super().draw(iterator, drawing)
        self._measure(iterator, drawing.feed.loader)
        self.session.end(stopped=True)
        raise SystemExit(0)

    def _measure(self, iterator: Any, loader: Any) -> None:
        ahead = (loader.prefetch_factor or 0) * loader.num_workers
        spent: list[int] = []
        samples: list[int] = []
        skipped = 0
        begin = time.perf_counter_ns()
        empty = 0  # passes in a row that gave nothing
        while empty < 2 and not self._length.enough(len(spent), sum(spent) / 1e9):
            try:
                batch = self.next(iterator)
            except StopIteration:
                empty += 1
                iterator = self.iterate(loader)
                continue
            empty = 0
            number, batch = samples_in(batch), None
            if skipped < ahead + 1:
                skipped += 1
                begin = time.perf_counter_ns()
                continue
            end = time.perf_counter_ns()
            spent.append(end - begin)
            samples.append(number)
            begin = end
        self.session.open_record()
        self.session.recorder.fact(
            "trial", {"kind": "loader", "ns": spent, "samples": samples, "skipped": skipped}
        )
