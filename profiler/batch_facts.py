"""What batches are made of, from a look at the first ones of each loader."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

LOOKED_AT = 64  # batches
READ = 8  # batches whose ids are read
MOST_TENSORS = 16  # of a batch
Variant = tuple[tuple[int, ...], ...]  # the shapes of a batch's tensors
IDS = ("int64", "int32")
MOST_READ = 1 << 22  # ids of one tensor


class BatchFacts:
    """Shapes, types and padding of one loader's batches."""

    __slots__ = ("_newest", "_padded", "_read", "dtypes", "left", "shapes", "variants")

    def __init__(self) -> None:
        self.left = LOOKED_AT
        self.shapes: list[list[int]] = []
        self.dtypes: list[str] = []
        self.variants: set[Variant] = set()
        self._newest: Variant | None = None  # that the batch before was the first of
        self._padded = self._read = 0

    def look(self, batch: Any) -> None:
        """Look at one more batch."""
        self.left -= 1
        tensors = list(islice(tensors_in(batch), MOST_TENSORS))
        if not tensors:
            return
        variant = tuple(tuple(tensor.shape) for tensor in tensors)
        self._newest = None if variant in self.variants else variant
        self.variants.add(variant)
        if not self.shapes:
            self.shapes = [list(tensor.shape) for tensor in tensors]
            self.dtypes = [str(tensor.dtype).removeprefix("torch.") for tensor in tensors]
        if LOOKED_AT - self.left <= READ:
            self._read_ids(tensors)

    def ended(self) -> None:
        """Leave out the shape of the last batch of a pass, where that was smaller only."""
        last, self._newest = self._newest, None
        if last is not None and len(self.variants) > 1 and self._is_smaller(last):
            self.variants.discard(last)

    def _is_smaller(self, last: Variant) -> bool:
        """Tell whether a batch is like the first one, of fewer samples."""
        first = [tuple(shape) for shape in self.shapes]
        return len(first) == len(last) and all(
            a == b or (a[1:] == b[1:] and a[:1] > b[:1]) for a, b in zip(first, last, strict=True)
        )

    def fact(self, number: int) -> dict[str, object] | None:
        """Return what was seen, None where no batch held a tensor."""
        if not self.shapes:
            return None
        return {
            "number": number,
            "shapes": self.shapes,
            "dtypes": self.dtypes,
            "distinct": len(self.variants),
            "looked_at": LOOKED_AT - self.left,
            "padding": self._padded / self._read if self._read else None,
        }

    def _read_ids(self, tensors: list[Any]) -> None:
        """Count trailing padding in the first tensor that holds rows of ids."""
        for tensor in tensors:
            padded = trailing_padding(tensor)
            if padded is not None:
                self._padded += padded
                self._read += tensor.numel()
                return


def tensors_in(batch: Any) -> Iterator[Any]:
    """Yield the tensors of a batch in their order, through lists and mappings."""
    if hasattr(batch, "dtype") and hasattr(batch, "shape"):
        yield batch
    elif isinstance(batch, Mapping):
        for value in batch.values():
            yield from tensors_in(value)
    elif isinstance(batch, (tuple, list)):
        for value in batch:
            yield from tensors_in(value)


def trailing_padding(ids: Any) -> int | None:
    """Count the ids at the ends of rows that repeat the commonest last id; None: these are no ids.

    Masks and classes written as 0 and 1 are no ids, and neither is what lies on a device: asking
    it would wait for it.
    """
    if str(getattr(ids, "dtype", "")).removeprefix("torch.") not in IDS or len(ids.shape) != 2:
        return None
    cpu = getattr(getattr(ids, "device", None), "type", None) == "cpu"
    if not cpu or not 1 < ids.shape[1] <= ids.numel() <= MOST_READ or int(ids.max()) <= 1:
        return None
    last = ids[:, -1].mode().values
    return int((ids == last).flip(1).int().cumprod(1).sum())
