"""The wait for input, and the cost of making it."""

from __future__ import annotations

import functools
import os
import sys
import time
from collections.abc import Callable
from threading import get_ident
from types import FrameType, ModuleType
from typing import TYPE_CHECKING, Any

from speedprof.profiler.batch_facts import BatchFacts
from speedprof.profiler.facts import SIZED_BATCHES, LoaderUse, bytes_in, samples_in
from speedprof.profiler.steps import Source, Tracker
from speedprof.profiler.worker_telemetry import LOADER_VARIABLE

if TYPE_CHECKING:
    from speedprof.profiler.session import Session

Waiting = dict[str, Callable[[ModuleType], None]]
now = time.perf_counter_ns
EVERY_NTH_CALL = 4  # of a transform chain, while a batch is looked at


def install(session: Session, waiting: Waiting) -> None:
    from torch.utils.data import DataLoader, _utils
    from torch.utils.data.dataloader import _BaseDataLoaderIter

    watch = _LoaderWatch(session)
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
    for fetcher in (_utils.fetch._MapDatasetFetcher, _utils.fetch._IterableDatasetFetcher):
        patches.replace(
            fetcher,
            "fetch",
            _fetching(session, fetcher.fetch),
            reason="time the making of a batch",
        )
    waiting["torchvision.transforms.transforms"] = session.fence.guard(
        "transforms", lambda module: _time_chain(session, module.Compose, "__call__")
    )
    waiting["torchvision.transforms.v2._container"] = session.fence.guard(
        "transforms", lambda module: _time_chain(session, module.Compose, "forward")
    )


class _LoaderWatch:
    """Follows each pass over each loader on the training thread."""

    def __init__(self, session: Session) -> None:
        self._session = session
        guard = session.fence.guard
        self._built = guard("loader", self._remember)
        self._begin = guard("loader", self._begin_pass)
        self._began = guard("loader", self._pass_began)
        self._ask = guard("loader", self._asked)
        self._receive = guard("loader", self._received)
        self._dry = guard("loader", self._ran_dry)
        self._look = guard("batch", BatchFacts.look)
        self._where: dict[int, tuple[str | None, list[str]]] = {}
        self._uses: dict[object, LoaderUse] = {}
        self._passes: dict[int, tuple[Source, LoaderUse, int]] = {}  # by id of the iterator
        self._owner = os.getpid()

    def building(self, original: Any) -> Any:
        @functools.wraps(original)
        def __init__(loader: Any, *arguments: Any, **keywords: Any) -> None:
            self._built(loader, keywords, sys._getframe(1))
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
            self._began(iterator, entry)
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

    def _remember(self, loader: Any, keywords: dict[str, Any], frame: FrameType | None) -> None:
        self._where[id(loader)] = (_user_line(frame), sorted(keywords))

    def _begin_pass(self, loader: Any) -> tuple[Source, LoaderUse, int]:
        session = self._session
        if self._owner != os.getpid():
            self._owner, self._uses, self._passes = os.getpid(), {}, {}
        session.open_record()
        where, explicit = self._where.get(id(loader), (None, []))
        # loaders that one line builds again every epoch are one loader
        key = (where or id(loader), type(loader.dataset), loader.batch_size, loader.num_workers)
        use = self._uses.get(key)
        if use is None:
            use = self._uses[key] = session.seen.loader(loader, where, explicit)
        if use.sources is not None and use.sources.trained:
            use.trained = True
        use.iterations += 1
        source = use.sources = Source(use.number)
        moment = now()
        session.clock.mark(moment)
        session.journal.write(Tracker.asked, moment, source)
        session.loader_asked = source.loader
        session.leave_if_due()
        return source, use, now()

    def _pass_began(self, iterator: Any, entry: tuple[Source, LoaderUse, int] | None) -> None:
        if entry is None:
            return
        source, use, begin = entry
        end = now()
        use.startup_ns += end - begin
        use.first_batch_ns += end - begin
        self._session.journal.write(Tracker.iterated, begin, end, source)
        self._passes[id(iterator)] = (source, use, 1)

    def _asked(self, iterator: Any) -> tuple[Source, LoaderUse, Any, Any]:
        session = self._session
        entry = self._passes.get(id(iterator))
        if entry is None:  # built by hand, past DataLoader.__iter__
            use = (
                self._session.seen.loader(iterator._loader, None, [])
                if hasattr(iterator, "_loader")
                else LoaderUse(-1)
            )
            entry = self._passes[id(iterator)] = (Source(use.number), use, 1)
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
        if use.sized < SIZED_BATCHES:
            use.batch_bytes += bytes_in(batch)
            use.sized += 1
        if use.batches_seen.left:
            self._look(use.batches_seen, batch)

    def _ran_dry(self, begin: int, entry: tuple[Source, LoaderUse, int, Any] | None) -> None:
        if entry is not None:
            self._session.journal.write(Tracker.ran_dry, begin, now(), entry[0])
            if entry[1].batches_seen.left:
                entry[1].batches_seen.ended()


