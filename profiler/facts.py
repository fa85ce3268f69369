"""What the record says once.

The process, its loaders, optimizers and model, the lines that synchronise.
"""

from __future__ import annotations

import os
import resource
import sys
import threading
import time
from collections.abc import Iterator
from types import FrameType
from typing import Any

from speedprof.profiler import flag_facts, model_facts
from speedprof.profiler.backward_facts import BackwardFacts, Guard
from speedprof.profiler.loader_facts import Built, LoaderUse, built
from speedprof.profiler.record import FORMAT
from speedprof.profiler.recorder import Recorder
from speedprof.profiler.trainers import trainer_of

CO_OPTIMIZED = 1  # of a function's code: its variables are not kept in a dictionary
HELD_BY_FRAME = 2  # references to such a copy: the frame's, and that of whoever counts them
MODEL_FRAMES = 12  # how far up the stack to look for the model


def process() -> dict[str, object]:
    """Describe this process: who it is, its versions and the flags that matter for speed."""
    import torch

    rank, world = rank_and_world()
    torchvision = sys.modules.get("torchvision")
    return {
        "format": FORMAT,
        "pid": os.getpid(),
        "host": os.uname().nodename,
        "rank": rank,
        "local_rank": int(os.environ.get("LOCAL_RANK", "0")),
        "world_size": world,
        "argv": sys.argv,
        "clock": [time.perf_counter_ns(), time.time_ns()],
        "thread": threading.get_native_id(),
        "python": sys.version.split()[0],
        "torch": str(torch.__version__),
        "cuda": torch.version.cuda,
        "hip": torch.version.hip,
        "device": "cpu",
        "device_name": None,
        "threads": torch.get_num_threads(),
        "torchvision": getattr(torchvision, "__version__", None),
        "flags": flag_facts.flags(torch),
    }


def rank_and_world() -> tuple[int, int]:
    """Return (rank, world size), from the process group or else from the launcher's variables."""
    distributed = sys.modules.get("torch.distributed")
    if distributed is not None and distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))


