"""What a batch costs where it is made: in the workers, or on the training thread itself."""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Callable
from threading import get_ident
from types import ModuleType
from typing import TYPE_CHECKING, Any

from speedprof.profiler.loader_facts import samples_in
from speedprof.profiler.worker_telemetry import LOADER_VARIABLE

if TYPE_CHECKING:
    from speedprof.profiler.session import Session

Waiting = dict[str, Callable[[ModuleType], None]]
now = time.perf_counter_ns
EVERY_NTH_CALL = 4  # of a transform chain, while a batch is looked at


def install(session: Session, waiting: Waiting) -> None:
    from torch.utils.data import _utils

    for fetcher in (_utils.fetch._MapDatasetFetcher, _utils.fetch._IterableDatasetFetcher):
        session.patches.replace(
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
