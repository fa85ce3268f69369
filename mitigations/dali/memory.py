"""How much memory images may take on their way: a share of what is free, in parts that fit."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Sequence

from speedprof.mitigations.applied.shared_memory import free_bytes, ranks_here
from speedprof.mitigations.dali.steps import RESIZING, Step

SHARE = 8  # one part in so many of the free memory, for what is being made; as much for what waits
UNKNOWN = 8 << 30  # bytes that are taken to be free where the system does not tell
MOST_ENCODED = 256 << 20  # bytes of files that a batch holds; what is more is read again
# Bytes a pixel: decoded, and of all that is made of it then. Measured for batches whose first step
# keeps the size: 22 (RandAugment) to 52 (ColorJitter of four factors), decoding included.
DECODED, WORKED_ON = 3, 48


def room(gpu: int | None) -> int:
    """Return the bytes that the images of one loader may take in this process.

    The ranks of a machine share its memory; images on a GPU take that of the GPU, too.
    """
    free = free_bytes()
    here = (UNKNOWN if free is None else free) // SHARE // ranks_here()
    return here if gpu is None else min(here, _free_on(gpu) // SHARE)


def weights(
    chain: tuple[Step, ...], sizes: Sequence[tuple[int, int]], few: Sequence[int]
) -> list[int]:
    """Return the bytes that each image takes while it is made.

    `few` tells by how much each is shrunk while it is decoded. Most chains begin with a step that
    makes images small; what follows it holds several copies of the image, of floats.
    """
    import torch

    found = torch.tensor(sizes)
    after = found
    if chain and isinstance(chain[0], RESIZING):
        _given, after = chain[0].draw(torch.Generator(), found)
    decoded = found.prod(dim=1) // torch.tensor(few) ** 2
    whole: list[int] = (DECODED * decoded + WORKED_ON * after.prod(dim=1)).tolist()
    return whole


def portions(
    places: Sequence[int], sizes: Sequence[int], *, most: int, fits: int
) -> Iterator[list[int]]:
    """Yield places, in their order, in parts of at most so many and of so many bytes together.

    `sizes` has the bytes of every place; one that fits nowhere is a part of its own.
    """
    part: list[int] = []
    held = 0
    for place in places:
        if part and (len(part) == most or held + sizes[place] > fits):
            yield part
            part, held = [], 0
        part.append(place)
        held += sizes[place]
    if part:
        yield part


def give_back() -> None:
    """Give the system what is free again: between large images, the C library would keep it.

    Measured: eight images of 6 megapixels through ColorJitter, one by one, take 3.7 GB without.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's alone
    if trim is not None:
        trim(0)


def _free_on(gpu: int) -> int:
    import torch

    return int(torch.cuda.mem_get_info(gpu)[0])
