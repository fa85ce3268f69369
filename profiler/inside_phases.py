"""The insides of the phases: lines, operators, copies, over the windows of all processes.

Windows hold traced steps; what they found in a phase is scaled to what the phase takes in usual
steps, so that the parts of a phase add up to it.
"""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from typing import TYPE_CHECKING

import numpy as np

from speedprof.profiler import arithmetic
from speedprof.profiler.batch_sources import cubes, makes_batches
from speedprof.profiler.device_use import DeviceUse
from speedprof.profiler.labels import KINDS, LABELS, PHASE_OF
from speedprof.profiler.operators import bound
from speedprof.profiler.run import Compute, Copies, GpuUse, Host, Line, Operator, Outside

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from speedprof.profiler.ranks import Trained
    from speedprof.profiler.reduced import ReducedWindow

MOST_LINES, MOST_OPERATORS = 40, 20


def label_ms(parts: Sequence[Trained]) -> dict[str, float] | None:
    """Return the mean over the ranks of each label's time in a step; None without steps."""
    known = [part.breakdown.label_ms for part in parts if part.breakdown is not None]
    if not known:
        return None
    return {label: float(np.mean([ms[label] for ms in known])) for label in LABELS}


def _is_split(parts: Sequence[Trained]) -> bool:
    known = [part.breakdown.split for part in parts if part.breakdown is not None]
    return bool(known) and all(known)


def compute(parts: Sequence[Trained]) -> Compute | None:
    """Return the inside of the compute phase; empty without windows."""
    ms = label_ms(parts)
    if ms is None:
        return None
    if not _is_split(parts):
        return Compute()
    kinds: Counter[str] = Counter()
    named: dict[tuple[str, str], list[float]] = defaultdict(lambda: [0.0, 0.0])
    for part, window in _windows(parts):
        for operator in window.operators:
            if makes_batches(window, operator.chain, part.sources):
                continue
            kinds[operator.kind] += operator.ns
            if operator.name:
                named[operator.name, operator.kind][0] += operator.ns
                named[operator.name, operator.kind][1] += operator.calls
    steps = sum(len(window.cube) for _, window in _windows(parts))
    spent = sum(time for label, time in ms.items() if label.startswith("compute."))
    scale = spent / max(sum(kinds.values()), 1)
    largest = sorted(named.items(), key=lambda item: -item[1][0])[:MOST_OPERATORS]
    counted, _ = arithmetic.of_ranks(parts)
    return Compute(
        forward_ms=ms["compute.forward"],
        backward_ms=ms["compute.backward"],
        optimizer_ms=ms["compute.optimizer"],
        kinds={kind: ns * scale for kind, ns in kinds.most_common()},
        operators=[
            Operator(name=name, kind=kind, ms=ns * scale, calls=calls / steps)
            for (name, kind), (ns, calls) in largest
        ],
        operators_per_step=sum(window.operator_calls for _, window in _windows(parts)) / steps,
        bound=bound(kinds, arithmetic.of_peak(counted)),
        arithmetic=counted,
    )


def host_unseen(parts: Sequence[Trained]) -> bool:
    """Tell whether the windows hold no operator of the CPU, as traces of the GPU alone do."""
    counts = [window.host_operators for _, window in _windows(parts)]
    return bool(counts) and not any(count is None or count for count in counts)


def host(parts: Sequence[Trained]) -> Host | None:
    """Return what the host did while nothing else had the moment; None where it was not seen."""
    ms = label_ms(parts)
    if ms is None or not _is_split(parts) or host_unseen(parts):
        return None
    return Host(
        launch_ms=ms["host.launch"],
        python_ms=ms["host.python"],
        allocator_ms=ms["host.allocator"],
        synchronisation_ms=ms["host.synchronisation"],
    )


def outside(parts: Sequence[Trained]) -> Outside | None:
    ms = label_ms(parts)
    if ms is None:
        return None
    return Outside(
        checkpoint_ms=ms["outside.checkpoint"],
        evaluation_ms=ms["outside.evaluation"],
        logging_ms=ms["outside.logging"],
        other_ms=ms["outside.other"],
    )


