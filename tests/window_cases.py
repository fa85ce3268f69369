"""Windows as a short list of what happened, in milliseconds, through the real file format."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from pathlib import Path

from speedprof.profiler import window_file
from speedprof.profiler.labels import LABELS
from speedprof.profiler.reduced import ReducedWindow
from speedprof.profiler.reduction import reduce_window
from speedprof.profiler.window_reading import Window, read

MAIN, AUTOGRAD, GLOO = 11, 12, 13
ZERO, EVENT_ZERO = 5_000_000_000, 1_700_000_000_000_000_000  # of perf_counter and of the events
Frames = list[tuple[str, int, str, bool]]


def ns(ms: float) -> int:
    return round(ms * 1e6)


@dataclass
class Case:
    """A window in the making; times are ms since its first boundary."""

    boundaries: list[float]
    device: str = "cpu"
    thread: int = MAIN
    first_step: int = 4
    pid: int = 42
    index: int = 0
    events: list[tuple[int, ...]] = field(default_factory=list)
    probes: list[tuple[int, ...]] = field(default_factory=list)
    samples: list[tuple[int, ...]] = field(default_factory=list)
    flops: list[int] = field(default_factory=list)
    names: dict[str, int] = field(default_factory=dict)
    types: dict[str, int] = field(default_factory=dict)
    stacks: dict[tuple[tuple[str, int, str, bool], ...], int] = field(default_factory=dict)

    def event(
        self,
        name: str,
        start: float,
        end: float,
        *,
        kind: str = "cpu_op",
        thread: int = MAIN,
        stream: int = -1,
        correlation: int = 0,
        linked: int = 0,
        size: int = 0,
        flops: int = 0,
    ) -> Case:
        """Add an event; with a stream it is the device's."""
        device = -1 if stream < 0 else 0
        self.flops.append(flops)
        self.events.append(
            (
                self.names.setdefault(name, len(self.names)),
                self.types.setdefault(kind, len(self.types)),
                EVENT_ZERO + ns(start),
                ns(end) - ns(start),
                thread if device < 0 else -1,
                device,
                stream,
                correlation,
                linked,
                size,
                0,
            )
        )
        return self

    def kernel(
        self,
        name: str,
        start: float,
        end: float,
        *,
        launched: float | None = None,
        thread: int = MAIN,
        linked: int = 0,
        stream: int = 7,
    ) -> Case:
        """Add a kernel and, where it is said, its launch."""
        number = len(self.events) + 1
        kind = "gpu_memcpy" if name.startswith("Memcpy") else "kernel"
        if launched is not None:
            self.event(
                "cudaLaunchKernel",
                launched,
                launched + 0.01,
                kind="cuda_runtime",
                thread=thread,
                correlation=number,
            )
        return self.event(
            name, start, end, kind=kind, stream=stream, correlation=number, linked=linked
        )

    def probe(self, what: str, start: float, end: float) -> Case:
        self.probes.append((window_file.PROBES.index(what), ZERO + ns(start), ZERO + ns(end), -1))
        return self

    def sample(
        self, at: float, stack: Frames, *, cpu: float = 5.0, queued: float | None = 0.0
    ) -> Case:
        """Add a sample; `cpu` and `queued` are ms since the sample before."""
        number = self.stacks.setdefault(tuple(stack), len(self.stacks))
        waited = -1 if queued is None else ns(queued)
        self.samples.append((ZERO + ns(at), number, ns(cpu), waited))
        return self

    def sampled(self, start: float, end: float, stack: Frames, *, cpu: float = 5.0) -> Case:
        """Add samples each 5 ms in [start, end)."""
        at = start
        while at < end:
            self.sample(at, stack, cpu=cpu)
            at += 5.0
        return self

    def write(self, path: Path) -> Path:
        frames: dict[tuple[str, int, str, bool], int] = {}
        stacks = [
            [frames.setdefault(frame, len(frames)) for frame in stack] for stack in self.stacks
        ]
        last = ns(self.boundaries[-1])
        header: dict[str, object] = {
            "host": "node",
            "pid": self.pid,
            "rank": 0,
            "device": self.device,
            "index": self.index,
            "first_step": self.first_step,
            "boundaries": [ZERO + ns(at) for at in self.boundaries],
            "clock": [[ZERO, EVENT_ZERO], [ZERO + last, EVENT_ZERO + last]],
            "thread": self.thread,
            "names": list(self.names),
            "types": list(self.types),
            "probes": list(window_file.PROBES),
            "stacks": stacks,
            "frames": [list(frame) for frame in frames],
        }
        tables = {
            "event": _columns(window_file.EVENT_COLUMNS, self.events),
            "probe": _columns(window_file.PROBE_COLUMNS, self.probes),
            "sample": _columns(window_file.SAMPLE_COLUMNS, self.samples),
        }
        if any(self.flops):
            tables["event"]["flops"] = array("q", self.flops)
        window_file.write(str(path), header, tables)
        return path

    def window(self, folder: Path) -> Window:
        return read(self.write(folder / "window-node-42-0.win"))

    def reduced(self, folder: Path) -> ReducedWindow:
        return reduce_window(self.window(folder))


def _columns(names: tuple[str, ...], rows: list[tuple[int, ...]]) -> dict[str, array[int]]:
    return {name: array("q", [row[i] for row in rows]) for i, name in enumerate(names)}


def label_ms(window: ReducedWindow, *, step: int | None = None) -> dict[str, float]:
    """Return ms by label, of one step or of all, possible batch sources by their own label."""
    total = dict.fromkeys(LABELS, 0)
    for cube in [window.cube, *(chain.cube for chain in window.chains)]:
        for number, places in enumerate(cube):
            for place in places if step in (None, number) else []:
                for label, spent in zip(LABELS, place, strict=True):
                    total[label] += spent
    return {label: spent / 1e6 for label, spent in total.items() if spent}
