"""Workers that speedprof added and that fail are taken back: the pass goes on without them."""

from __future__ import annotations

import contextlib
import functools
import multiprocessing.queues
import pickle
import signal
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from speedprof.mitigations.applied.hindrances import hindrance, start_method
from speedprof.mitigations.applied.process import Applied, Process
from speedprof.mitigations.applied.random_states import RandomStates

if TYPE_CHECKING:
    Queue = multiprocessing.queues.Queue[Any]
    TorchsPass = Any  # by workers; mixed in when torch is there
else:
    Queue, TorchsPass = multiprocessing.queues.Queue, object

POLL_S = 1.0  # between two looks at whether the workers are alive
STALLED_S = 120.0  # without a batch: forked in the middle of a lock, workers wait for ever
LONGEST = 200  # characters of an error in a note
# What torch raises of workers that are lost, and what building a batch from what they sent can
# raise. Errors of the data set itself are no exceptions here: workers send them as values.
LOST = (
    RuntimeError, OSError, EOFError, AssertionError, AttributeError, ImportError, LookupError,
    MemoryError, TypeError, ValueError, pickle.PickleError, Warning,
)  # fmt: skip
TakeBack = Callable[[Any, Any, str], None]  # a loader if it is alive, its data set, and why


class Fallback:
    """The loaders that were given workers although the script asked for none."""

    def __init__(self, process: Process, one: Applied) -> None:
        from torch.utils.data import DataLoader

        self._one = one
        self._given: weakref.WeakValueDictionary[int, Any] = weakref.WeakValueDictionary()
        self._failed: dict[tuple[type, int], str] = {}  # by class and length of a data set
        original = DataLoader._get_iterator
        begin = process.fence.guard(f"remedy {one.name}: begin", self._begin)

        @functools.wraps(original)
        def get_iterator(loader: Any) -> Any:
            begun = begin(loader)
            return original(loader) if begun is None else begun

        process.patches.replace(
            DataLoader, "_get_iterator", get_iterator, reason=f"{one.name}: workers that may fail"
        )

    def watch(self, loader: Any) -> None:
        self._given[id(loader)] = loader

    def copied(self, loader: Any) -> None:
        """Watch a loader that a library has made of one of these, with the same arguments."""
        if any(
            one.dataset is loader.dataset and one.num_workers == loader.num_workers
            for one in list(self._given.values())
        ):
            self.watch(loader)

    def _begin(self, loader: Any) -> Any:
        """Return a pass by workers that may fail; None where torch's own is to begin."""
        if id(loader) not in self._given or not loader.num_workers:
            return None
        why = self._failed.get(_kind(loader.dataset))  # a loader that is built anew each epoch
        why = why or hindrance(loader.dataset, "fork")  # what was opened since it was built
        if why is None:
            states = RandomStates(loader.generator, getattr(loader.sampler, "generator", None))
            try:
                with _undecided(loader):
                    return pass_class()(loader, self._take_back)
            except LOST as error:
                why = shown(error)
            states.restore()
        self._take_back(loader, loader.dataset, why)
        return None

    def _take_back(self, loader: Any, dataset: Any, why: str) -> None:
        """Leave the loader as the script has built it."""
        if loader is not None:
            plain = {"num_workers": 0, "prefetch_factor": None, "persistent_workers": False}
            vars(loader).update(plain)  # torch's own setter refuses
            self._given.pop(id(loader), None)
        self._failed[_kind(dataset)] = why
        self._one.effects -= 1
        self._one.note(f"a loader of {type(dataset).__name__} lost its workers again: {why}")


