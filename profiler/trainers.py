"""What libraries that train do in a script's name: the loop, and the loaders' arguments."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from types import FrameType
from typing import Any

MOST_FRAMES = 200
# what calls DataLoader(...) with every argument: of the user's own choices, and for a loader anew
OF_USERS_CHOICE = ("transformers.",)
LIBRARIES = (*OF_USERS_CHOICE, "accelerate.", "lightning.", "pytorch_lightning.")
HANDED_ON = ("lightning.fabric.utilities.data", "wrapper")
OURS = ("speedprof.profiler.", "speedprof.mitigations.")
# by the modules that call the optimizer, outermost first: transformers' Trainer uses accelerate
TRAINERS = {
    "transformers": ("transformers.trainer",),
    "lightning": ("lightning.pytorch.", "pytorch_lightning."),
    "accelerate": ("accelerate.optimizer",),
}


def trainer_of(frame: FrameType | None) -> str | None:
    """Return the library whose loop calls, one of `TRAINERS`; None: the script's own."""
    modules = set()
    for _ in range(MOST_FRAMES):
        if frame is None:
            break
        modules.add(module_of(frame))
        frame = frame.f_back
    for trainer, starts in TRAINERS.items():
        if any(module.startswith(starts) for module in modules):
            return trainer
    return None


def own_arguments(
    given: Mapping[str, Any],
    function: Callable[..., Any],
    frame: FrameType | None,
    libraries: tuple[str, ...] = LIBRARIES,
) -> dict[str, Any]:
    """Return the arguments that are somebody's word: all that the code of `frame` gives.

    Of what a library gives in the script's name, those that are not the function's defaults: it
    gives all, whether its user asked for them or not.
    """
    while frame is not None and only_hands_on(frame):
        frame = frame.f_back
    if frame is None or not module_of(frame).startswith(libraries):
        return dict(given)
    defaults = {n: one.default for n, one in inspect.signature(function).parameters.items()}
    return {n: value for n, value in given.items() if not _is_same(value, defaults.get(n, OURS))}


def only_hands_on(frame: FrameType) -> bool:
    """Tell whether a frame only hands a call on: one of ours, or Lightning's around loaders."""
    module = module_of(frame)
    return module.startswith(OURS) or (module, frame.f_code.co_name) == HANDED_ON


def module_of(frame: FrameType) -> str:
    """Return the full name of the module whose code a frame runs, "" where it has none."""
    return str(frame.f_globals.get("__name__") or "")


def _is_same(value: Any, default: Any) -> bool:
    plain = isinstance(value, (bool, int, float, str)) and type(value) is type(default)
    return value is default or (plain and value == default)
