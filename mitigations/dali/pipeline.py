"""A DALI pipeline that makes the images of one batch after the other from the files' bytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from speedprof.mitigations.dali.graph import Graph
from speedprof.mitigations.dali.shrinking import within
from speedprof.mitigations.dali.steps import Arguments, Step

FILES = "files"
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
    decoded: bool = False  # takes pixels in place of files


class Images:
    """The pipeline of a recipe, built; used by one thread at a time."""

    def __init__(self, recipe: Recipe) -> None:
        from nvidia.dali import Pipeline

        self.recipe = recipe
        self._pipeline = Pipeline(
            batch_size=recipe.most,
            num_threads=recipe.threads,
            device_id=recipe.gpu,
            prefetch_queue_depth=1,  # a batch is asked for when it is wanted
        )
        with self._pipeline:
            self._pipeline.set_outputs(_written(recipe))
        self._pipeline.build()

    def make(self, files: list[Any], given: Arguments) -> Any:
        """Return the images as one tensor; None where their sizes differ.

        Raises RuntimeError where a file cannot be decoded; the pipeline is of no use then.
        """
        inputs = {name: _held(value) for name, value in given.items()}
        (made,) = self._pipeline.run(**{FILES: files}, **inputs)
        if not made.is_dense_tensor():
            return None
        return _owned(made.as_tensor(), self.recipe.gpu)


def arguments(chain: tuple[Step, ...], sizes: list[tuple[int, int]], seed: int) -> Arguments:
    """Draw the parameters of every step for images of these heights and widths."""
    import torch

    random = torch.Generator().manual_seed(seed)
    at = torch.tensor(sizes)
    given: Arguments = {}
    for number, step in enumerate(chain):
        drawn, at = step.draw(random, at)
        given |= {f"{number}_{name}": value for name, value in drawn.items()}
    return given


def seed_of(epoch: int, batch: int) -> int:
    """Return the seed of a batch's parameters, from the number that torch draws for the epoch."""
    return ((epoch + (batch + 1) * STRIDE) ^ (epoch >> 32)) % SEEDS


def _written(recipe: Recipe) -> Any:
    import torch
    from nvidia.dali import fn, types

    what: dict[str, Any] = {"ndim": 3, "layout": "HWC"} if recipe.decoded else {"ndim": 1}
    source = fn.external_source(name=FILES, device="cpu", dtype=types.UINT8, **what)
    graph = Graph(source, gpu=recipe.gpu is not None, decoded=recipe.decoded)
    example = arguments(recipe.chain, [EXAMPLE], seed=0)
    if recipe.decoded:
        size = torch.tensor([EXAMPLE])
        example = within(example, size, size)
    for number, step in enumerate(recipe.chain):
        start = f"{number}_"
        names = [name for name in example if name.startswith(start)]
        given = {name[len(start) :]: _source(name, example[name]) for name in names}
        step.build(graph, given)
    return graph.output()


def _source(name: str, value: Any) -> Any:
    """Return an input of the pipeline for one argument, as `value` holds it for one sample."""
    import torch
    from nvidia.dali import fn, types

    kind = {torch.int32: types.INT32, torch.float32: types.FLOAT}[value.dtype]
    return fn.external_source(name=name, device="cpu", dtype=kind, ndim=value.dim() - 1)


def _held(value: Any) -> Any:
    return value.contiguous().numpy()


def _owned(tensor: Any, gpu: int | None) -> Any:
    """Return torch's own copy: DALI may use its memory again."""
    import torch

    lent = torch.from_dlpack(tensor)
    if gpu is None:
        return lent.clone()
    stream = torch.cuda.Stream(gpu)
    with torch.cuda.stream(stream):
        copy = lent.clone()
    stream.synchronize()
    return copy
