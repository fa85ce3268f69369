"""A window after its reduction: small, and enough for every later question. Times are ns."""

from __future__ import annotations

import msgspec

from speedprof.profiler.device_use import DeviceUse
from speedprof.profiler.run import Timeline
from speedprof.profiler.stacks import Source

FORMAT = 1

# ns by [step][segment][label], as profiler.labels orders them
Cube = list[list[list[int]]]


class Chain(msgspec.Struct, frozen=True, kw_only=True):
    """Time with the same possible batch sources on the stack.

    Whether a source does make batches (or holds the whole training loop) shows only when all
    windows of a process are looked at together, so that this time is kept apart until then.
    """

    sources: list[Source]  # outermost first
    cube: Cube


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """How often training went on inside a possible batch source."""

    source: Source
    training_inside: int  # samples in backward, optimizer or a model, with it on the stack
    samples: int = 0  # with it on the stack, whatever went on; 0: not counted


class LineTime(msgspec.Struct, frozen=True, kw_only=True):
    """Time in which the training thread was at one source line."""

    file: str
    line: int
    function: str
    label: int
    waiting: bool
    chain: int  # index into chains, -1: none
    ns: int
    code: str | None = None


class OperatorTime(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    kind: str
    ns: int  # its own time
    calls: int
    chain: int = -1


class Collective(msgspec.Struct, frozen=True, kw_only=True):
    """One collective operation as this rank saw it."""

    name: str
    step: int  # number of the training step; the window's first but one where it began before
    start: int  # ns of perf_counter, which processes of one host share
    end: int
    bytes: int
    kind: str = ""  # of profiler.collectives; "" where the name does not tell
    group: str | None = None  # the communicator, where it was recorded
    sequence: int | None = None  # its number in the group, where it was recorded
    # ns by label that this rank spent since the collective before (or the window's start), and
    # that it spent while it was in this one
    before: list[int] = []
    during: list[int] = []
    chains: list[tuple[int, int, int]] = []  # of before: chain, label, ns


class CopyTime(msgspec.Struct, frozen=True, kw_only=True):
    """Host-to-device copies of the whole window, overlapped or not, on the device's clock."""

    pinned_ns: int
    pageable_ns: int
    blocking_ns: int  # host blocked
    bytes: int


class Arithmetic(msgspec.Struct, frozen=True, kw_only=True):
    """Kernels of one kind of work in one precision, where operators' shapes were recorded."""

    kind: str  # of the operator that launched them, or of their name where none was counted
    precision: str  # one of profiler.precision; "": the name does not tell
    ns: int  # of all of them
    counted_ns: int  # of those whose operator's FLOPs are known
    flops: int


class ReducedWindow(msgspec.Struct, frozen=True, kw_only=True):
    """One window's answer; `unusable` says why there are no times."""

    format: int
    host: str
    pid: int
    rank: int
    device: str
    index: int
    first_step: int
    boundaries: list[int]  # where the device crosses them
    starts: list[int]  # of the steps, on the host's clock, as the record's rows have them
    labels: list[str]
    segments: list[str]
    cube: Cube
    chains: list[Chain] = []
    evidence: list[Evidence] = []
    training_samples: int = 0
    samples: int = 0
    lines: list[LineTime] = []
    operators: list[OperatorTime] = []
    operator_calls: int = 0  # outermost operators (CPU) or kernels (GPU)
    events: int = 0
    host_operators: int | None = None  # of them, operators of the CPU
    collectives: list[Collective] = []
    collective_ns: int = 0  # union, overlapped or not
    copies: CopyTime | None = None
    use: list[DeviceUse] = []  # of each step, between the host's boundaries; empty: no device
    arithmetic: list[Arithmetic] = []  # empty: no shapes recorded
    timeline: Timeline | None = None
    unusable: str | None = None
