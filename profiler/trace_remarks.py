"""What a reader must know of a recorded trace before believing its figures."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

from speedprof.profiler import trace_steps
from speedprof.profiler.device_activity import COLLECTIVE_KERNEL
from speedprof.profiler.trace_json import UnreadableTraceError
from speedprof.profiler.window_file import CPU_OP, DRIVER, RUNTIME

if TYPE_CHECKING:
    from speedprof.profiler.trace_file import Trace
    from speedprof.profiler.trace_steps import Steps

_LAUNCH = re.compile(r"(?:cuda|cu|hip\w*)(?:Graph|Module)?Launch", re.I)


def demand_kernels(trace: Trace) -> None:
    """Refuse a GPU's training without the GPU: the host's launches would pass for computing."""
    if trace.on_device().any():
        return
    called = np.unique(trace.event["name"][trace.of_type(RUNTIME, DRIVER)])
    if any(_LAUNCH.match(trace.names[name]) for name in called.tolist()):
        raise UnreadableTraceError(
            f"{trace.path} launches kernels but holds none of them, so it does not tell what the "
            "GPU did; export it again, whole and with ProfilerActivity.CUDA"
        )


def remarks(trace: Trace, steps: Steps) -> list[str]:
    """Return a sentence for each thing that is unusual in this trace."""
    name, found = trace.path.name, []
    if steps.definition == trace_steps.WHOLE:
        found.append(f"{name} marks no step, so it counts as one; profiler.step() marks them")
    operators, on_device = trace.of_type(CPU_OP), trace.on_device()
    if not on_device.any():
        found.append(_without_gpu(name, trace.device_name))
    elif not operators.any():
        found.append(
            f"{name} has no operators of the CPU, so idle time cannot be told apart by cause"
        )
    gpus = len(np.unique(trace.event["device"][on_device]))
    if gpus > 1:
        found.append(f"{name} holds {gpus} GPUs of one process; busy is when any of them is")
    processes = {trace.threads[n][0] for n in np.unique(trace.event["thread"][operators]).tolist()}
    if len(processes) > 1:
        found.append(
            f"{name} holds {len(processes)} processes; only steps of the one that trains most "
            "are told, so give each its own trace"
        )
    if steps.left_out:
        found.append(
            f"{steps.left_out} of the steps in {name} were left out, as they only began or lie "
            "apart from the others"
        )
    if trace.rank is None and any(COLLECTIVE_KERNEL.search(n) for n in trace.names):
        found.append(f"{name} does not say its rank; it was taken from the file's name or place")
    return found


def _without_gpu(name: str, device: str | None) -> str:
    if device is None:
        return f"{name} has no events of a GPU: only what the CPU did was attributed"
    return (
        f"{name} has no events of a GPU but names one ({device}): if that trained, what is "
        "called computing here is the host's part of it"
    )
