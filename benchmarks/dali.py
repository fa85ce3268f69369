"""Images per second of the image example's loader: by torchvision, and the same loader by DALI.

    python benchmarks/dali.py --out benchmarks/results
    python benchmarks/dali.py --out benchmarks/results --chains

The chain is that of examples/imagefolder.py, its files are drawn once into --data. One epoch of
each contender follows the other, forwards and backwards in turn; the ratio is taken round by
round, against the faster of torchvision's two. Nothing is trained meanwhile: this is what loading
alone can give.

With --gpu, DALI decodes on the GPU, and torchvision's batches are copied there (not run so far).

With --chains: the CPU time of an image, all threads together, of several chains, for a folder and
for a data set that opens its files itself. Other programs hardly change it.
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
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms
from torchvision.datasets import ImageFolder

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
def by_dali(options: argparse.Namespace) -> Iterator[Process]:
    """Apply the remedy as `speedprof run --apply dali-loading` does."""
    process = Process(Fence(print), {})
    parameters = {"gpu": options.gpu}
    if options.threads is not None:
        parameters["threads"] = options.threads
    process.apply([{"name": "dali-loading", "parameters": parameters}])
    yield process
    process.undo()


def epoch(loader: Any, gpu: bool) -> float:
    """Return images per second from asking for the first batch to having the last (on the GPU)."""
    began, images = time.perf_counter(), 0
    for batch, _labels in loader:
        images += len(batch.cuda() if gpu else batch)
    if gpu:
        torch.cuda.synchronize()
    return images / (time.perf_counter() - began)


def compare(options: argparse.Namespace, module: ModuleType) -> dict[str, Any]:
    rates: dict[str, list[float]] = {name: [] for name in CONTENDERS}
    with by_dali(options) as process:
        loaders = {name: kept_open(module, options, n) for name, n in CONTENDERS.items()}
        taken = type(loaders[DALI]).__iter__  # as the remedy has it
        plain = taken.__wrapped__
        for _number, name in pairs.interleaved(list(CONTENDERS), options.rounds + 1):
            type(loaders[name]).__iter__ = taken if name == DALI else plain
            rates[name].append(epoch(loaders[name], options.gpu))
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


class Own(Dataset):  # type: ignore[misc]
    """The files of a folder, opened by a data set's own code."""

    def __init__(self, root: str, transform: Any) -> None:
        self.samples = ImageFolder(root).samples
        self.transform = transform

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Any:
        path, label = self.samples[index]
        with Image.open(path) as opened:
            return self.transform(opened.convert("RGB")), label


BETWEEN: dict[str, list[Any]] = {
    "crop and flip": [],
    "ColorJitter": [transforms.ColorJitter(0.2, 0.2, 0.2, 0.1)],
    "GaussianBlur of half": [transforms.RandomApply([transforms.GaussianBlur(9)], 0.5)],
    "RandAugment": [transforms.RandAugment()],
    "TrivialAugmentWide": [transforms.TrivialAugmentWide()],
    "AutoAugment": [transforms.AutoAugment()],
}


def chains(options: argparse.Namespace) -> dict[str, Any]:
    """Return ms of CPU an image by torchvision and by DALI, for each chain and data set."""
    found: dict[str, Any] = {}
    for kind, opened in (("folder", ImageFolder), ("data set of its own", Own)):
        for name, between in BETWEEN.items():
            chain = transforms.Compose(
                [
                    transforms.RandomResizedCrop(options.image_size),
                    transforms.RandomHorizontalFlip(),
                    *between,
                    transforms.ToTensor(),
                    transforms.Normalize((0.5, 0.5, 0.5), (0.2, 0.2, 0.2)),
                ]
            )
            data = opened(str(options.data), chain)
            found[f"{kind}: {name}"] = costs(data, options)
            print(f"{kind}: {name}: {found[f'{kind}: {name}']}", flush=True)
    return {"image_size": options.image_size, "cpu_ms_per_image": found}


def costs(data: Any, options: argparse.Namespace) -> dict[str, Any]:
    spent: dict[str, list[float]] = {"torchvision": [], DALI: []}
    with by_dali(options):
        loader = DataLoader(data, options.batch_size, shuffle=True)
        taken = type(loader).__iter__
        for _number, name in pairs.interleaved(list(spent), options.rounds + 1):
            type(loader).__iter__ = taken if name == DALI else taken.__wrapped__
            began = time.process_time()
            images = sum(len(batch) for batch, _labels in loader)
            spent[name].append(1e3 * (time.process_time() - began) / images)
        type(loader).__iter__ = taken
    kept = {name: values[1:] for name, values in spent.items()}  # the first round warms up
    ratio = [a / b for a, b in zip(kept["torchvision"], kept[DALI], strict=True)]
    return {
        **{name: pairs.estimate(values) for name, values in kept.items()},
        "times_less": pairs.estimate(ratio),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--data", type=Path, default=Path("demo-data/shapes"))
    parser.add_argument("--files", type=int, default=360)
    parser.add_argument("--image-size", type=int, default=112)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--threads", type=int, help="of DALI; one a core unless given")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--gpu", action="store_true", help="decode and transform on a GPU")
    parser.add_argument("--chains", action="store_true", help="CPU time of several chains")
    options = parser.parse_args()
    if options.gpu and not torch.cuda.is_available():
        raise SystemExit("no CUDA device is in use here; without --gpu DALI runs on the CPU")
    torch.manual_seed(0)
    module = example()
    if not any(options.data.glob("*/*.jpg")):
        module.draw_data(options.data, options.files, 0)
    if options.chains:
        print(pairs.write(options.out, "dali-chains", chains(options)))
        return
    found = compare(options, module)
    print(f"DALI: {found['ratio_to_torchvisions_best']} times torchvision's best")
    print(pairs.write(options.out, "dali-gpu" if options.gpu else "dali", found))


if __name__ == "__main__":
    main()