class WatchedPass(TorchsPass):  # type: ignore[misc]
    """Torch's own pass by workers, until they fail; from there on its batches are made here.

    Indices are drawn as before, and remembered until their batch was delivered: the order
    stays. Torch's handler of SIGCHLD raises wherever the script is at the moment; here it is
    only let do so while a batch is waited for.
    """

    _shutdown, _worker_pids_set = True, False  # as long as there are no workers

    def __init__(self, loader: Any, take_back: TakeBack) -> None:
        self._loader, self._take_back = weakref.ref(loader), take_back
        self._drawn: dict[int, Any] = {}  # indices of batches that were not delivered
        self._alone = False
        self._failure: Any = None  # what a worker has sent in place of a batch
        self._by_the_script = False  # its sampler has failed
        super().__init__(loader)

    @property
    def _worker_result_queue(self) -> Any:
        return self.__dict__["_worker_result_queue"]

    @_worker_result_queue.setter
    def _worker_result_queue(self, queue: Any) -> None:
        """Let the workers' queue tell of what it could not send, before they are started."""
        if type(queue) is multiprocessing.queues.Queue:
            queue.__class__ = TellingQueue
        self.__dict__["_worker_result_queue"] = queue

    def _reset(self, loader: Any, first_iter: bool = False) -> None:
        self._listen(False)
        self._drawn.clear()
        self._by_the_script = False
        if not first_iter:
            _draw_a_seed(loader.generator)
        try:
            super()._reset(loader, first_iter)
        except LOST as error:
            if first_iter or self._by_the_script:
                raise
            self._go_on_alone(shown(error), gently=False)

    def _next_index(self) -> Any:
        try:
            index = super()._next_index()
        except StopIteration:
            raise
        except BaseException:
            self._by_the_script = True
            raise
        if not self._alone:
            self._drawn[self._send_idx] = index
        return index

    def _next_data(self) -> Any:
        self._by_the_script = False
        if self._alone:
            return self._made_here(self._next_drawn())
        try:
            batch = super()._next_data()
        except LOST as error:
            if self._by_the_script:
                raise
            why = shown(error)
        else:
            return self._delivered(batch)
        self._go_on_alone(why, gently=False)
        return self._made_here(self._next_drawn())

    def _delivered(self, batch: Any) -> Any:
        index = self._drawn.pop(next(k for k in self._drawn if k not in self._task_info))
        failure, self._failure = self._failure, None
        if failure is None:
            return batch
        made = self._made_here(index)  # raises what the script's own data set raises
        self._go_on_alone(_told(failure), gently=True)
        return made

    def _process_data(self, data: Any, *rest: Any) -> Any:
        from torch._utils import ExceptionWrapper

        if isinstance(data, ExceptionWrapper):
            self._failure, data = data, None
        return super()._process_data(data, *rest)

    def _get_data(self) -> Any:
        self._waiting_since = time.monotonic()
        try:
            self._listen(True)
            lost = [worker for worker in self._workers if not worker.is_alive()]
            if lost:
                raise RuntimeError(_ended(lost[0]))
            return super()._get_data()
        finally:
            self._listen(False)

    def _try_get_data(self, timeout: float | None = None) -> Any:
        got = super()._try_get_data(POLL_S if timeout is None else timeout)
        if not got[0] and time.monotonic() - self._waiting_since > STALLED_S:
            raise RuntimeError(f"no batch came in {STALLED_S:g} s")
        return got

    def _listen(self, wanted: bool) -> None:
        """Let torch's handler of SIGCHLD raise for these workers, or no longer."""
        from torch.utils.data._utils import signal_handling as signals

        if self._worker_pids_set:
            self._worker_pids_set = False
            with contextlib.suppress(ValueError):  # interrupted before they were known
                signals._remove_worker_pids(id(self))
        if wanted and threading.current_thread() is threading.main_thread():
            self._worker_pids_set = True
            signals._set_worker_pids(id(self), tuple(one.pid for one in self._workers))

    def _go_on_alone(self, why: str, *, gently: bool) -> None:
        self._alone = True
        self._listen(False)
        if gently:
            self._shutdown_workers()
        else:
            self._end_workers()
        self._take_back(self._loader(), self._dataset, why)

    def _end_workers(self) -> None:
        """End workers of which some are lost: nothing that they share can be relied on."""
        self._shutdown = True
        if hasattr(self, "_pin_memory_thread"):
            self._pin_memory_thread_done_event.set()
        for worker in self._workers:
            worker.terminate()
        for worker in self._workers:
            worker.join(POLL_S)
            if worker.is_alive():
                worker.kill()

    def _next_drawn(self) -> Any:
        if self._drawn:
            return self._drawn.pop(min(self._drawn))
        return self._next_index()

    def _made_here(self, index: Any) -> Any:
        """Make a batch as a loader without workers does."""
        data = self._fetcher.fetch(index)
        if not self._pin_memory:
            return data
        from torch.utils.data import _utils

        return _utils.pin_memory.pin_memory(data, self._pin_memory_device)

    @functools.cached_property
    def _fetcher(self) -> Any:
        from torch.utils.data.dataloader import _DatasetKind

        return _DatasetKind.create_fetcher(
            self._dataset_kind,
            self._dataset,
            self._auto_collation,
            self._collate_fn,
            self._drop_last,
        )


@functools.cache
def pass_class() -> Any:
    """Return torch's iterator, watched; a function, since torch is imported late."""
    from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

    return type("PassByWorkers", (WatchedPass, _MultiProcessingDataLoaderIter), {})


class TellingQueue(Queue):
    """A queue of workers' batches: one that cannot be sent is told of, and not only dropped."""

    def _on_queue_feeder_error(self, error: Exception, item: Any) -> None:
        from torch._utils import ExceptionWrapper

        if not isinstance(item, tuple) or isinstance(item[-1], ExceptionWrapper):
            super()._on_queue_feeder_error(error, item)  # type: ignore[misc]
            return
        told = RuntimeError(f"a batch could not be sent: {shown(error)}")
        self.put((item[0], ExceptionWrapper((RuntimeError, told, None), "in a loader's worker")))


def _kind(dataset: Any) -> tuple[type, int]:
    return type(dataset), len(dataset) if hasattr(dataset, "__len__") else -1


@contextlib.contextmanager
def _undecided(loader: Any) -> Iterator[None]:
    """Start workers without a word on how the script starts processes of its own.

    Torch would fix the way of all of them, and `set_start_method` raise afterwards.
    """
    name, held = "_DataLoader__multiprocessing_context", vars(loader)
    own = held.get(name)
    held[name] = own or multiprocessing.get_context(start_method())
    try:
        yield
    finally:
        held[name] = own


def _draw_a_seed(generator: Any) -> None:
    """Draw what each pass without workers draws, and workers that persist do not.

    The order of samples stays the script's own in every epoch, and so do its own draws.
    """
    import torch

    torch.empty((), dtype=torch.int64).random_(generator=generator)


def shown(error: BaseException) -> str:
    """Return an error as one line of a note."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else ''}"[:LONGEST]


def _told(failure: Any) -> str:
    """Return what a worker has sent of its error as one line."""
    name = failure.exc_type.__name__
    lines = [line.strip() for line in failure.exc_msg.splitlines() if line.strip()]
    line = next((one for one in reversed(lines) if one.partition(":")[0].endswith(name)), name)
    return f"{line} (in a worker)"[:LONGEST]


def _ended(worker: Any) -> str:
    code = worker.exitcode
    if code is not None and code < 0:
        return f"worker {worker.pid} was killed by {signal.Signals(-code).name}"
    return f"worker {worker.pid} ended with {code}"
