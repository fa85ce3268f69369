"""A trial never harms the user's outputs: what it writes goes to its own scratch folder.

Two halves. `variables` is for whoever starts the trial: the environment that puts experiment
trackers offline and gives the processes a temporary folder of their own. `protect` is for each
process of the trial, from Python's start on: files that Python code opens for writing, saves or
deletes are led to the scratch folder, by the same path below it, and read back from there.
It stays until the process ends, because scripts save in `finally`, too.

Not covered: files that a library's own C code writes without Python (HDF5, SQLite, OpenCV), and
other programs that the script starts.
"""

from __future__ import annotations

import functools
import os
import sys
import tempfile
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

from speedprof.profiler.patches import Patches
from speedprof.profiler.trials.leading import REASON, lead, lead_argument
from speedprof.profiler.trials.overlay import Overlay

SCRATCH_VARIABLE = "SPEEDPROF_SCRATCH"
SYSTEM = ("/dev", "/proc", "/sys")
CACHES = (  # variables that name folders of caches: kept warm, as training finds them
    "XDG_CACHE_HOME", "HF_HOME", "HF_HUB_CACHE", "HF_DATASETS_CACHE", "TORCH_HOME",
    "TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR", "TRITON_HOME", "CUDA_CACHE_PATH",
    "MPLCONFIGDIR", "NUMBA_CACHE_DIR",
)  # fmt: skip
HOME_CACHES = ("~/.cache", "~/.triton", "~/.nv", "~/.keras", "~/.config/matplotlib")

Waiting = dict[str, Callable[[ModuleType], None]]
_overlay: Overlay | None = None
_patches = Patches()


def variables(
    scratch: str, temporary: str, environment: Mapping[str, str] = os.environ
) -> dict[str, str]:
    """Return what to add to a trial's environment.

    `temporary` is an empty folder, on the user's temporary file system. The trackers' variables
    are those of their own documentation: Weights & Biases, MLflow, Comet, Neptune, ClearML.
    """
    trackers = os.path.join(scratch, "trackers")
    inductor = os.path.join(tempfile.gettempdir(), f"torchinductor_{_user()}")
    return {
        SCRATCH_VARIABLE: scratch,
        "TMPDIR": temporary,
        # torch keeps compiled kernels in the temporary folder: the user's serve the trial, too
        "TORCHINDUCTOR_CACHE_DIR": environment.get("TORCHINDUCTOR_CACHE_DIR", inductor),
        "PYTHONDONTWRITEBYTECODE": "1",
        "WANDB_MODE": "offline",
        "WANDB_DIR": trackers,
        "WANDB_SILENT": "true",
        "MLFLOW_TRACKING_URI": f"file:{trackers}/mlruns",
        "MLFLOW_REGISTRY_URI": f"file:{trackers}/mlruns",
        "COMET_AUTO_LOG_DISABLE": "1",
        "COMET_START_ONLINE": "0",
        "COMET_OFFLINE_DIRECTORY": trackers,
        "NEPTUNE_MODE": "offline",
        "NEPTUNE_DATA_DIRECTORY": trackers,
        "NEPTUNE_LOG_DIRECTORY": trackers,
        "CLEARML_OFFLINE_MODE": "1",
    }


def protect() -> None:
    """Lead this process's files to the scratch folder that the environment names."""
    global _overlay  # noqa: PLW0603
    scratch = os.environ.get(SCRATCH_VARIABLE)
    if scratch and _overlay is None:
        _overlay = overlay = Overlay(scratch, _free())
        os.makedirs(os.path.join(scratch, "trackers"), exist_ok=True)
        lead(overlay, _patches)


def protect_torch() -> None:
    """Do the same for what torch writes without Python's `open`.

    Call it before anything else wraps `torch.save`.
    """
    if _overlay is None:
        return
    torch, overlay = sys.modules["torch"], _overlay
    for owner, name, place, change in (
        (torch, "save", 1, overlay.writing),
        (torch, "load", 0, overlay.reading),
        (torch.jit, "save", 1, overlay.writing),
    ):
        lead_argument(_patches, owner, name, place, change)


def protect_companions(waiting: Waiting) -> None:
    """Do the same for libraries that may be imported later.

    Call it after everything else that waits for them: what acts first, stands below.
    """
    if _overlay is None:
        return
    for name, action in COMPANIONS.items():
        when_imported(waiting, name, functools.partial(action, _overlay, _patches))


def when_imported(waiting: Waiting, name: str, action: Callable[[ModuleType], None]) -> None:
    """Act on a module as soon as it is there, before what else waits for it."""
    module = sys.modules.get(name)
    if module is not None:
        action(module)
        return
    others = waiting.get(name)

    def both(module: ModuleType) -> None:
        action(module)
        if others is not None:
            others(module)

    waiting[name] = both


def _free() -> tuple[str, ...]:
    """Return the folders that are not the user's outputs."""
    named = [os.environ[name] for name in CACHES if os.environ.get(name)]
    home = [os.path.expanduser(folder) for folder in HOME_CACHES]
    run = os.environ.get("SPEEDPROF_RUN", "")
    folders = [*SYSTEM, run, tempfile.gettempdir(), sys.prefix, *named, *home]
    return tuple(os.path.abspath(folder) for folder in folders if folder)


def _user() -> str:
    import getpass
    import re

    try:
        return re.sub(r'[\\/:*?"<>|]', "_", getpass.getuser())
    except (KeyError, OSError):
        return str(os.getuid())


# -- trackers and writers that speak for themselves


def _safetensors(overlay: Overlay, patches: Patches, module: ModuleType) -> None:
    lead_argument(patches, module, "serialize_file", 1, overlay.writing)
    lead_argument(patches, module, "safe_open", 0, overlay.reading)


def _tensorboard(overlay: Overlay, patches: Patches, module: ModuleType) -> None:
    """Lead event files, which TensorFlow would write past Python."""
    original = module.SummaryWriter.__init__

    @functools.wraps(original)
    def begin(writer: Any, log_dir: Any = None, *rest: Any, **named: Any) -> None:
        folder = overlay.protects(log_dir or "runs/trial")
        original(writer, log_dir if folder is None else overlay.place(folder), *rest, **named)

    patches.replace(module.SummaryWriter, "__init__", begin, reason=REASON)


def _wandb(_overlay: Overlay, patches: Patches, module: ModuleType) -> None:
    """Keep runs offline that the script asks to be online."""
    original = module.init

    @functools.wraps(original)
    def init(*arguments: Any, **named: Any) -> Any:
        if named.get("mode") not in ("offline", "disabled"):
            named["mode"] = "offline"
        named.pop("dir", None)
        return original(*arguments, **named)

    patches.replace(module, "init", init, reason="a trial tells no tracker")


def _mlflow(_overlay: Overlay, patches: Patches, module: ModuleType) -> None:
    original = module.set_tracking_uri

    @functools.wraps(original)
    def set_tracking_uri(_uri: Any) -> None:
        original(os.environ["MLFLOW_TRACKING_URI"])

    patches.replace(
        module, "set_tracking_uri", set_tracking_uri, reason="a trial tells no tracker"
    )


COMPANIONS: dict[str, Callable[[Overlay, Patches, ModuleType], None]] = {
    "safetensors.torch": _safetensors,
    "safetensors.numpy": _safetensors,
    "torch.utils.tensorboard.writer": _tensorboard,
    "tensorboardX.writer": _tensorboard,
    "wandb": _wandb,
    "mlflow": _mlflow,
}
