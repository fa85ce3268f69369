"""A DALI pipeline that makes the images of one batch after the other from the files' bytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from speedprof.mitigations.dali.chains import built, drawn
from speedprof.mitigations.dali.graph import Graph
from speedprof.mitigations.dali.shrinking import within
from speedprof.mitigations.dali.steps import Arguments, Step
from speedprof.mitigations.dali.threads import alive

INPUT = "images"  # what the pipeline calls them
FILES, SHRUNK, PIXELS = "files", "shrunk", "pixels"  # sources: encoded, or opened already
EXAMPLE = (480, 640)  # height and width, to learn which arguments there are
SEEDS = 1 << 32  # of torch's generator on the CPU
STRIDE = 0x9E3779B97F4A7C15  # 2^64 over the golden ratio: spreads numbers that follow each other


@dataclass(frozen=True)
class Recipe:
    """All that a pipeline is made of: two equal ones make the same images."""

    chain: tuple[Step, ...]
    gpu: int | None  # the device that decodes, None: the CPU
    threads: int
    most: int  # samples in a batch
    shrink: bool = False  # large JPEGs, while they are decoded
    source: str = FILES  # SHRUNK: pixels of files that were shrunk; PIXELS: of the data set


class Images:
    """The pipeline of a recipe, built; used by one thread at a time."""

    def __init__(self, recipe: Recipe) -> None:
        import torch
        from nvidia.dali import Pipeline

        self.recipe = recipe
        self._stream = None if recipe.gpu is None else torch.cuda.Stream(recipe.gpu)
        self._pipeline = Pipeline(
            batch_size=recipe.most,
            num_threads=recipe.threads,
            device_id=recipe.gpu,
            prefetch_queue_depth=1,  # a batch is asked for when it is wanted
        )
        with self._pipeline:
            self._pipeline.set_outputs(_written(recipe))
        before = alive()
        self._pipeline.build()
        self.threads = alive() - before  # DALI's own; a few of others if they began just now

    def make(self, inputs: list[Any], given: Arguments) -> Any:
        """Return the images as one tensor; None where their sizes differ.

        Raises RuntimeError where a file cannot be decoded; the pipeline is of no use then.
        """
        parameters = {name: _held(value) for name, value in given.items()}
        (made,) = self._pipeline.run(**{INPUT: inputs}, **parameters)
        if not made.is_dense_tensor():
            return None
        return self._owned(made.as_tensor())

    def _owned(self, tensor: Any) -> Any:
        """Return torch's own copy: DALI may use its memory again."""
        import torch

        if self._stream is None:
            return torch.from_dlpack(tensor).clone()
        with torch.cuda.stream(self._stream):  # one: memory that is free again is a stream's
            copy = torch.from_dlpack(tensor).clone()
        self._stream.synchronize()
        return copy


def arguments(chain: tuple[Step, ...], sizes: list[tuple[int, int]], seed: int) -> Arguments:
    """Draw the parameters of every step for images of these heights and widths."""
    import torch

    random = torch.Generator().manual_seed(seed)
    return drawn(chain, random, torch.tensor(sizes))[0]


def seed_of(epoch: int, batch: int) -> int:
    """Return the seed of a batch's parameters, from the number that torch draws for the epoch."""
    return ((epoch + (batch + 1) * STRIDE) ^ (epoch >> 32)) % SEEDS


def _written(recipe: Recipe) -> Any:
    import torch
    from nvidia.dali import fn, types

    opened = recipe.source != FILES
    what: dict[str, Any] = {"ndim": 3, "layout": "HWC"} if opened else {"ndim": 1}
    source = fn.external_source(name=INPUT, device="cpu", dtype=types.UINT8, **what)
    if opened and recipe.gpu is not None:
        source = source.gpu()
    graph = Graph(source, gpu=recipe.gpu is not None, decoded=opened)
    with torch.device("cpu"):  # whatever a script's own default is
        example = arguments(recipe.chain, [EXAMPLE], seed=0)
    if recipe.source == SHRUNK:
        size = torch.tensor([EXAMPLE])
        example = within(example, size, size)
    built(recipe.chain, graph, {name: _source(name, value) for name, value in example.items()})
    return graph.output()


def _source(name: str, value: Any) -> Any:
    """Return an input of the pipeline for one argument, as `value` holds it for one sample."""
    import torch
    from nvidia.dali import fn, types

    kinds = {
        torch.int32: types.INT32,
        torch.float32: types.FLOAT,
        torch.uint8: types.UINT8,
        torch.bool: types.BOOL,
    }
    kind = kinds[value.dtype]
    return fn.external_source(name=name, device="cpu", dtype=kind, ndim=value.dim() - 1)


def _held(value: Any) -> Any:
    return value.contiguous().numpy()