def copies(parts: Sequence[Trained]) -> Copies | None:
    """Return the host-to-device copies; None where windows saw no device."""
    seen = [window.copies for _, window in _windows(parts) if window.copies is not None]
    steps = sum(len(window.cube) for _, window in _windows(parts) if window.copies is not None)
    if not steps:
        return None
    pinned, pageable = sum(c.pinned_ns for c in seen), sum(c.pageable_ns for c in seen)
    size = sum(c.bytes for c in seen)
    return Copies(
        pinned_ms=pinned / steps / 1e6,
        pageable_ms=pageable / steps / 1e6,
        blocking_ms=sum(c.blocking_ns for c in seen) / steps / 1e6,
        bytes=size / steps if size > 0 else None,
        gb_per_s=size / (pinned + pageable) if size > 0 and pinned + pageable else None,
    )


def gpu_use(parts: Sequence[Trained]) -> GpuUse | None:
    """Return the use of the GPUs; None where windows saw none."""
    used = [step for _, window in _windows(parts) for step in window.use]
    return _mean_use(used) if used else None


def trace_use(parts: Sequence[Trained]) -> GpuUse | None:
    """Return the use of the GPUs in whole recorded traces; None in a live run."""
    told = [part.record.last("gpu_window", DeviceUse) for part in parts]
    used = [one for one in told if one is not None]
    return _mean_use(used) if used else None


def _mean_use(used: Sequence[DeviceUse]) -> GpuUse:
    mean = {name: float(np.mean([getattr(u, name) for u in used])) / 1e6 for name in _USES}
    wall = mean.pop("wall")
    return GpuUse(step_ms=wall, **{f"{name}_ms": ms for name, ms in mean.items()})


_USES = (*DeviceUse.__struct_fields__, "idle", "exposed_communication")
Place = tuple[str, int, str, str, str]  # file, line, function, phase, kind


def lines(parts: Sequence[Trained], folders: Sequence[str]) -> list[Line]:
    """Return where the training threads were seen, largest first, as the mean over the ranks.

    Paths below one of the folders are shown relative to it.
    """
    if not _is_split(parts):
        return []
    spent: dict[Place, float] = defaultdict(float)
    codes: dict[tuple[str, int], str | None] = {}
    for part in parts:
        scale = _scales(part)
        for _, window in _windows([part]):
            for place, code, ns in _places(part, window):
                spent[place] += ns * scale[place[3]] / len(parts)
                codes[place[0], place[1]] = code
    step = float(np.mean([part.rank.step_ms.mean_ms for part in parts if part.rank.step_ms]))
    return [
        Line(
            where=f"{shown(file, folders)}:{line}",
            function=function,
            phase=phase,
            kind=kind,
            share=ms / step,
            ms=ms,
            code=codes[file, line],
        )
        for (file, line, function, phase, kind), ms in sorted(
            spent.items(), key=lambda item: -item[1]
        )[:MOST_LINES]
        if ms > 0
    ]


def _places(part: Trained, window: ReducedWindow) -> Iterator[tuple[Place, str | None, int]]:
    for line in window.lines:
        batches = makes_batches(window, line.chain, part.sources)
        label = "data_loading" if batches else LABELS[line.label]
        waits = line.waiting and label in ("data_loading", "outside.other")
        kind = "waiting" if waits else KINDS[label]
        place = (line.file, line.line, line.function, label.partition(".")[0], kind)
        yield place, line.code, line.ns


def _windows(parts: Sequence[Trained]) -> Iterator[tuple[Trained, ReducedWindow]]:
    for part in parts:
        for window in part.windows:
            yield part, window


def _scales(part: Trained) -> dict[str, float]:
    """Return, by phase, the ms per usual step for one ns seen in windows."""
    assert part.breakdown is not None
    seen: Counter[str] = Counter()
    for window in part.windows:
        kept, moved = cubes(window, part.sources)
        for phase, ns in zip(PHASE_OF, kept.sum(axis=(0, 1)).tolist(), strict=True):
            seen[phase] += ns
        seen["data_loading"] += int(moved.sum())
    return {
        phase: found.ms / seen[phase] if seen[phase] else 0.0
        for phase, found in part.breakdown.phases.items()
    }


def shown(file: str, folders: Sequence[str]) -> str:
    """Return a path relative to the first of the folders that it lies below."""
    for folder in folders:
        below = folder.rstrip(os.sep) + os.sep
        if folder and file.startswith(below):
            return file[len(below) :]
    return file
