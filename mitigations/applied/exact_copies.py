"""Samples as bytes, and back: the same types, values and layouts, in memory of their own."""

from __future__ import annotations

import io
import pickle
import struct
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from speedprof.mitigations.applied.shared_memory import whole

Part = bytes | bytearray | memoryview
Hole = tuple[int, Any]  # the result of which call, and its key where only a part of it is meant
REFUSALS = (pickle.PicklingError, TypeError, AttributeError, ValueError, RuntimeError)
WIDEST = 2  # times the elements of a tensor that its memory may span, to be kept as it lies
VIEWS = ("Image", "Mask", "Video")  # of torchvision's tensors, those that are nothing but a class
MODES = ("1", "L", "LA", "RGB", "RGBA", "CMYK", "YCbCr", "HSV", "LAB", "I", "F", "I;16")


class _Packer(pickle.Pickler):
    """Pickles with large memory beside it, and holes where results of calls will be put."""

    def __init__(self, file: io.BytesIO, holes: Mapping[int, Hole]) -> None:
        super().__init__(file, protocol=5, buffer_callback=self._beside)
        self._holes = holes
        self._ours: dict[int, pickle.PickleBuffer] = {}
        self.parts: list[Part] = []
        self.filled: set[int] = set()  # calls whose results were met

    def persistent_id(self, value: Any) -> Hole | None:
        hole = self._holes.get(id(value))
        if hole is not None:
            self.filled.add(hole[0])
        return hole

    def reducer_override(self, value: Any) -> Any:
        reduced = _reduced(value)
        if reduced is None:
            return NotImplemented
        memory = reduced[1][-1]
        if memory is not None:
            self._ours[id(memory)] = memory
        return reduced

    def _beside(self, buffer: pickle.PickleBuffer) -> bool:
        """Take a copy of memory; what other classes would share with us stays in the pickle."""
        if id(buffer) not in self._ours:
            return True
        raw = buffer.raw()
        self.parts.append(raw if type(raw.obj) is bytes else bytearray(raw))  # bytes never change
        return False


class _Unpacker(pickle.Unpickler):
    def __init__(self, parts: Sequence[Part], results: Sequence[Any]) -> None:
        super().__init__(io.BytesIO(parts[0]), buffers=parts[1:])
        self._results = results

    def persistent_load(self, hole: Any) -> Any:
        call, key = hole
        return self._results[call] if key is None else self._results[call][key]


def pack(value: Any, holes: Mapping[int, Hole] | None = None) -> tuple[list[Part], set[int]]:
    """Return a value as parts, and the calls that it has holes for (`holes`: by id of a result).

    Raises one of REFUSALS where the value cannot be kept exactly.
    """
    file = io.BytesIO()
    packer = _Packer(file, holes or {})
    packer.dump(value)
    return [file.getvalue(), *packer.parts], packer.filled


def same(one: Any, other: Any) -> bool:
    """Tell whether two values are equal to the last bit, types and layouts too.

    Which of their parts are one object plays no role. Raises one of REFUSALS.
    """
    return _plain(one) == _plain(other)


def _plain(value: Any) -> list[Part]:
    file = io.BytesIO()
    packer = _Packer(file, {})
    packer.fast = True  # without what refers to objects that came before
    packer.dump(value)
    return [file.getvalue(), *packer.parts]


def unpack(parts: Sequence[Part], results: Sequence[Any] = ()) -> Any:
    """Return the value, in memory of its own, with results of calls in its holes."""
    return _Unpacker(parts, results).load()


def lengths(parts: Sequence[Part]) -> bytes:
    """Return a part that says how many others follow it, and how long each is."""
    return struct.pack(f"<{len(parts) + 1}q", len(parts), *map(len, parts))


def parted(view: memoryview) -> list[memoryview]:
    """Return the parts that follow such a one, as they lie in memory."""
    (count,) = struct.unpack_from("<q", view)
    sizes = struct.unpack_from(f"<{count}q", view, 8)
    begin, parts = whole(8 * (count + 1)), []
    for size in sizes:
        parts.append(view[begin : begin + size])
        begin += whole(size)
    return parts


def _reduced(value: Any) -> tuple[Any, tuple[Any, ...]] | None:
    """Return how large values are made again: a function and arguments, the last the memory."""
    torch, numpy, images = (sys.modules.get(name) for name in ("torch", "numpy", "PIL.Image"))
    if torch is not None and isinstance(value, torch.Tensor):
        return _tensor(value)
    if images is not None and isinstance(value, images.Image):
        return _image(value, images.Image)
    if numpy is not None and type(value) is numpy.ndarray:
        return _array(value)
    return None


def _tensor(tensor: Any) -> tuple[Any, tuple[Any, ...]]:
    import torch

    kind = type(tensor)
    plain = kind is torch.Tensor or _is_view(kind)
    strange = tensor.requires_grad or tensor.is_conj() or tensor.is_neg() or vars(tensor)
    if not plain or strange or tensor.device.type != "cpu" or tensor.layout != torch.strided:
        raise pickle.PicklingError(f"a {kind.__name__} of this kind is not kept")
    flat = tensor.detach().as_subclass(torch.Tensor)
    shape, strides = tuple(flat.shape), flat.stride()
    if not flat.numel():
        return _tensor_again, (kind, flat.dtype, shape, strides, None)
    span = 1 + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
    if span > WIDEST * flat.numel():
        raise pickle.PicklingError("a tensor that is a small part of a large one is not kept")
    memory = flat.as_strided((span,), (1,)).view(torch.uint8).numpy()
    return _tensor_again, (kind, flat.dtype, shape, strides, pickle.PickleBuffer(memory))


def _tensor_again(kind: Any, dtype: Any, shape: Any, strides: Any, memory: Any) -> Any:
    import torch

    if memory is None:
        tensor = torch.empty_strided(shape, strides, dtype=dtype)
    else:
        flat = torch.frombuffer(memory, dtype=torch.uint8).clone().view(dtype)
        tensor = flat.as_strided(shape, strides)
    return tensor if kind is torch.Tensor else tensor.as_subclass(kind)


def _is_view(kind: Any) -> bool:
    return kind.__module__.startswith("torchvision.tv_tensors") and kind.__name__ in VIEWS


def _array(array: Any) -> tuple[Any, tuple[Any, ...]] | None:
    lies = array.flags.c_contiguous or array.flags.f_contiguous
    if array.dtype.hasobject or not lies or not array.size:
        return None  # into the pickle itself
    order = "C" if array.flags.c_contiguous else "F"
    memory = pickle.PickleBuffer(array.reshape(-1, order=order).view("u1"))
    return _array_again, (array.dtype, array.shape, order, array.flags.writeable, memory)


def _array_again(dtype: Any, shape: Any, order: Any, writeable: Any, memory: Any) -> Any:
    import numpy as np

    array = np.frombuffer(bytearray(memory), dtype=dtype).reshape(shape, order=order)
    array.flags.writeable = writeable
    return array


def _image(image: Any, kind: Any) -> tuple[Any, tuple[Any, ...]]:
    if type(image) is not kind or image.mode not in MODES:
        raise pickle.PicklingError(f"a {type(image).__name__} of mode {image.mode} is not kept")
    memory = pickle.PickleBuffer(image.tobytes())
    return _image_again, (image.mode, image.size, image.info, memory)


def _image_again(mode: str, size: tuple[int, int], info: dict[Any, Any], memory: Any) -> Any:
    from PIL import Image

    image = Image.frombytes(mode, size, memory)
    image.info = info
    return image
