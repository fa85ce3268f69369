"""Batches replayed from memory: the first few are kept and given again, so loading costs nothing.

The script's own loop, sampler lengths and evaluation stay. An epoch has as many batches as its
loader says; where it does not say, the epoch does not end within the trial. Workers are ended when
the replay begins: what they would make ahead would only take cores from the training.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from speedprof.profiler.trials.batches import Copier, leaves, size
from speedprof.profiler.trials.training_batches import Feed, Pass, Watch

if TYPE_CHECKING:
    from speedprof.profiler.session import Session

KEPT = 8  # batches: enough that caches do not hold them all, few enough to be there soon
MOST_BYTES = 1 << 30  # kept per process


class Kept:
    """The batches of one feed, and whether they are given again by now."""

    def __init__(self) -> None:
        self.batches: list[Any] = []
        self.bytes = 0
        self.full = False
        self.replaying = False
        self.turn = 0
        self.shapes: set[tuple[tuple[int, ...], ...]] = set()

    def add(self, batch: Any) -> None:
        self.batches.append(batch)
        self.bytes += size(batch)
        self.shapes.add(tuple(tuple(leaf.shape) for leaf in leaves(batch)))
        self.full = len(self.batches) >= KEPT or self.bytes >= MOST_BYTES


class Replay(Watch):
    """Keeps the training's first batches, then hands out copies of them."""

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self.copier = Copier()
        self.kept: dict[Feed, Kept] = {}
        self._endless = False

    def begin_pass(self, feed: Feed) -> Any:
        kept = self.kept.setdefault(feed, Kept())
        if self._may_begin(kept, feed) and kept.batches:
            self._begin(kept, feed, None)
        return _replayed(feed.loader) if kept.replaying else None

    def draw(self, iterator: Any, drawing: Pass) -> Any:
        feed = drawing.feed
        kept = self.kept.setdefault(feed, Kept())
        if self._may_begin(kept, feed) and kept.full:
            self._begin(kept, feed, iterator)
        if kept.replaying:
            return self._again(kept, drawing)
        batch = super().draw(iterator, drawing)
        if not kept.full and self.copier.used_up is None:
            kept.add(self.copier.copy(batch))
            self._refuse_if_used_up()
        return batch

    def _may_begin(self, kept: Kept, feed: Feed) -> bool:
        return not kept.replaying and feed.trains and self.copier.used_up is None

    def _refuse_if_used_up(self) -> None:
        """End the trial if a batch can be read only once: it cannot be given again."""
        name = self.copier.used_up
        if name is None:
            return
        self.session.open_record()
        why = f"a batch holds a {name}, which can be read only once and so not be replayed"
        self.session.recorder.fact("trial", {"kind": "refused", "why": why})
        self.session.stopping = True

    def _again(self, kept: Kept, drawing: Pass) -> Any:
        length = drawing.feed.length()
        if length is not None and drawing.drawn >= length:
            raise StopIteration
        number = kept.turn % len(kept.batches)
        kept.turn += 1
        batch = self.copier.copy(kept.batches[number])
        self.handed(drawing.feed, number, batch)
        return batch

    def handed(self, feed: Feed, number: int, batch: Any) -> None:
        """A copy of a kept batch is given to the script."""

    def _begin(self, kept: Kept, feed: Feed, iterator: Any) -> None:
        kept.replaying = True
        if iterator is not None:
            _end_workers(iterator, feed.loader)
        elif getattr(feed.loader, "_iterator", None) is not None:
            _end_workers(feed.loader._iterator, feed.loader)
        self._endless = self._endless or feed.length() is None
        self.session.open_record()
        self.session.recorder.fact("trial", self.state(kept))

    def state(self, kept: Kept) -> dict[str, Any]:
        """Describe the replay for the record; steps count from `at_perf_ns` on."""
        notes = []
        if self.copier.uncopied:
            names = ", ".join(sorted(self.copier.uncopied))
            notes.append(f"{names}: cannot be copied and were handed out as they are")
        if len(kept.batches) < KEPT:
            why = "their size" if kept.full else "the epoch's length"
            notes.append(
                f"only {len(kept.batches)} batches were kept ({why}); the trial went round "
                "with them"
            )
        if len(kept.shapes) > 1:
            notes.append(
                f"batches differ in shape; the {len(kept.batches)} kept stand for all of them"
            )
        if self._endless:
            notes.append("the loader has no length, so no epoch ended in the trial")
        return {
            "kind": "replayed",
            "at_perf_ns": time.perf_counter_ns(),
            "kept": len(kept.batches),
            "bytes": kept.bytes,
            "notes": notes,
        }


def _end_workers(iterator: Any, loader: Any) -> None:
    """End an iterator's workers, as its own end would."""
    if getattr(loader, "_iterator", None) is iterator:
        loader._iterator = None
    if hasattr(iterator, "_shutdown_workers"):
        iterator._shutdown_workers()


def _replayed(loader: Any) -> Any:
    """Return an iterator of torch's kind that costs nothing to build; `__next__` is stepped in."""
    from torch.utils.data.dataloader import _BaseDataLoaderIter

    class Replayed(_BaseDataLoaderIter):  # type: ignore[misc]  # torch is not typed here
        def __init__(self) -> None:
            self._loader = loader

        def __len__(self) -> int:
            return len(loader)

    return Replayed()
