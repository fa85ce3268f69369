"""Decode JPEG pictures that are made on the spot: files per second and core, by each decoder.

Runs in the user's interpreter: the standard library and torch, and whatever decoders it has. One
thread decodes from memory to RGB pixels in memory; storage has no part in it. The pictures are of
the size that those of ImageNet have on average, 500 x 375 pixels and about 100 kB.
"""

from __future__ import annotations

import importlib
import io
from collections.abc import Callable
from typing import Any

from speedprof.profiler.roofs.order import Absent, first_line
from speedprof.profiler.roofs.repeats import Plain, level, seconds

WIDTH, HEIGHT, QUALITY = 500, 375, 90
PICTURES = 16
BUDGET_S = 1.2
BATCHES = 4  # for decoders that work ahead
NO_PILLOW = "Pillow is not installed in the script's Python"
NO_TORCHVISION = "torchvision is not installed in the script's Python"
NO_DECODER = "this torchvision has no torchvision.io.decode_jpeg"  # deprecated since 0.29
NO_DALI = "DALI is not installed in the script's Python"

Decoder = Callable[[list[bytes]], Plain]


def measure() -> tuple[Plain, dict[str, str]]:
    """Return the fields of `roofs.Decoding`, and why decoders are absent.

    Raises Absent where no picture can be made.
    """
    files = pictures()
    found: Plain = {
        "width": WIDTH,
        "height": HEIGHT,
        "bytes": sum(map(len, files)) // len(files),
        "images_per_s": {},
    }
    absent = {}
    for name, decoder in _decoders().items():
        rate, why = _tried(decoder, files)
        if why is None:
            found["images_per_s"][name] = rate
        else:
            absent[f"decode: {name}"] = why
    return found, absent


def _tried(decoder: Decoder, files: list[bytes]) -> tuple[Plain | None, str | None]:
    """Return the rate, or why there is none."""
    try:
        return decoder(files), None
    except Absent as why:
        return None, str(why)
    except (RuntimeError, OSError, ImportError, ValueError) as error:
        return None, f"it failed: {first_line(error)}"


def _decoders() -> dict[str, Decoder]:
    import torch

    found: dict[str, Decoder] = {
        "pillow": _pillow, "torchvision": _torchvision, "dali": _dali_on_the_cpu,
    }  # fmt: skip
    if torch.cuda.is_available():
        found |= {"torchvision-gpu": _torchvision_gpu, "dali-gpu": _dali_on_the_gpu}
    return found


def pictures() -> list[bytes]:
    """Return JPEG files of coarse and fine noise, by Pillow or else by torchvision."""
    try:
        return [_by_pillow() for _ in range(PICTURES)]
    except ImportError:
        pass
    try:
        return [_by_torchvision() for _ in range(PICTURES)]
    except ImportError as missing:
        raise Absent(
            "neither Pillow nor torchvision is installed in the script's Python"
        ) from missing


def _by_pillow() -> bytes:
    from PIL import Image

    bands = [Image.effect_noise((WIDTH // 8, HEIGHT // 8), 80) for _ in range(3)]
    coarse = Image.merge("RGB", bands).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
    fine = Image.merge("RGB", [Image.effect_noise((WIDTH, HEIGHT), 60) for _ in range(3)])
    written = io.BytesIO()
    Image.blend(coarse, fine, 0.25).save(written, "JPEG", quality=QUALITY)
    return written.getvalue()


def _by_torchvision() -> bytes:
    import torch
    from torchvision.io import encode_jpeg

    coarse = torch.rand(1, 3, HEIGHT // 8, WIDTH // 8)
    smooth = torch.nn.functional.interpolate(coarse, (HEIGHT, WIDTH), mode="bicubic")[0]
    mixed = 0.75 * smooth + 0.25 * torch.rand(3, HEIGHT, WIDTH)
    encoded = encode_jpeg((255 * mixed.clamp(0, 1)).to(torch.uint8), quality=QUALITY)
    return bytes(encoded.tolist())


def _rate(files: list[bytes], decode: Callable[[], object]) -> Plain:
    return level(lambda: len(files) / seconds(decode), budget_s=BUDGET_S)


def _pillow(files: list[bytes]) -> Plain:
    try:
        from PIL import Image
    except ImportError as missing:
        raise Absent(NO_PILLOW) from missing

    def decode() -> None:
        for file in files:
            Image.open(io.BytesIO(file)).convert("RGB")

    return _rate(files, decode)


def _torchvision(files: list[bytes]) -> Plain:
    decode_jpeg, rgb = _torchvision_decoder()
    tensors = _tensors(files)

    def decode() -> None:
        for tensor in tensors:
            decode_jpeg(tensor, mode=rgb)

    return _alone(lambda: _rate(files, decode))


def _torchvision_gpu(files: list[bytes]) -> Plain:
    import torch

    decode_jpeg, rgb = _torchvision_decoder()
    tensors = _tensors(files)

    def decode() -> None:
        decode_jpeg(tensors, mode=rgb, device="cuda")
        torch.cuda.synchronize()

    return _rate(files, decode)


def _torchvision_decoder() -> tuple[Any, Any]:
    try:
        import torchvision  # noqa: F401
    except ImportError as missing:
        raise Absent(NO_TORCHVISION) from missing
    try:
        from torchvision.io import ImageReadMode, decode_jpeg
    except ImportError as missing:
        raise Absent(NO_DECODER) from missing
    return decode_jpeg, ImageReadMode.RGB


def _tensors(files: list[bytes]) -> list[Any]:
    import torch

    return [torch.frombuffer(bytearray(file), dtype=torch.uint8) for file in files]


def _alone(measured: Callable[[], Plain]) -> Plain:
    """Measure with one thread of torch's."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return measured()
    finally:
        torch.set_num_threads(threads)


def _dali_on_the_cpu(files: list[bytes]) -> Plain:
    return _dali(files, gpu=None)


def _dali_on_the_gpu(files: list[bytes]) -> Plain:
    return _dali(files, gpu=0)


def _dali(files: list[bytes], *, gpu: int | None) -> Plain:
    """Measure DALI's decoder on one thread, or on a GPU ("mixed": the thread parses)."""
    try:
        import numpy as np

        dali: Any = importlib.import_module("nvidia.dali")
        fn: Any = importlib.import_module("nvidia.dali.fn")
    except ImportError as missing:
        raise Absent(NO_DALI) from missing
    arrays = [np.frombuffer(file, np.uint8) for file in files]
    pipeline = dali.Pipeline(batch_size=len(files), num_threads=1, device_id=gpu)
    with pipeline:
        encoded = fn.external_source(source=lambda: arrays, dtype=dali.types.UINT8, ndim=1)
        device = "cpu" if gpu is None else "mixed"
        pixels = fn.decoders.image(encoded, device=device, output_type=dali.types.RGB)
        pipeline.set_outputs(pixels)
    pipeline.build()

    def several() -> None:
        for _ in range(BATCHES):
            pipeline.run()

    return level(lambda: BATCHES * len(files) / seconds(several), budget_s=BUDGET_S, warmups=2)
