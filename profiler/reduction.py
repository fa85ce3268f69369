"""From a traced window's columns to a few kilobytes that answer every later question."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

import msgspec

from speedprof.profiler import reduced, window_reading
from speedprof.profiler import window_tables as tables
from speedprof.profiler.cells import NO_CHAIN, cut
from speedprof.profiler.device_use import DeviceUse, device_use
from speedprof.profiler.idle import look
from speedprof.profiler.intervals import spans
from speedprof.profiler.kernel_flops import arithmetic
from speedprof.profiler.labels import LABELS, SEGMENTS
from speedprof.profiler.timeline import representative
from speedprof.profiler.window_collectives import collectives
from speedprof.profiler.window_file import CPU_OP, DRIVER, RUNTIME
from speedprof.profiler.window_phases import Explained, explain

if TYPE_CHECKING:
    from pathlib import Path

    from speedprof.profiler.reduced import ReducedWindow
    from speedprof.profiler.window_reading import Window


def reduce_folder(folder: Path) -> int:
    """Reduce every finished window in a run's folder; return how many.

    A window that cannot be used is renamed to `*.damaged`; nothing is raised for what a file
    holds. A folder that is gone or cannot be read has no windows.
    """
    try:
        found = sorted(path for path in folder.iterdir() if path.suffix == ".win")
    except OSError:
        return 0
    return sum(_reduce_file(path) for path in found)


def _reduce_file(path: Path) -> bool:
    try:
        answer = reduce_window(window_reading.read(path))
        _write(path.with_suffix(".json"), msgspec.json.encode(answer))
        path.unlink()
    except window_reading.DamagedWindowError:
        with contextlib.suppress(OSError):
            path.rename(path.with_suffix(".damaged"))
        return False
    except OSError:
        return False  # someone else reduced it meanwhile, or the disk is full: it stays for later
    return True


def _write(path: Path, data: bytes) -> None:
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    part.write_bytes(data)
    part.replace(path)


def reduce_window(window: Window) -> ReducedWindow:
    """Reduce one window."""
    header = window.header
    explained = explain(window)
    start, end = int(explained.boundaries[0]), int(explained.boundaries[-1])
    seen = look(window, start, end, explained.operators)
    cells = cut(explained, seen)
    evidence, training_samples = tables.evidence(seen, explained, header.training)
    return reduced.ReducedWindow(
        format=reduced.FORMAT,
        host=header.host,
        pid=header.pid,
        rank=header.rank,
        device=header.device,
        index=header.index,
        first_step=header.first_step,
        boundaries=explained.boundaries.tolist(),
        starts=header.boundaries[:-1],
        labels=list(LABELS),
        segments=list(SEGMENTS),
        cube=cells.cube(cells.chain == NO_CHAIN),
        chains=tables.chains(cells),
        evidence=evidence,
        training_samples=training_samples,
        samples=len(seen.at),
        lines=tables.lines(cells, seen),
        operators=tables.operators(window, explained, cells),
        operator_calls=tables.calls(window, explained, cells),
        events=len(window.event["start"]),
        host_operators=int(window.of_type(CPU_OP).sum()),
        collectives=collectives(window, explained, cells),
        collective_ns=explained.collectives.clip(start, end).total(),
        copies=tables.copies(window, explained),
        use=_use(window, explained),
        arithmetic=arithmetic(window, explained),
        timeline=representative(explained, cells, header),
        unusable=_unusable(header.device, explained),
    )


def _use(window: Window, explained: Explained) -> list[DeviceUse]:
    if explained.device is None:
        return []
    called = window.of_type(RUNTIME, DRIVER)
    return device_use(
        explained.device,
        window.header.names,
        explained.loop.loader,
        window.boundaries,
        calls=spans(window.event["start"][called], window.event["end"][called]),
    )


def _unusable(device: str, explained: Explained) -> str | None:
    if device == "cpu" or explained.device is not None:
        return None
    return "torch.profiler recorded no activity of the GPU (no CUPTI, or no right to use it)"
