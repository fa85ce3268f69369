"""The wait for input: each pass over each loader, and each of its batches."""

from __future__ import annotations

import functools
import os
import sys
import time
from collections.abc import Callable
from threading import get_ident
from types import ModuleType
from typing import TYPE_CHECKING, Any

from speedprof.profiler.batch_facts import BatchFacts
from speedprof.profiler.loader_facts import NOT_SEEN, Loaders, LoaderUse, samples_in
from speedprof.profiler.steps import Source, Tracker
from speedprof.profiler.worker_telemetry import LOADER_VARIABLE

if TYPE_CHECKING:
    from speedprof.profiler.session import Session

Waiting = dict[str, Callable[[ModuleType], None]]
now = time.perf_counter_ns


def install(session: Session, waiting: Waiting) -> None:  # noqa: ARG001 - as every probe
    from torch.utils.data import DataLoader
    from torch.utils.data.dataloader import _BaseDataLoaderIter

    watch = session.loader_watch = session.loader_watch or _LoaderWatch(session)
    patches = session.patches
    patches.replace(
        DataLoader,
        "__init__",
        watch.building(DataLoader.__init__),
        reason="remember where loaders are built",
    )
    patches.replace(
        DataLoader,
        "__iter__",
        watch.iterating(DataLoader.__iter__),
        reason="time the start of an epoch",
    )
    patches.replace(
        _BaseDataLoaderIter,
        "__next__",
        watch.waiting(_BaseDataLoaderIter.__next__),
        reason="time the wait for input",
    )


class _LoaderWatch:
    """Follows each pass over each loader on the training thread."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._loaders = Loaders()
        guard = session.fence.guard
        self._remember = guard("loader", self._loaders.remember)
        self._begin = guard("loader", self._begin_pass)
        self._began = guard("loader", self._pass_began)
        self._ask = guard("loader", self._asked)
        self._receive = guard("loader", self._received)
        self._dry = guard("loader", self._ran_dry)
        self._look = guard("batch", BatchFacts.look)
        self._passes: dict[int, tuple[Source, LoaderUse, int]] = {}  # by id of the iterator
        self._owner = os.getpid()

    def building(self, original: Any) -> Any:
        @functools.wraps(original)
        def __init__(loader: Any, *arguments: Any, **keywords: Any) -> None:
            dataset = arguments[0] if arguments else keywords.get("dataset")
            self._remember(loader, dataset, keywords, sys._getframe(1))
            original(loader, *arguments, **keywords)

        return __init__

    def iterating(self, original: Any) -> Any:
        @functools.wraps(original)
        def __iter__(loader: Any) -> Any:
            if get_ident() != self._session.thread:
                return original(loader)
            entry = self._begin(loader)
            self._session.stop_if_due()
            try:
                if entry is not None:
                    os.environ[LOADER_VARIABLE] = str(entry[1].number)
                iterator = original(loader)
            finally:
                os.environ.pop(LOADER_VARIABLE, None)
            self._began(iterator, entry, loader)
            return iterator

        return __iter__

    def waiting(self, original: Any) -> Any:
        import torch

        session, ask, receive, dry = self._session, self._ask, self._receive, self._dry
        watching = torch.is_grad_enabled

        @functools.wraps(original)
        def __next__(iterator: Any) -> Any:
            if get_ident() != session.thread:
                return original(iterator)
            entry = ask(iterator)
            if session.stopping:
                session.stop_if_due()
            begin = now()
            try:
                batch = original(iterator)
            except StopIteration:
                dry(begin, entry)
                raise
            receive(begin, entry, batch, watching())
            return batch

        return __next__

    # -- behind the fence

    def _begin_pass(self, loader: Any) -> tuple[Source, LoaderUse, int]:
        session = self._session
        if self._owner != os.getpid():
            self._owner, self._passes = os.getpid(), {}
            self._loaders.forget_uses()
        session.open_record()
        use = self._loaders.use_of(loader, session.seen.loader)
        use.iterations += 1
        source = Source(use.number, use)
        moment = now()
        session.clock.mark(moment)
        session.journal.write(Tracker.asked, moment, source)
        session.loader_asked = source.loader
        session.leave_if_due()
        return source, use, now()

    def _pass_began(
        self, iterator: Any, entry: tuple[Source, LoaderUse, int] | None, loader: Any
    ) -> None:
        if entry is None:
            return
        source, use, begin = entry
        end = now()
        use.orders.begins(loader, use.batches)
        use.startup_ns += end - begin
        use.first_batch_ns += end - begin
        self._session.journal.write(Tracker.iterated, begin, end, source)
        self._passes[id(iterator)] = (source, use, 1)

    def _asked(self, iterator: Any) -> tuple[Source, LoaderUse, Any, Any]:
        session = self._session
        entry = self._passes.get(id(iterator))
        if entry is None:  # built by hand, past DataLoader.__iter__
            use = (
                self._session.seen.loader(iterator._loader, NOT_SEEN)
                if hasattr(iterator, "_loader")
                else LoaderUse(-1)
            )
            entry = self._passes[id(iterator)] = (Source(use.number, use), use, 1)
        source, use, first = entry
        moment = now()
        mark = session.clock.mark(moment) if session.clock.possible else None
        session.journal.write(Tracker.asked, moment, source)
        session.loader_asked = source.loader
        if session.leaving:
            session.leave_if_due()
        if first:
            self._passes[id(iterator)] = (source, use, 0)
        return source, use, first, mark

    def _received(
        self,
        begin: int,
        entry: tuple[Source, LoaderUse, int, Any] | None,
        batch: Any,
        watched: bool,
    ) -> None:
        if entry is None:
            return
        source, use, first, mark = entry
        end = now()
        if mark is not None:
            self._session.clock.waited(end, mark)
        self._session.journal.write(
            Tracker.received, begin, end, source, samples_in(batch), watched
        )
        use.batches += 1
        use.wait_ns += end - begin
        if first:
            use.first_batch_ns += end - begin
        use.sizes(batch)
        if use.batches_seen.left:
            self._look(use.batches_seen, batch)

    def _ran_dry(self, begin: int, entry: tuple[Source, LoaderUse, int, Any] | None) -> None:
        if entry is not None:
            self._session.journal.write(Tracker.ran_dry, begin, now(), entry[0])
            if entry[1].batches_seen.left:
                entry[1].batches_seen.ended()
