"""What a run knows of the inside of its phases; part of `profiler.run`, which says what counts.

Times are milliseconds per training step unless a name says otherwise.
"""

from __future__ import annotations

import msgspec

from speedprof.profiler.fact import Fact


class Operator(Fact, frozen=True, kw_only=True):
    """An operator or kernel, ranked by its own time."""

    name: str
    # matmul | convolution | attention | normalisation | elementwise | reduction | optimizer |
    # copy | other
    kind: str
    ms: float  # per step
    calls: float  # per step


class ArithmeticKind(Fact, frozen=True, kw_only=True):
    """One kind of work with known FLOPs, per step."""

    ms: float  # of all kernels of this kind
    counted_ms: float  # of those whose FLOPs are known
    flops: float
    tflops_per_s: float  # while those run
    of_peak: float | None = None  # above 1 where an algorithm saves operations (Winograd)


class Arithmetic(Fact, frozen=True, kw_only=True):
    """FLOPs from recorded shapes, two for each multiply-add, mean over the ranks.

    What activation checkpointing computes again counts again: this is what the hardware did.
    """

    flops: float  # per step
    tflops_per_s: float  # while the kernels that do them run
    coverage: float  # of the time of matmul, convolution and attention, whose FLOPs are known
    precisions: dict[str, float]  # "bf16" -> FLOPs per step
    kinds: dict[str, ArithmeticKind] = msgspec.field(default_factory=dict)  # longest first
    mfu: float | None = None  # the time that the FLOPs take at the roof / wall time of the step
    peaks: dict[str, float] = msgspec.field(default_factory=dict)  # TFLOP/s by precision used
    device: str | None = None  # whose roof it is
    source: str | None = None  # of the roof


class Compute(Fact, frozen=True, kw_only=True):
    """The inside of the compute phase, per step."""

    forward_ms: float | None = None
    backward_ms: float | None = None
    optimizer_ms: float | None = None
    kinds: dict[str, float] = msgspec.field(default_factory=dict)  # kind -> ms
    operators: list[Operator] = msgspec.field(default_factory=list)  # at most 20, largest first
    operators_per_step: float | None = None
    bound: str | None = None  # "arithmetic" | "memory_bandwidth" | None = cannot tell
    arithmetic: Arithmetic | None = None  # None: too few FLOPs recorded, see not_measured


class Straggler(Fact, frozen=True, kw_only=True):
    """A rank that others waited for; ms in total, as in `Matching`."""

    rank: int
    caused_ms: float  # the longest waits in the collectives that it came last to
    share: float  # of all ranks' caused_ms
    phase: str | None = None  # what it did longer than the others before it came; None: not known
    label: str | None = None  # more exactly ("host.python", "compute.forward")
    doing_ms: dict[str, float] = msgspec.field(default_factory=dict)  # caused_ms by label
    unseen_ms: float = 0.0  # of caused_ms: it was late already when its recording began


class RankWaiting(Fact, frozen=True, kw_only=True):
    """One rank in the matched collectives; ms in total, as in `Matching`."""

    rank: int
    inside_ms: float  # in matched collectives, of which
    waited_ms: float  # for late ranks; the rest is transfer
    caused_ms: float  # the others' longest waits for it
    clock_ms: float  # how far its clock is ahead of the reference rank's


class Matching(Fact, frozen=True, kw_only=True):
    """Collectives matched over the ranks: ms in total over all that was recorded of them.

    That includes steps that were cut off where a recording begins.
    """

    collectives: int  # that were matched
    unmatched: int  # calls of one rank without a counterpart on another
    steps: int  # whole ones with matched collectives
    transfer_ms: float  # minimum over ranks of each collective
    waiting_ms: float  # the longest wait of any rank in each collective: what lateness cost
    stragglers: list[Straggler] = msgspec.field(default_factory=list)  # worst first, at most 8
    ranks: list[RankWaiting] = msgspec.field(default_factory=list)  # by rank


class Communication(Fact, frozen=True, kw_only=True):
    """The inside of the communication phase, per step."""

    total_ms: float  # union of collectives, overlapped or not
    exposed_ms: float
    transfer_ms: float | None = None  # minimum over ranks of each matched collective
    waiting_ms: float | None = None  # the rest: waiting for a late rank, as the mean over ranks
    late_rank: int | None = None  # the rank that causes most of the waiting
    late_rank_share: float | None = None  # its share of the waiting
    late_rank_phase: str | None = None  # what the late rank was doing more of than the others
    late_rank_label: str | None = None  # more exactly: "host.python"
    matching: Matching | None = None  # None: one rank, or nothing to match
    overlapped_ms: float | None = None  # of total_ms, beside kernels that compute
    collectives: float | None = None  # calls per step
    bytes: float | None = None  # per step


class Host(Fact, frozen=True, kw_only=True):
    """The inside of the host phase, per step; the four add up to it."""

    launch_ms: float
    python_ms: float
    allocator_ms: float
    synchronisation_ms: float


class Outside(Fact, frozen=True, kw_only=True):
    """Between steps: what the training thread did, per step; the four add up to the phase."""

    checkpoint_ms: float
    evaluation_ms: float
    logging_ms: float
    other_ms: float


class Copies(Fact, frozen=True, kw_only=True):
    """Host-to-device copies, per step."""

    pageable_ms: float | None = None
    pinned_ms: float | None = None
    blocking_ms: float | None = None  # host blocked in a copy call
    bytes: float | None = None
    gb_per_s: float | None = None


class GpuUse(Fact, frozen=True, kw_only=True):
    """What the GPU did, ms per step as the mean over the ranks.

    Unions of intervals, which overlap each other, unlike phases: a collective beside a kernel
    counts for both. Steps are cut at the host's boundaries.
    """

    step_ms: float  # of the traced steps
    busy_ms: float  # anything at all
    idle_ms: float
    compute_ms: float  # kernels but collectives
    communication_ms: float  # collectives
    overlap_ms: float  # of both
    exposed_communication_ms: float  # communication without compute
    copies_ms: float
    exposed_copies_ms: float  # without any kernel
    to_device_ms: float
    to_host_ms: float
    on_device_ms: float
    memset_ms: float
    loader_ms: float  # the training thread in the loader
    loader_idle_ms: float  # of it, with the GPU idle
    runtime_idle_ms: float = 0.0  # any thread in a call of CUDA's or HIP's runtime, the GPU idle
