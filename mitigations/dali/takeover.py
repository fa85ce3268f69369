"""Which of the script's loaders DALI takes over, and on what terms."""

from __future__ import annotations

import atexit
import functools
import math
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

from speedprof.mitigations.applied.words import DALI_REMARK, DALI_TABLE
from speedprof.mitigations.dali.costs import ledger
from speedprof.mitigations.dali.datasets import Files, files, mostly_odd
from speedprof.mitigations.dali.engine import Engine, first_line
from speedprof.mitigations.dali.loader import Making, pass_class
from speedprof.mitigations.dali.memory import room
from speedprof.mitigations.dali.pipeline import Recipe
from speedprof.mitigations.dali.proxies import Known, Own
from speedprof.mitigations.dali.shrinking import SHRINKING, possible
from speedprof.mitigations.dali.stage import RefusedError
from speedprof.mitigations.dali.translation import Translation, translate
from speedprof.profiler import node

MOST_BYTES = 2 << 30  # of pixels that wait for DALI: torch's workers hold an image each
# Measured: the transform alone, by DALI, costs as much CPU (benchmarks/dali.py --chains).
WORKING = "it opens its samples itself, and its workers do the rest as cheaply"
FAILURES = (RuntimeError, TypeError, ValueError, ImportError)  # of building a pipeline


@dataclass(frozen=True, kw_only=True)
class Terms:
    """What the plan says."""

    threads: int | None  # of DALI; None: one for each core that the process may use
    prefetch: int  # batches made at the same time, and as many waiting
    validation: bool  # loaders without anything random, too
    gpu: bool
    shrink: bool  # large JPEGs, while they are decoded