def _user_line(frame: FrameType | None) -> str | None:
    """Return "file:line" of the nearest frame that is not a library's."""
    nearest = frame
    while frame is not None:
        name = frame.f_code.co_filename
        if (
            "site-packages" not in name
            and "dist-packages" not in name
            and not name.startswith("<")
        ):
            return f"{name}:{frame.f_lineno}"
        frame = frame.f_back
    return f"{nearest.f_code.co_filename}:{nearest.f_lineno}" if nearest else None


def _fetching(session: Session, original: Any) -> Any:
    from torch.utils.data import get_worker_info

    telemetry_begins = session.fence.guard(
        "telemetry", lambda fetcher: _look(session, fetcher, get_worker_info())
    )
    telemetry_ends = session.fence.guard(
        "telemetry", lambda batch: session.telemetry.ends(samples_in(batch))
    )

    @functools.wraps(original)
    def fetch(fetcher: Any, indices: Any) -> Any:
        if now() < session.telemetry.due or not telemetry_begins(fetcher):
            return original(fetcher, indices)
        try:
            batch = original(fetcher, indices)
        except BaseException:
            session.telemetry.abandon()
            raise
        telemetry_ends(batch)
        return batch

    return fetch


def _look(session: Session, fetcher: Any, worker: Any) -> bool:
    telemetry = session.telemetry
    if worker is None and get_ident() != session.thread:
        return False
    if worker is not None and telemetry.watch_end:
        telemetry.watch_end = False
        from multiprocessing.util import Finalize

        Finalize(None, session.fence.guard("telemetry", telemetry.flush), exitpriority=0)
    number = os.environ.get(LOADER_VARIABLE)
    if worker is None:
        number = str(session.loader_asked)
    if not telemetry.begins(int(number) if number else -1, worker.id if worker else -1):
        return False
    if not isinstance(fetcher.collate_fn, _TimedCollate):
        fetcher.collate_fn = _TimedCollate(session, fetcher.collate_fn)
    return True


class _TimedCollate:
    """Stands in for a fetcher's collate function, in the process that fetches."""

    def __init__(self, session: Session, collate: Any) -> None:
        self._session, self._collate = session, collate
        self._add = session.fence.guard(
            "telemetry", lambda *times: session.telemetry.collated(*times)
        )

    def __call__(self, samples: Any) -> Any:
        if not self._session.telemetry.looking:
            return self._collate(samples)
        begin, cpu = now(), time.thread_time_ns()
        batch = self._collate(samples)
        self._add(now() - begin, time.thread_time_ns() - cpu)
        return batch


def _time_chain(session: Session, compose: type, method: str) -> None:
    """Time each transform of a torchvision Compose, every fourth call of a batch looked at."""
    original = getattr(compose, method)
    add = session.fence.guard("transforms", lambda *entry: session.telemetry.transformed(*entry))
    calls = [0]

    def timed(transform: Any, inputs: tuple[Any, ...]) -> Any:
        begin = now()
        result = transform(*inputs)
        add(type(transform).__name__, now() - begin)
        return result

    @functools.wraps(original)
    def chain(self: Any, *inputs: Any) -> Any:
        calls[0] += 1
        if not session.telemetry.looking or calls[0] % EVERY_NTH_CALL:
            return original(self, *inputs)
        several = len(inputs) > 1  # v2 passes several inputs through together
        for transform in self.transforms:
            result = timed(transform, inputs)
            inputs = result if several else (result,)
        return inputs if several else inputs[0]

    session.patches.replace(compose, method, chain, reason="time each transform, now and then")
