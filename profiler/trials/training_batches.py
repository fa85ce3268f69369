"""Which batches the training is fed with, and a way to step in before they are made.

A loader is the training's once backward has followed one of its batches, drawn with gradients on
and by the training thread. Loaders that are built anew every epoch are told by what they are made
of. What is drawn with gradients off is evaluation, and left as it is.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from threading import get_ident
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from speedprof.profiler.session import Session

Key = tuple[Any, ...]


class Feed:
    """What a trial knows of one loader, or of those that are built alike."""

    def __init__(self, loader: Any) -> None:
        self.loader = loader  # the newest
        self.trains = False
        self.drawn = 0  # batches, in all passes

    def length(self) -> int | None:
        """Return the batches of an epoch, None where the loader does not say."""
        try:
            return len(self.loader)
        except (TypeError, NotImplementedError, AttributeError):
            return None


class Pass:
    """One iterator over a loader."""

    def __init__(self, feed: Feed) -> None:
        self.feed = feed
        self.drawn = 0
        self.ours = False  # the iterator is the trial's own: it has nothing to give by itself


class Watch:
    """Follows every pass over every loader; a trial overrides what it changes."""

    def __init__(self, session: Session) -> None:
        from torch.utils.data import DataLoader
        from torch.utils.data.dataloader import _BaseDataLoaderIter

        self.session = session
        self.iterate: Callable[[Any], Any] = DataLoader.__iter__  # torch's own
        self.next: Callable[[Any], Any] = _BaseDataLoaderIter.__next__
        self._feeds: dict[Key, Feed] = {}
        self._passes: dict[int, Pass] = {}  # by id of the iterator
        self._candidates: list[Feed] = []  # drawn from since the last backward

    # -- what a trial changes

    def begin_pass(self, feed: Feed) -> Any:
        """Return the trial's own iterator over a feed; None for torch's."""
        del feed
        return None

    def draw(self, iterator: Any, drawing: Pass) -> Any:
        """Return the next batch; raise StopIteration at the end."""
        del drawing
        return self.next(iterator)

    def ran_dry(self, feed: Feed) -> None:
        """A pass over the feed has ended."""

    # -- the rest

    def install(self, reason: str) -> None:
        """Step in, below everything else that wraps loaders."""
        import torch
        from torch.utils.data import DataLoader
        from torch.utils.data.dataloader import _BaseDataLoaderIter

        patches = self.session.patches
        patches.replace(DataLoader, "__iter__", self._iterating(self.iterate), reason=reason)
        patches.replace(_BaseDataLoaderIter, "__next__", self._drawing(self.next), reason=reason)
        patches.replace(
            torch.autograd,
            "backward",
            self._training(torch.autograd.backward),
            reason="tell the training's loader from others",
        )

    def _iterating(self, original: Any) -> Any:
        import torch

        @functools.wraps(original)
        def __iter__(loader: Any) -> Any:
            if get_ident() != self.session.thread:
                return original(loader)
            feed = self._feed(loader)
            made = self.begin_pass(feed) if torch.is_grad_enabled() else None
            iterator = original(loader) if made is None else made
            self._passes[id(iterator)] = begun = Pass(feed)
            begun.ours = made is not None
            return iterator

        return __iter__

    def _drawing(self, original: Any) -> Any:
        import torch

        @functools.wraps(original)
        def __next__(iterator: Any) -> Any:
            drawing = self._passes.get(id(iterator))
            if drawing is None or get_ident() != self.session.thread:
                return original(iterator)
            feed = drawing.feed
            if not torch.is_grad_enabled() and not drawing.ours:
                return original(iterator)
            try:
                batch = self.draw(iterator, drawing)
            except StopIteration:
                if feed in self._candidates:
                    self._candidates.remove(feed)
                self.ran_dry(feed)
                raise
            drawing.drawn += 1
            feed.drawn += 1
            if not feed.trains and feed not in self._candidates:
                self._candidates.append(feed)
            return batch

        return __next__

    def _training(self, original: Any) -> Any:
        import torch

        compiling = torch.compiler.is_compiling

        @functools.wraps(original)
        def backward(*arguments: Any, **named: Any) -> Any:
            if not compiling() and self._candidates:
                for feed in self._candidates:
                    feed.trains = True
                self._candidates.clear()
            return original(*arguments, **named)

        return backward

    def _feed(self, loader: Any) -> Feed:
        try:
            samples = len(loader.dataset)
        except (TypeError, NotImplementedError, AttributeError):
            samples = id(loader.dataset)
        key = (type(loader.dataset), samples, loader.batch_size, loader.num_workers)
        feed = self._feeds.setdefault(key, Feed(loader))
        feed.loader = loader
        return feed
