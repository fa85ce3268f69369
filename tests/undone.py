"""What is left of remedies once they are taken back: run as a program, it prints JSON.

    python tests/undone.py FOLDER [--compiled] NAME,NAME ... NAME

Each argument is put in force together, trained with and undone; then everything of torch is looked
at, and a bare training must have the losses, bit by bit, that it had before.
"""

from __future__ import annotations

import enum
import gc
import json
import multiprocessing
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from PIL import Image
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader
from torch.utils.data.distributed import DistributedSampler
from torchvision import datasets, transforms

from speedprof.mitigations.applied.process import Process
from speedprof.profiler.fence import Fence

OWNERS = ("torch", "torchvision")
COUNTERS = (  # of hooks and of tensors that ever were
    "torch.utils.hooks.RemovableHandle.next_id",
    "torch._subclasses.meta_utils.DESCRIBER_NEXT_ID",
)
COMPILERS = (
    "torch._dynamo",
    "torch._inductor",
    "torch._functorch",
    "torch.fx",
    "torch._decomp",
    "torch._subclasses",
)  # they keep books
CLASSES, IMAGES, SIDE = 2, 16, 16
EPOCHS, EPOCHS_OF_RANKS = 2, 6  # `no-sync` looks at eight passes before it agrees on a pattern
PLAIN = (type(None), bool, int, float, complex, str, bytes, torch.dtype, torch.device, enum.Enum)
ABSENT = object()
Snapshot = dict[str, Any]


class Attention(nn.Module):
    """Attention as people write it out."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.all = nn.Linear(width, 3 * width)

    def forward(self, words: Tensor) -> Tensor:
        query, key, value = self.all(words).chunk(3, dim=-1)
        weights = torch.softmax(query @ key.transpose(-2, -1) / query.shape[-1] ** 0.5, dim=-1)
        return weights @ value


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.BatchNorm2d(8), nn.ReLU())
        self.attention = Attention(8)
        self.blocks = nn.ModuleList(nn.Sequential(nn.Linear(8, 8), nn.GELU()) for _ in range(3))
        self.last = nn.Linear(8, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        words = self.attention(self.convolutions(images).flatten(2).transpose(1, 2))
        for block in self.blocks:
            words = block(words)
        return self.last(words.mean(1))


def draw(folder: Path) -> None:
    for index in range(IMAGES):
        place = folder / f"class{index % CLASSES}"
        place.mkdir(parents=True, exist_ok=True)
        colour = (40 + 90 * (index % CLASSES), 16 * index % 256, 200)
        Image.new("RGB", (SIDE + 8, SIDE + 8), colour).save(place / f"{index:02d}.jpg")


def train(folder: Path) -> list[float]:
    """Train a little, with most of what a remedy could change; return the losses."""
    torch.manual_seed(0)
    chain = [
        transforms.Resize(SIDE),
        transforms.RandomHorizontalFlip(),
        transforms.ToTensor(),
        transforms.Normalize((0.5, 0.5, 0.5), (0.2, 0.2, 0.2)),
    ]
    images = datasets.ImageFolder(str(folder), transforms.Compose(chain))
    sampler: DistributedSampler[Any] = DistributedSampler(images, num_replicas=1, rank=0)
    loader = DataLoader(images, batch_size=4, sampler=sampler)
    model = DistributedDataParallel(Model())
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    found = []
    for _ in range(EPOCHS if dist.get_world_size() == 1 else EPOCHS_OF_RANKS):
        for step, (batch, labels) in enumerate(loader):
            batch, labels = batch.to("cpu"), labels.to("cpu")  # noqa: PLW2901
            loss = nn.functional.cross_entropy(model(batch), labels) / 2
            loss.backward()
            found.append(loss.item())
            if step % 2:
                optimizer.step()
                optimizer.zero_grad(set_to_none=False)
    return [float(loss) for loss in found]


def use_once(folder: Path, *, compiled: bool) -> None:
    """Use what torch itself remembers once it was used: its workers, checkpoints, compiler."""
    for _ in DataLoader(datasets.ImageFolder(str(folder)), num_workers=1, collate_fn=list):
        pass
    checkpoint(nn.Linear(2, 2), torch.ones(2, 2), use_reentrant=False)
    if compiled:  # it wraps functions of torch's own
        torch.compile(Model())(torch.ones(4, 3, SIDE, SIDE)).sum().backward()


def snapshot() -> Snapshot:
    """Look at every attribute of torch's modules and of their classes, and at what else is set."""
    found: Snapshot = {}
    for name, module in list(sys.modules.items()):
        if name.split(".")[0] not in OWNERS or name.startswith(COMPILERS):
            continue
        _look(found, name, module)
        for value in list(vars(module).values()):
            if isinstance(value, type) and value.__module__ == name:
                _look(found, f"{name}.{value.__qualname__}", value)
    for name, ask in _states().items():
        found[f"({name})"] = ask()
    return found