def memory() -> dict[str, object]:
    """Return the process's peak resident bytes, and the device's where one is in use."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    torch = sys.modules["torch"]
    if not torch.cuda.is_initialized():
        return {"peak_bytes": peak, "peak_device_bytes": None, "device_bytes": None}
    total = torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory
    return {
        "peak_bytes": peak,
        "peak_device_bytes": torch.cuda.max_memory_allocated(),
        "device_bytes": total,
    }


class Seen:
    """Loaders, optimizers and synchronising lines of this process, told once or as they grow."""

    def __init__(self, recorder: Recorder, guard: Guard) -> None:
        self._recorder = recorder
        self.backward = BackwardFacts(guard)
        self._inside = guard("model", model_facts.inside)
        self._tell_flags = guard("flags", self._flags)
        self._told: dict[str, object] = {}  # facts that grow, as told last
        self.uses: list[LoaderUse] = []
        self._optimizers: set[int] = set()
        self._model_bytes = -1
        self.sync_calls: dict[
            tuple[str, str, int], list[int]
        ] = {}  # (what, file, line) -> [count, ns]
        self._rank: tuple[int, int] | None = None
        self._device_told = False

    def loader(self, loader: Any, origin: Built) -> LoaderUse:
        """Describe a loader that is used for the first time."""
        use = LoaderUse(len(self.uses))
        self.uses.append(use)
        self._recorder.fact("loader", {"number": use.number, **built(loader, origin)})
        return use

    def knows(self, optimizer: Any) -> bool:
        return id(optimizer) in self._optimizers

    def optimizer(self, optimizer: Any, frame: FrameType | None) -> None:
        """Describe an optimizer at its first step, and the model whose parameters it holds."""
        self._optimizers.add(id(optimizer))
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        defaults = optimizer.defaults
        self._recorder.fact(
            "optimizer",
            {
                "name": type(optimizer).__name__,
                "parameters": len(parameters),
                "where": None,
                "elements": sum(p.numel() for p in parameters),
                "fused": defaults.get("fused"),
                "foreach": defaults.get("foreach"),
                "trainer": trainer_of(frame),
            },
        )
        if len(self._optimizers) == 1:
            self._tell_flags()
        self.backward.updated(len(self._optimizers) - 1, parameters)
        model = _model_of({id(p) for p in parameters}, frame)
        if model is not None:
            self._model(model)
        self._tell_rank()

    def tell(self) -> None:
        """Write what grew since."""
        for use in self.uses:
            self._recorder.fact("loader_use", use.fact())
        for (what, file, line), (count, spent) in list(self.sync_calls.items()):
            self._recorder.fact(
                "sync_call", {"what": what, "where": f"{file}:{line}", "count": count, "ns": spent}
            )
        self._tell_grown()
        self._tell_rank()

    def _tell_grown(self) -> None:
        """Tell what the first batches and backward passes showed, where it is new."""
        found: dict[str, dict[str, object] | None] = {
            f"batch {use.number}": use.batches_seen.fact(use.number) for use in self.uses
        }
        seen = self.backward
        if seen.backwards:
            found["exchange"] = {
                "backwards": seen.backwards, "unsynchronised": seen.unsynchronised,
            }  # fmt: skip
        for number, kept in seen.kept.items():
            found[f"gradients {number}"] = {"optimizer": number, "kept": kept}
        for name, content in found.items():
            if content is not None and content != self._told.get(name):
                self._told[name] = content
                self._recorder.fact(name.split()[0], content)

    def _flags(self) -> None:
        """Tell the flags again: scripts set them after importing torch."""
        found = flag_facts.in_training(sys.modules["torch"]) | self.backward.flags()
        self._recorder.fact("flags", {"flags": found})

    def _model(self, model: Any) -> None:
        sizes = [
            (p.numel(), p.numel() * p.element_size(), str(p.dtype), p.device)
            for p in model.parameters()
        ]
        size = sum(entry[1] for entry in sizes)
        if size <= self._model_bytes:
            return
        self._model_bytes = size
        self._recorder.fact(
            "model",
            {
                **model_facts.identity(model),
                "parameters": sum(entry[0] for entry in sizes),
                "bytes": size,
                "dtypes": sorted({entry[2].removeprefix("torch.") for entry in sizes}),
                **self._model_inside(model),
            },
        )
        wrapper = model_facts.data_parallel(model)
        if wrapper is not None:
            self.backward.exchanges(wrapper)
        self._tell_device(sizes[0][3] if sizes else None)

    def _model_inside(self, model: Any) -> dict[str, object]:
        """Describe the model from within, nothing where that fails; graphs know better than it."""
        found: dict[str, object] = self._inside(model) or {}
        recomputed = self.backward.checkpointed()
        return found if recomputed is None else found | {"checkpointed": recomputed}

    def _tell_device(self, device: Any) -> None:
        if device is None or self._device_told:
            return
        self._device_told = True
        name = sys.modules["torch"].cuda.get_device_name(device) if device.type == "cuda" else None
        self._recorder.fact("device", {"device": device.type, "device_name": name})

    def _tell_rank(self) -> None:
        now = rank_and_world()
        if self._rank is not None and now[1] < self._rank[1]:
            return  # the process group was destroyed; what the rank was it remains
        if now != self._rank:
            self._rank = now
            self._recorder.fact("rank", {"rank": now[0], "world_size": now[1]})


def _model_of(parameters: set[int], frame: FrameType | None) -> Any:
    """Find the module that an optimizer trains among the variables of its callers."""
    from torch.nn import Module

    best, most = None, -1
    for _ in range(MODEL_FRAMES):
        if frame is None:
            break
        if "torch/optim/" not in frame.f_code.co_filename:
            for value in _variables(frame):
                if isinstance(value, Module):
                    held = [p for p in value.parameters() if id(p) in parameters]
                    if len(held) > most or (len(held) == most and _wraps(value)):
                        best, most = value, len(held)
        frame = frame.f_back
    return best if most > 0 else None


def _wraps(model: Any) -> bool:
    """Tell whether a module stands for another, as those of DDP and torch.compile do."""
    return hasattr(model, "module") or hasattr(model, "_orig_mod")


def _variables(frame: FrameType) -> Iterator[object]:
    for name, value in _locals(frame):
        if name == "self" and hasattr(value, "__dict__"):
            yield from list(vars(value).values())
        yield value


def _locals(frame: FrameType) -> list[tuple[str, object]]:
    """Return a frame's variables, and leave no copy of them behind.

    Before Python 3.13 a function's frame keeps the copy that it is asked for, and with it the
    tensors of this step, as long as the function runs. Where nobody else holds it, it is emptied:
    the variables themselves are elsewhere.
    """
    ours = sys.getrefcount(frame.f_locals) <= HELD_BY_FRAME
    found = list(frame.f_locals.items())
    copied = sys.version_info < (3, 13) and frame.f_code.co_flags & CO_OPTIMIZED
    if copied and ours:
        frame.f_locals.clear()
    return found
