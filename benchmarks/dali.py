"""Images per second of the image example's loader: by torchvision, and the same loader by DALI.

    python benchmarks/dali.py --out benchmarks/results

The chain is that of examples/imagefolder.py, its files are drawn once into --data. One epoch of
each contender follows the other, forwards and backwards in turn; the ratio is taken round by
round, against the faster of torchvision's two. Nothing is trained meanwhile: this is what loading
alone can give.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pairs
import torch
from torch.utils.data import DataLoader

from speedprof.mitigations.applied.process import Process
from speedprof.profiler.fence import Fence

EXAMPLE = Path(__file__).parent.parent / "examples" / "imagefolder.py"
BAR = 1.3  # times torchvision's best
DALI = "dali"
CONTENDERS = {"torchvision, 0 workers": 0, "torchvision, 2 workers": 2, DALI: 0}


def example() -> ModuleType:
    """Import the example as a module."""
    spec = importlib.util.spec_from_file_location("imagefolder", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["imagefolder"] = module  # workers that are spawned would look for it
    spec.loader.exec_module(module)
    return module


@contextlib.contextmanager
def by_dali(threads: int | None) -> Iterator[Process]:
    """Apply the remedy as `speedprof run --apply dali-loading` does."""
    process = Process(Fence(print), {})
    parameters = {} if threads is None else {"threads": threads}
    process.apply([{"name": "dali-loading", "parameters": parameters}])
    yield process
    process.undo()


def epoch(loader: Any) -> float:
    """Return images per second from asking for the first batch to having the last."""
    began, images = time.perf_counter(), 0
    for batch, _labels in loader:
        images += len(batch)
    return images / (time.perf_counter() - began)


def compare(options: argparse.Namespace, module: ModuleType) -> dict[str, Any]:
    rates: dict[str, list[float]] = {name: [] for name in CONTENDERS}
    with by_dali(options.threads) as process:
        loaders = {name: kept_open(module, options, n) for name, n in CONTENDERS.items()}
        taken = type(loaders[DALI]).__iter__  # as the remedy has it
        plain = taken.__wrapped__
        for _number, name in pairs.interleaved(list(CONTENDERS), options.rounds + 1):
            type(loaders[name]).__iter__ = taken if name == DALI else plain
            rates[name].append(epoch(loaders[name]))
            print(f"{name}: {rates[name][-1]:.0f} images/s", flush=True)
        type(loaders[DALI]).__iter__ = taken
        notes = process.finish()[0]
    kept = {name: found[1:] for name, found in rates.items()}  # the first round warms up
    best = [max(others) for others in zip(*(v for k, v in kept.items() if k != DALI), strict=True)]
    ratio = pairs.estimate([mine / theirs for mine, theirs in zip(kept[DALI], best, strict=True)])
    return {
        "files": options.files,
        "image_size": options.image_size,
        "batch_size": options.batch_size,
        "images_per_s": {name: pairs.estimate(found) for name, found in kept.items()},
        "ratio_to_torchvisions_best": ratio,
        "bar": BAR,
        "met": ratio.low >= BAR,
        "notes": notes["notes"],
    }


def kept_open(module: ModuleType, options: argparse.Namespace, workers: int) -> Any:
    """Return the example's loader; workers stay between epochs, so that starting them is free."""
    loader = module.make_loader(loading(options, workers))
    return DataLoader(
        loader.dataset,
        batch_size=options.batch_size,
        shuffle=True,
        drop_last=True,
        num_workers=workers,
        persistent_workers=workers > 0,
    )


def loading(options: argparse.Namespace, workers: int) -> SimpleNamespace:
    return SimpleNamespace(
        data=options.data,
        image_size=options.image_size,
        batch_size=options.batch_size,
        workers=workers,
        pin_memory=False,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--data", type=Path, default=Path("demo-data/shapes"))
    parser.add_argument("--files", type=int, default=360)
    parser.add_argument("--image-size", type=int, default=112)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--threads", type=int, help="of DALI; one a core unless given")
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    torch.manual_seed(0)
    module = example()
    if not any(options.data.glob("*/*.jpg")):
        module.draw_data(options.data, options.files, 0)
    found = compare(options, module)
    print(f"DALI: {found['ratio_to_torchvisions_best']} times torchvision's best")
    print(pairs.write(options.out, "dali", found))


if __name__ == "__main__":
    main()