class Takeover:
    """The loaders of one training process, each with its engine."""

    def __init__(
        self, terms: Terms, note: Callable[[str], None], guard: Callable[..., Any]
    ) -> None:
        self._terms, self._note, self._guard = terms, note, guard
        self._engines: weakref.WeakKeyDictionary[Any, Engine] = weakref.WeakKeyDictionary()
        self._given_up: weakref.WeakSet[Any] = weakref.WeakSet()
        self._told: weakref.WeakKeyDictionary[Any, Translation] = weakref.WeakKeyDictionary()
        self._known: weakref.WeakKeyDictionary[Any, Known] = weakref.WeakKeyDictionary()
        self._refused: weakref.WeakKeyDictionary[Any, str] = weakref.WeakKeyDictionary()
        self._again: weakref.WeakKeyDictionary[Any, int] = weakref.WeakKeyDictionary()
        self.taken = 0  # loaders

    def begin(self, loader: Any) -> Any:
        """Return a pass over the loader by DALI, None where the loader stays as it is."""
        if loader in self._given_up:
            return None
        try:
            _check(loader)
            data, translation = self._understood(loader)
            recipe = self._recipe(loader, translation, data)
            engine = self._engine(loader, recipe)
        except RefusedError as refusal:
            self._note(f"{_named(loader)} stays as it is: {refusal}")
            return None
        keeping = loader.persistent_workers and loader in self._told
        self._again[loader] = self._again.get(loader, 0) + keeping
        making = Making(
            engine=engine,
            data=data,
            ahead=2 * self._terms.prefetch,
            again=self._again[loader],
            note=self._note,
            give_up=functools.partial(self._given_up.add, loader),
        )
        self._tell(loader, translation, recipe, data)
        with _nothing_drawn(loader.generator) if keeping else nullcontext():
            return pass_class()(loader, making)

    def close(self) -> None:
        """End the threads of every loader."""
        atexit.unregister(self.close)
        for engine in list(self._engines.values()):
            engine.close()
        self._engines.clear()

    def _understood(self, loader: Any) -> tuple[Files | Own, Translation]:
        """Return who opens the loader's samples, DALI or the data set itself, and the chain."""
        data, no_files = _opening(loader.dataset)
        translation = self._translated(loader, data)
        if isinstance(data, Files):
            self._look(loader, data)
            return data, translation
        if loader.num_workers and not self._terms.gpu:
            raise RefusedError(f"{no_files}; {WORKING}")
        self._refuse_again(loader)
        try:
            if loader not in self._known:
                self._known[loader] = self._seen(loader, data.look())
            data.use(self._known[loader])
        except RefusedError as refusal:
            raise self._always(loader, f"{no_files}; {refusal}") from refusal
        return data, self._translated(loader, data)

    def _seen(self, loader: Any, known: Known) -> Known:
        """Return what samples are like; raise RefusedError where they would take much memory."""
        most = min(MOST_BYTES, room(self._device()))
        _check_memory(known.image_bytes * _largest(loader) * self._terms.prefetch, most)
        return known

    def _look(self, loader: Any, data: Files) -> None:
        """Raise RefusedError where DALI would leave most files to the data set; look once."""
        self._refuse_again(loader)
        why = None if loader in self._told else mostly_odd(data)
        if why is not None:
            raise self._always(loader, f"most of its files are not for DALI: {why}")

    def _refuse_again(self, loader: Any) -> None:
        if loader in self._refused:
            raise RefusedError(self._refused[loader])

    def _always(self, loader: Any, why: str) -> RefusedError:
        """Return a refusal that holds for the loader's later passes, too."""
        self._refused[loader] = why
        return RefusedError(why)

    def _translated(self, loader: Any, data: Files | Own) -> Translation:
        translation, *others = (translate(one, data.channels) for one in data.transforms)
        if any(other != translation for other in others):
            raise RefusedError("its parts have different transforms")
        refused = [str(row) for row in translation.rows if row.became is None]
        if refused:
            raise RefusedError("; ".join(refused))
        shuffled = _shuffles(loader)
        if not (shuffled or translation.random or self._terms.validation):
            raise RefusedError("nothing in it is random, as in validation (validation = true)")
        return translation

    def _recipe(self, loader: Any, translation: Translation, data: Files | Own) -> Recipe:
        terms = self._terms
        return Recipe(
            chain=translation.chain or (),
            gpu=self._device(),
            threads=max(self._threads() // terms.prefetch, 1),
            most=_largest(loader),
            shrink=terms.shrink and not terms.gpu,
            source=data.source,
        )

    def _threads(self) -> int:
        return self._terms.threads or math.ceil(node.limits(None).cores)

    def _device(self) -> int | None:
        return _device() if self._terms.gpu else None

    def _engine(self, loader: Any, recipe: Recipe) -> Engine:
        """Return the loader's engine, a new one where its transform was changed."""
        engine = self._engines.get(loader)
        if engine is not None and engine.alive and engine.recipe == recipe:
            return engine
        if engine is not None:
            engine.close()
        try:
            engine = Engine(
                recipe,
                self._terms.prefetch,
                self._guard,
                readers=self._threads(),
                room=room(recipe.gpu),
                ledger=ledger(),
            )
        except FAILURES as error:
            self._given_up.add(loader)
            raise RefusedError(f"DALI cannot build its pipeline: {first_line(error)}") from error
        self._engines[loader] = engine
        atexit.unregister(self.close)
        atexit.register(self.close)  # before DALI's own ending, which takes the pipelines away
        weakref.finalize(loader, engine.close)
        return engine

    def _tell(
        self, loader: Any, translation: Translation, recipe: Recipe, data: Files | Own
    ) -> None:
        if self._told.get(loader) == translation:
            return
        self.taken += loader not in self._told
        self._told[loader] = translation
        rows = [str(row) for row in translation.rows]
        rows += [SHRINKING] if recipe.shrink and possible(recipe.chain) else []
        told = f"{_named(loader)} {DALI_TABLE}: {data.told}{'; '.join(rows)}"
        self._note(f"{told}. {DALI_REMARK}")


def _opening(dataset: Any) -> tuple[Files | Own, str]:
    """Return who opens the samples of a data set, and why it is not DALI."""
    try:
        return files(dataset), ""
    except RefusedError as no_files:
        try:
            return Own(dataset), str(no_files)
        except RefusedError as no_proxy:
            raise RefusedError(f"{no_files}; {no_proxy}") from no_proxy


def _check(loader: Any) -> None:
    """Raise RefusedError where the loader's batches are made in another way than most are."""
    from torch.utils.data import DataLoader, IterableDataset, default_collate

    if isinstance(loader.dataset, IterableDataset):
        raise RefusedError("its data set is a stream, without numbered samples")
    if type(loader)._get_iterator is not DataLoader._get_iterator:
        raise RefusedError(f"{type(loader).__name__} makes its passes itself")
    if not loader._auto_collation:
        raise RefusedError("it has no batches (batch_size=None)")
    if loader.collate_fn is not default_collate:
        raise RefusedError("it has a collate_fn of its own")
    if loader.num_workers == 0 and _keeps_state(loader):
        raise RefusedError("its sampler keeps a state, and DALI asks for indices ahead")


def _check_memory(pixels: int, most: int) -> None:
    """Raise RefusedError where the images of the batches in the making would take too much."""
    if pixels > most:
        raise RefusedError(
            f"its images as pixels would take {pixels / (1 << 30):.1f} GiB at a time, "
            f"of {most / (1 << 30):.1f} at most; smaller ones, or prefetch = 1, take less"
        )


def _keeps_state(loader: Any) -> bool:
    """Tell whether a sampler can be saved amid an epoch, so that its position counts."""
    samplers = (loader.sampler, loader.batch_sampler)
    inner = [getattr(sampler, "sampler", None) for sampler in samplers]
    return any(hasattr(sampler, "state_dict") for sampler in (*samplers, *inner))


def _largest(loader: Any) -> int:
    """Return the most samples in a batch, as far as the sampler tells."""
    size = loader.batch_size or getattr(loader.batch_sampler, "batch_size", None)
    if not isinstance(size, int):
        raise RefusedError("its batch_sampler does not say how large a batch is")
    return size


def _shuffles(loader: Any) -> bool:
    from torch.utils.data import SequentialSampler

    sampler = loader.sampler if loader.batch_size else loader.batch_sampler
    inner = getattr(sampler, "sampler", sampler)
    return not (isinstance(inner, SequentialSampler) or getattr(inner, "shuffle", True) is False)


@contextmanager
def _nothing_drawn(generator: Any) -> Iterator[None]:
    """Leave a generator as it is: workers that persist are given no seed for a second pass."""
    import torch

    drawn = generator or torch.default_generator
    kept = drawn.get_state()
    yield
    drawn.set_state(kept)


def _device() -> int:
    import torch

    if not torch.cuda.is_available():
        raise RefusedError("the plan wants images decoded on a GPU, and there is none")
    return int(torch.cuda.current_device())


def _named(loader: Any) -> str:
    dataset = loader.dataset
    inner = dataset
    while hasattr(inner, "indices") and hasattr(inner, "dataset"):
        inner = inner.dataset
    kind = type(dataset).__name__
    if inner is not dataset:
        kind = f"{kind} of {type(inner).__name__}"
    return f"the loader of {kind}{_counted(dataset)}"


def _counted(dataset: Any) -> str:
    """Say how many samples there are, nothing where the data set does not tell."""
    try:
        return f" ({len(dataset)} samples)"
    except (TypeError, NotImplementedError):
        return ""
