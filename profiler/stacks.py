"""What a sampled Python stack tells: the user's line, a batch source, a checkpoint, a log."""

from __future__ import annotations

import linecache
import os
import re
from dataclasses import dataclass
from functools import lru_cache
from itertools import zip_longest
from typing import NamedTuple

Frame = tuple[str, int, str, bool]  # file, line, function, is_generator

_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_OURS = tuple(os.path.join(_PACKAGE, part) + os.sep for part in ("profiler", "mitigations"))
_LIBRARY = re.compile(r"/(site|dist)-packages/|/lib(64)?/python\d[^/]*/|/torchinductor_")
_TYPED_IN = ("<stdin>", "<string>")  # python < script, python -c

_CHECKPOINT = re.compile(
    r"/torch/serialization\.py$|/torch/distributed/checkpoint/|/safetensors/"
    r"|/lightning(_fabric|/fabric)/plugins/io/"
)
_CHECKPOINT_FUNCTION = {"save_pretrained", "save_checkpoint", "_save_checkpoint", "save_state"}
_LOGGING = re.compile(
    r"/torch/utils/tensorboard/|/tensorboardX/"
    r"|/tensorboard/|/wandb/|/mlflow/|/comet_ml/|/neptune/|/aim/|/clearml/|/loguru/|/tqdm/"
    r"|/rich/(console|live|progress)\.py$|/csv\.py$|/matplotlib/"
)
_LOGGER = re.compile(r"/logging/(__init__|handlers)\.py$")  # may call a user's handler
# Parts of trackers that call the training, which is no logging
_TRACKED = re.compile(r"/mlflow/utils/autologging_utils/|/wandb/agents/|/wandb/integration/")
# A line whose time is spent in C, where no frame of a logging module shows
_LOGGING_LINE = re.compile(
    r"\bprint\(|\.write\(|\.writelines\(|\.writerow|\bjson\.dump\(|\.savefig\(|\.flush\("
)
# A function whose own name says that it makes batches. The verb is asked for, so that
# `train_batch` and `process_batch`, which train, are left alone.
_BATCH_FUNCTION = re.compile(
    r"^_*(get|load|next|make|fetch|read|sample|generate|build|prepare|iter|draw|random)"
    r"_(\w+_)?(mini_?)?batch(es)?(_data)?$|^_*(load|read|fetch|next)_(\w+_)?(data|examples?)$"
    r"|^_*(mini_?)?batch_(iter|iterator|generator|loader|source)$"
)
_MODULE = "/torch/nn/modules/module.py"
_TRANSFORMS = "/torchvision/transforms/"  # its v2 transforms are modules, but no model


class Source(NamedTuple):
    """A function of the user's that may be what makes the batches."""

    file: str
    function: str
    generator: bool


@dataclass(frozen=True, slots=True)
class Stack:
    """What one distinct stack says, wherever it was seen."""

    line: Frame | None  # the user's innermost frame
    sources: tuple[Source, ...]  # outermost first
    inside_model: frozenset[Source]  # of them, those with a model's forward inside
    outside: str | None  # label: "outside.checkpoint", "outside.logging"
    models: bool  # a model's forward is on the stack


def describe(frames: list[Frame]) -> Stack:
    """Describe a stack of frames, innermost first."""
    users = next((depth for depth, frame in enumerate(frames) if is_users(frame[0])), None)
    model = _model_depth(frames)
    sources = {}
    for depth, (frame, caller) in enumerate(zip_longest(frames, frames[1:])):
        if _makes_batches(frame, caller):
            sources[Source(frame[0], frame[2], frame[3])] = depth
    return Stack(
        line=None if users is None else frames[users],
        sources=tuple(reversed(sources)),
        inside_model=frozenset(
            source for source, depth in sources.items() if model is not None and model < depth
        ),
        outside="outside.logging"
        if any(_LOGGER.search(frame[0]) for frame in frames)
        else _outside(frames[:users], None if users is None else frames[users]),
        models=model is not None,
    )


@lru_cache(maxsize=4096)
def is_users(file: str) -> bool:
    """Tell whether a file is the user's: neither a library's, nor Python's, nor ours."""
    if file.startswith("<"):
        return file in _TYPED_IN
    return not _LIBRARY.search(file) and not file.startswith(_OURS)


def code_of(frame: Frame) -> str | None:
    """Return the text of the frame's line, None where the file cannot be read."""
    return linecache.getline(frame[0], frame[1]).strip() or None


def _bare(function: str) -> str:
    return function.rpartition(".")[2]


def _makes_batches(frame: Frame, caller: Frame | None) -> bool:
    file, _, function, generator = frame
    if not is_users(file):
        return False
    name = _bare(function)
    if name.startswith("<"):
        return False  # a generator expression: mostly sum(... for ...)
    if generator:
        return caller is None or not caller[0].endswith("/contextlib.py")
    return name in ("__next__", "__getitem__", "__getitems__") or bool(_BATCH_FUNCTION.match(name))


def _model_depth(frames: list[Frame]) -> int | None:
    """Return how deep a model's forward is on the stack, None where there is none."""
    if any(_TRANSFORMS in frame[0] for frame in frames):
        return None
    return next((d for d, frame in enumerate(frames) if frame[0].endswith(_MODULE)), None)


def _outside(inner: list[Frame], line: Frame | None) -> str | None:
    """Tell what is no training from the frames that the user's line called, or from its text."""
    for file, _, function, _ in inner:
        if _CHECKPOINT.search(file) or _bare(function) in _CHECKPOINT_FUNCTION:
            return "outside.checkpoint"
        if _LOGGING.search(file) and not _TRACKED.search(file):
            return "outside.logging"
    if line is not None and not inner and _LOGGING_LINE.search(code_of(line) or ""):
        return "outside.logging"
    return None
