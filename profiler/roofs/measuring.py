"""The program that measures, in the user's interpreter: one part after the other, told as it goes.

Started by its path, since that interpreter may have nothing of ours: this package is then served
from here. Uses the standard library and torch. Each answer is a JSON object on a line of its own,
to a file descriptor that the starter names; what torch says on stdout and stderr stays apart.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from typing import Any

PARTNER = "partner"
INTERRUPTED = 130
PR_SET_PDEATHSIG = 1

Found = dict[str, Any]
Reasons = dict[str, str]


def main(arguments: list[str]) -> None:
    """Measure what the order asks for, or be the second process of an all-reduce."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        if arguments[0] == PARTNER:
            from speedprof.profiler.roofs import exchange

            exchange.as_partner(int(arguments[1]), int(arguments[2]))
            return
        _measure(arguments[0])
    except (KeyboardInterrupt, BrokenPipeError):
        sys.exit(INTERRUPTED)


def _end_with(starter: int) -> None:
    """Have the kernel interrupt us when whoever started us is gone."""
    import ctypes

    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != starter:
        sys.exit(INTERRUPTED)


def _measure(encoded: str) -> None:
    from speedprof.profiler.roofs import order

    asked = order.decoded(encoded)
    _end_with(asked.starter)
    try:
        _tell_all(asked)
    except (KeyboardInterrupt, BrokenPipeError):
        shutil.rmtree(asked.scratch or "", ignore_errors=True)
        raise


def _tell_all(asked: Any) -> None:
    from speedprof.profiler.roofs import order

    with os.fdopen(asked.answers, "w", encoding="utf-8", buffering=1) as answers:

        def tell(**fields: object) -> None:
            times = os.times()
            used = times.user + times.system + times.children_user + times.children_system
            answers.write(json.dumps({**fields, "cpu_s": used}) + "\n")

        tell(versions=_versions(asked.cores))
        for part in asked.parts:
            tell(begin=part)
            try:
                found, absent = _PARTS[part](asked)
            except order.Absent as why:
                found, absent = {}, {part: str(why)}
            except (OSError, RuntimeError, MemoryError, ImportError) as error:
                found, absent = {}, {part: order.first_line(error)}
            tell(end=part, found=found, absent=absent)


def _versions(cores: int) -> Found:
    """Say what measures; use all usable cores, whatever OMP_NUM_THREADS says."""
    import torch

    torch.set_num_threads(cores)
    return {
        "python": ".".join(map(str, sys.version_info[:3])),
        "torch": str(torch.__version__),
        "cuda": torch.version.cuda or torch.version.hip,
    }


def _storage(asked: Any) -> tuple[Found, Reasons]:
    from speedprof.profiler.roofs import files

    return {"storage": files.measure(asked.scratch)}, {}


def _decode(_asked: Any) -> tuple[Found, Reasons]:
    from speedprof.profiler.roofs import pictures

    found, absent = pictures.measure()
    return {"decoding": found}, absent


def _memory(asked: Any) -> tuple[Found, Reasons]:
    from speedprof.profiler.roofs import cpu_memory

    return {"memory": cpu_memory.measure(asked.cores, asked.memory_bytes)}, {}


def _products(what: str, field: str) -> Callable[[Any], tuple[Found, Reasons]]:
    def measured(_asked: Any) -> tuple[Found, Reasons]:
        from speedprof.profiler.roofs import products

        found, absent = products.measure(what, "cpu")
        answer: Found = {"processor": {field: found}}
        if not _gpu():
            return answer, {**absent, f"{what}: cuda": NO_GPU}
        on_gpu, missing = products.measure(what, "cuda")
        return {**answer, "gpu": {"name": _gpu(), field: on_gpu}}, {**absent, **missing}

    return measured


def _dispatch(_asked: Any) -> tuple[Found, Reasons]:
    from speedprof.profiler.roofs import dispatch

    answer: Found = {"processor": {"operators_per_s": dispatch.measure("cpu")}}
    if not _gpu():
        return answer, {"dispatch: cuda": NO_GPU}
    answer["gpu"] = {"name": _gpu(), "operators_per_s": dispatch.measure("cuda")}
    return answer, {}


def _device_memory(_asked: Any) -> tuple[Found, Reasons]:
    from speedprof.profiler.roofs import gpu_copies

    if not _gpu():
        return {}, {"device-memory": NO_GPU}
    return {"gpu": {"name": _gpu(), "memory_gb_per_s": gpu_copies.within()}}, {}


def _copies(asked: Any) -> tuple[Found, Reasons]:
    from speedprof.profiler.roofs import gpu_copies

    if not _gpu():
        return {}, {"copies": NO_GPU}
    return {"transfers": gpu_copies.across(asked.memory_bytes)}, {}


def _all_reduce(asked: Any) -> tuple[Found, Reasons]:
    from speedprof.profiler.roofs import exchange

    if exchange.is_one_of_many():
        return {"all_reduce": exchange.among_ranks()}, {}
    command = [sys.executable, os.path.abspath(__file__), PARTNER]
    return {"all_reduce": exchange.between_two(command, asked.cores)}, {}


NO_GPU = "torch sees no CUDA device"


def _gpu() -> str | None:
    """Return the name of the GPU that torch would use, None where there is none."""
    import torch

    return str(torch.cuda.get_device_name()) if torch.cuda.is_available() else None


_PARTS: dict[str, Callable[[Any], tuple[Found, Reasons]]] = {
    "storage": _storage,
    "decode": _decode,
    "memory": _memory,
    "matmul": _products("matmul", "matmul_tflops"),
    "convolution": _products("convolution", "convolution_tflops"),
    "dispatch": _dispatch,
    "device-memory": _device_memory,
    "copies": _copies,
    "all-reduce": _all_reduce,
}


def _serve_ourselves() -> None:
    """Make this package importable from where it lies, and nothing else that lies there."""
    from importlib.util import module_from_spec, spec_from_file_location

    here = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [entry for entry in sys.path if os.path.abspath(entry) != here]
    root = os.path.dirname(os.path.dirname(here))
    spec = spec_from_file_location(
        "speedprof", os.path.join(root, "__init__.py"), submodule_search_locations=[root]
    )
    if spec is None or spec.loader is None:
        raise ImportError(f"no package in {root}")
    module = module_from_spec(spec)
    sys.modules["speedprof"] = module
    spec.loader.exec_module(module)


if __name__ == "__main__":
    _serve_ourselves()
    main(sys.argv[1:])