def _look(found: Snapshot, name: str, owner: Any) -> None:
    for key, value in list(vars(owner).items()):
        if "hook" in key.lower() and isinstance(value, (dict, list, set)):
            found[f"{name}.{key}"] = len(value)
        elif not isinstance(value, (dict, list, set, type(sys))):  # books, and modules
            found[f"{name}.{key}"] = value


def _states() -> dict[str, Callable[[], Any]]:
    cuda, cudnn = torch.backends.cuda, torch.backends.cudnn
    states: dict[str, Callable[[], Any]] = {
        "threads": torch.get_num_threads,
        "precision": torch.get_float32_matmul_precision,
        "deterministic": torch.are_deterministic_algorithms_enabled,
        "default type": torch.get_default_dtype,
        "gradients": torch.is_grad_enabled,
        "autocast": lambda: [torch.is_autocast_enabled(one) for one in ("cpu", "cuda")],
        "autocast types": lambda: [torch.get_autocast_dtype(one) for one in ("cpu", "cuda")],
        "autocast cache": torch.is_autocast_cache_enabled,
        "cudnn": lambda: [cudnn.enabled, cudnn.benchmark, cudnn.deterministic, cudnn.allow_tf32],
        "products": lambda: cuda.matmul.allow_tf32,
        "attention": lambda: [
            cuda.flash_sdp_enabled(),
            cuda.mem_efficient_sdp_enabled(),
            cuda.math_sdp_enabled(),
        ],
        "garbage": lambda: [gc.isenabled(), gc.get_threshold(), gc.get_freeze_count()],
        "garbage callbacks": lambda: len(gc.callbacks),
        "environment": lambda: dict(os.environ),
        "start method": lambda: multiprocessing.get_start_method(allow_none=True),
        "sharing": torch.multiprocessing.get_sharing_strategy,
        "signals": lambda: [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)],
        "tracing": lambda: [sys.gettrace(), sys.getprofile(), sys.getswitchinterval()],
        "threads of ours": lambda: [
            t.name for t in threading.enumerate() if "speedprof" in t.name
        ],
        "files of ours": lambda: [name for name in sys.meta_path if "speedprof" in repr(name)],
    }
    dynamo = sys.modules.get("torch._dynamo.config")
    if dynamo is not None:
        states["compiler"] = dynamo.get_config_copy
    return states


def differences(before: Snapshot, after: Snapshot) -> list[str]:
    """Return the names of what is not as it was; what was first imported meanwhile is new."""
    owners = {name.rpartition(".")[0] for name in before}
    names = [name for name in before if not _same(before[name], after.get(name, ABSENT))]
    added = [n for n in after if n not in before and n.rpartition(".")[0] in owners]
    return sorted(names + [name for name in added if callable(after[name])])


def _same(one: Any, other: Any) -> bool:
    if one is other:
        return True
    if type(one) is not type(other):
        return False
    if isinstance(one, (*PLAIN, list, dict, tuple)):
        return bool(one == other)
    return False


def trial(folder: Path, names: list[str], bare: list[float], usual: set[str]) -> dict[str, Any]:
    failures: list[str] = []
    before = snapshot()
    process = Process(Fence(failures.append), {})
    process.apply([{"name": name} for name in names])
    applied = train(folder)
    facts = process.finish()
    remarks = process.undo()
    after = snapshot()
    return {
        "failures": failures,
        "remarks": remarks,
        "differences": [name for name in differences(before, after) if name not in usual],
        "trained": len(applied) == len(bare),
        "equal": train(folder) == bare,
        "effects": {fact["name"]: fact["effects"] for fact in facts},
        "notes": {fact["name"]: fact["notes"] for fact in facts},
    }


def main(folder: Path, groups: list[str], *, compiled: bool) -> dict[str, Any]:
    rank, world = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    draw(folder / f"images{rank}")
    use_once(folder / f"images{rank}", compiled=compiled)
    meeting = f"file://{folder / 'meeting'}"
    dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=world)
    bare = train(folder / f"images{rank}")
    first = snapshot()
    repeats = train(folder / f"images{rank}") == bare
    usual = {*differences(first, snapshot()), *COUNTERS}  # what any training changes
    trials = {
        group: trial(folder / f"images{rank}", group.split(","), bare, usual) for group in groups
    }
    dist.destroy_process_group()
    return {"repeats": repeats, "looked_at": len(first), "usual": sorted(usual), "trials": trials}


if __name__ == "__main__":
    place, *rest = sys.argv[1:]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # looking at deprecated names warns of them
        told = main(
            Path(place),
            [word for word in rest if word != "--compiled"],
            compiled="--compiled" in rest,
        )
    json.dump(told, sys.stdout)
