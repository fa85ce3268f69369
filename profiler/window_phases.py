"""Who has each moment of a window: the device if busy, else what the training thread does.

The order of the layers is the definition of the phases (see docs): the first that holds counts.
What no layer explains is left to the samples of the training thread's stack.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from speedprof.profiler.device_activity import DeviceActivity, crossings, device_activity
from speedprof.profiler.intervals import NOTHING, Partition, Spans, Times, cover, spans, union
from speedprof.profiler.labels import LABEL, LABELS, SEGMENT
from speedprof.profiler.window_file import CPU_OP, DRIVER, RUNTIME

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from speedprof.profiler.window_reading import Window

UNEXPLAINED = len(LABELS)
COMPILED = re.compile(r"^(Torch-Compiled Region|## Call CompiledFxGraph|CompiledFunction)")
COLLECTIVE_OP = re.compile(r"^(c10d::|gloo:|nccl:|mpi:|ucc:|xccl:|record_param_comms)")
IN_FLIGHT = re.compile(r"^(gloo|mpi|ucc):")  # collectives of the CPU, from ready to done
_AUTOGRAD = re.compile(r"^autograd::engine::evaluate_function")
_LOADER_MARK = re.compile(r"^enumerate\(DataLoader\)")
_SYNCHRONISE = re.compile(r"^(cuda|hip)(Stream|Device|Event)Synchronize")
_ALLOCATE = re.compile(r"^(cuda|hip)(Malloc|Free|HostAlloc|HostRegister|MemCreate|MemMap)|^cuMem")


@dataclass(frozen=True, slots=True, kw_only=True)
class Loop:
    """Where the training thread was, as the probes saw it."""

    checkpoint: Spans
    evaluation: Spans
    loader: Spans
    between: Spans
    backward: Spans
    optimizer: Spans
    collective: Spans
    synchronise: Spans


@dataclass(frozen=True, slots=True, kw_only=True)
class Explained:
    """A window's moments by label, as far as events and probes explain them."""

    moments: Partition  # codes: labels, or UNEXPLAINED
    segments: Partition
    boundaries: Times  # of the steps, where the device crosses them
    operators: Spans  # where the training thread is inside an operator
    collectives: Spans
    in_training: NDArray[np.bool_]  # events that are operators of the training
    loop: Loop
    device: DeviceActivity | None


def explain(window: Window) -> Explained:
    """Give each moment of a window to a label."""
    loop = _loop(window)
    activity = device_activity(window)
    operators = _operators(window)
    main = operators & (window.event["thread"] == window.header.thread)
    boundaries = window.boundaries
    if activity is None:
        layers, collectives = _cpu_layers(window, loop, operators)
    else:
        boundaries = crossings(activity, boundaries)
        layers, collectives = _gpu_layers(window, loop, operators, activity)
    start, end = int(boundaries[0]), int(boundaries[-1])
    covered = cover(start, end, [layer for _, layer in layers])
    codes = np.array([label for label, _ in layers] + [UNEXPLAINED], np.int64)
    return Explained(
        moments=Partition(covered.edges, codes[covered.codes]),
        segments=_segments(window, loop, start, end),
        boundaries=boundaries,
        operators=_spans_of(window, main),
        collectives=collectives,
        in_training=operators,
        loop=loop,
        device=activity,
    )


Layers = list[tuple[int, Spans]]


def _cpu_layers(window: Window, loop: Loop, operators: NDArray[np.bool_]) -> tuple[Layers, Spans]:
    handing = named(window, re.compile("^c10d::")) & on_main(window)
    busy = _spans_of(window, operators) - _spans_of(window, handing)
    in_flight = _spans_of(window, named(window, IN_FLIGHT))
    waiting = union((in_flight, _spans_of(window, handing), loop.collective))
    return [
        (LABEL["outside.checkpoint"], loop.checkpoint),
        (LABEL["outside.evaluation"], loop.evaluation),
        (LABEL["data_loading"], loop.loader),
        (LABEL["outside.other"], loop.between),
        (LABEL["compute.optimizer"], busy & loop.optimizer),
        (LABEL["compute.backward"], busy & loop.backward),
        (LABEL["compute.forward"], busy),
        (LABEL["communication"], waiting),
    ], waiting


def _gpu_layers(
    window: Window, loop: Loop, operators: NDArray[np.bool_], device: DeviceActivity
) -> tuple[Layers, Spans]:
    in_checkpoint = loop.checkpoint.contains(device.launched)
    in_evaluation = loop.evaluation.contains(device.launched) & ~in_checkpoint
    training = ~in_checkpoint & ~in_evaluation
    in_optimizer = loop.optimizer.contains(device.launched)
    in_backward = loop.backward.contains(device.launched)
    kernel = device.kernel & training
    collectives = device.spans(device.collective & training)
    return [
        (LABEL["compute.optimizer"], device.spans(kernel & in_optimizer)),
        (LABEL["compute.backward"], device.spans(kernel & in_backward & ~in_optimizer)),
        (LABEL["compute.forward"], device.spans(kernel & ~in_backward & ~in_optimizer)),
        (LABEL["communication"], collectives),
        (LABEL["host_to_device"], device.spans(device.to_device & training)),
        (LABEL["compute.device_memory"], device.spans(device.memory & training)),
        (LABEL["outside.checkpoint"], device.spans(in_checkpoint)),
        (LABEL["outside.evaluation"], device.spans(in_evaluation)),
        *_idle_layers(window, loop, operators, device),
    ], collectives


def _idle_layers(
    window: Window, loop: Loop, operators: NDArray[np.bool_], device: DeviceActivity
) -> Layers:
    """Say what the training thread does while the device is idle."""
    calls = window.of_type(RUNTIME, DRIVER)
    in_flight = _spans_of(window, named(window, IN_FLIGHT))
    handing = _spans_of(window, named(window, re.compile("^c10d::")) & on_main(window))
    synchronising = _spans_of(window, calls & named(window, _SYNCHRONISE) & on_main(window))
    return [
        (LABEL["outside.checkpoint"], loop.checkpoint),
        (LABEL["outside.evaluation"], loop.evaluation),
        (LABEL["data_loading"], loop.loader),
        (LABEL["host_to_device"], blocking_copies(window, device)),
        (LABEL["communication"], union((in_flight, handing, loop.collective))),
        (LABEL["outside.other"], loop.between),
        (LABEL["host.allocator"], _spans_of(window, calls & named(window, _ALLOCATE))),
        (LABEL["host.synchronisation"], synchronising | loop.synchronise),
        (LABEL["host.launch"], _spans_of(window, calls | operators) | loop.backward),
    ]


def blocking_copies(window: Window, device: DeviceActivity) -> Spans:
    """Return where the training thread is held up by a copy to the device.

    That is inside an operator that launched one from pageable memory, or that launched one
    and then waited for it.
    """
    main = on_main(window)
    waits = window.of_type(RUNTIME) & named(window, _SYNCHRONISE) & main
    calls = window.of_type(RUNTIME, DRIVER) & main
    copying = np.isin(window.event["correlation"], device.correlation[device.to_device]) & calls
    pageable = np.isin(window.event["correlation"], device.correlation[device.pageable]) & calls
    synchronous = copying & named(window, re.compile(r"^(cuda|hip)Memcpy$"))
    copies = named(window, re.compile(r"^aten::(copy_|_to_copy)$")) & main
    start, end = window.event["start"], window.event["end"]
    holds = _holds(start[copies], end[copies], np.sort(start[pageable])) | (
        _holds(start[copies], end[copies], np.sort(start[copying]))
        & _holds(start[copies], end[copies], np.sort(start[waits]))
    )
    return spans(start[copies][holds], end[copies][holds]) | _spans_of(
        window, synchronous | pageable
    )


def _holds(start: Times, end: Times, moments: Times) -> NDArray[np.bool_]:
    return np.searchsorted(moments, end, "left") > np.searchsorted(moments, start, "left")


def _segments(window: Window, loop: Loop, start: int, end: int) -> Partition:
    counted = union((loop.checkpoint, loop.evaluation, loop.loader, loop.between))
    order = ("counted", "backward", "optimizer", "tail")
    optimizer = _probed(window, "optimizer")
    tail = _tails(window.boundaries, optimizer)
    covered = cover(start, end, [counted, loop.backward, optimizer, tail])
    codes = np.array([SEGMENT[name] for name in (*order, "other")], np.int64)
    return Partition(covered.edges, codes[covered.codes])


def _tails(boundaries: Times, optimizer: Spans) -> Spans:
    """Return from the end of each step's last optimizer step to the step's end."""
    if not len(optimizer):
        return NOTHING
    ends = optimizer.end
    last = np.searchsorted(ends, boundaries[1:], "right") - 1
    inside = (last >= 0) & (ends[last] > boundaries[:-1])
    return spans(ends[last][inside], boundaries[1:][inside])


def _loop(window: Window) -> Loop:
    backward = _probed(window, "backward")
    optimizer = _after_closures(_probed(window, "optimizer"), backward)
    marked = _spans_of(window, named(window, _LOADER_MARK) & on_main(window))
    return Loop(
        checkpoint=_probed(window, "checkpoint"),
        evaluation=_probed(window, "evaluation"),
        loader=_probed(window, "input_wait", "input_start") | marked,
        between=_probed(window, "between"),
        backward=backward,
        optimizer=optimizer | _probed(window, "zero_grad"),
        collective=_probed(window, "collective"),
        synchronise=_probed(window, "synchronise"),
    )


def _after_closures(optimizer: Spans, backward: Spans) -> Spans:
    """Leave out of each optimizer step what a closure did in it: it ends with a backward."""
    last = np.searchsorted(backward.end, optimizer.end, "right") - 1
    nested = (last >= 0) & (backward.end[last] > optimizer.start) if len(backward) else None
    if nested is None:
        return optimizer
    return spans(np.where(nested, backward.end[last], optimizer.start), optimizer.end)


def _operators(window: Window) -> NDArray[np.bool_]:
    """Tell which events are operators on the training thread or on autograd's."""
    on_host = window.event["device"] < 0
    threads = np.unique(window.event["thread"][on_host & named(window, _AUTOGRAD)])
    threads = np.append(threads, window.header.thread)
    called = window.of_type(CPU_OP) & ~named(window, COLLECTIVE_OP)
    called &= ~named(window, _LOADER_MARK)
    called |= named(window, COMPILED)
    return on_host & called & np.isin(window.event["thread"], threads)


def on_main(window: Window) -> NDArray[np.bool_]:
    main: NDArray[np.bool_] = window.event["thread"] == window.header.thread
    return main & (window.event["device"] < 0)


def named(window: Window, pattern: re.Pattern[str]) -> NDArray[np.bool_]:
    if not window.header.names:
        return np.zeros(len(window.event["name"]), np.bool_)
    matching = np.array([bool(pattern.match(name)) for name in window.header.names])
    return matching[window.event["name"]]


def _spans_of(window: Window, chosen: NDArray[np.bool_]) -> Spans:
    return spans(window.event["start"][chosen], window.event["end"][chosen])


def _probed(window: Window, *names: str) -> Spans:
    numbers = [i for i, name in enumerate(window.header.probes) if name in names]
    chosen = np.isin(window.probe["what"], numbers)
    return spans(window.probe["start"][chosen], window.probe["end"][chosen])
