"""What one run turned out to be: the facts that rules, remedies and reports may ask for.

A `Run` is made from the record by `profiler.attribution` and never written by hand. Times are
milliseconds per training step unless a name says otherwise; shares are fractions (0..1) of the
step's wall time. `None` means *not measured*, and `not_measured` says why; an empty tuple means
measured, and nothing was there.
"""

from __future__ import annotations

import msgspec

from speedprof.profiler.fact import Fact
from speedprof.profiler.roofs.roofs import Roofs
from speedprof.profiler.run_insides import (
    Arithmetic,
    ArithmeticKind,
    Communication,
    Compute,
    Copies,
    GpuUse,
    Host,
    Matching,
    Operator,
    Outside,
    RankWaiting,
    Straggler,
)
from speedprof.profiler.run_tuning import Tuning
from speedprof.profiler.run_whatif import WhatIf

__all__ = [
    "PHASES",
    "Arithmetic",
    "ArithmeticKind",
    "Bar",
    "Batch",
    "Communication",
    "Compute",
    "Copies",
    "Environment",
    "Exchange",
    "Fact",
    "GpuSample",
    "GpuUse",
    "Host",
    "InForce",
    "Lane",
    "Line",
    "Loader",
    "Machine",
    "Matching",
    "Model",
    "NotMeasured",
    "Operator",
    "Optimizer",
    "Outside",
    "Phase",
    "Rank",
    "RankWaiting",
    "Roofs",
    "Run",
    "Sample",
    "StepSeries",
    "StepTimes",
    "Straggler",
    "SyncCall",
    "Timeline",
    "Transform",
    "WhatIf",
]

PHASES = ("data_loading", "host_to_device", "compute", "communication", "host", "outside")


class Phase(Fact, frozen=True, kw_only=True):
    """One exclusive part of the step; the six of them add up to its wall time."""

    share: float
    low: float  # 95 % interval of the share, from the spread between steps
    high: float
    ms: float  # share x mean step


class NotMeasured(Fact, frozen=True, kw_only=True):
    what: str
    why: str


class StepTimes(Fact, frozen=True, kw_only=True):
    """Wall time of untraced steps after warm-up."""

    count: int  # steps that the statistics rest on
    mean_ms: float
    median_ms: float
    p10_ms: float
    p90_ms: float
    samples_per_s: float | None = None
    low_ms: float | None = None  # 95 % interval of the mean
    high_ms: float | None = None


class StepSeries(Fact, frozen=True, kw_only=True):
    """Steps over time, thinned to at most 2,000 points for a picture; lists of equal length."""

    start_s: list[float]  # since the first step
    wall_ms: list[float]
    input_wait_ms: list[float]
    outside_ms: list[float]
    traced: list[bool]


class Transform(Fact, frozen=True, kw_only=True):
    """One step of a transform chain, as timed where it ran."""

    name: str
    ms_per_sample: float
    calls: int


class Loader(Fact, frozen=True, kw_only=True):
    """One DataLoader: how it was built, and what its workers (or the main thread) spent on it."""

    number: int
    role: str  # "training", "evaluation" or "unused"
    where: str | None  # "train.py:41", the line that built it
    dataset: str  # class name
    iterable: bool
    length: int | None  # samples in the dataset
    batch_size: int | None
    num_workers: int
    pin_memory: bool
    persistent_workers: bool
    prefetch_factor: int | None
    start_method: str | None
    batches: int  # batches received by the training thread
    iterations: int  # times that iter() was called: epochs
    # passes whose DistributedSampler shuffled as in the pass before; None: none shuffles
    repeated_orders: int | None = None
    explicit: list[str] = msgspec.field(default_factory=list)  # arguments the script gave by name
    library: str | None = None  # that builds it in the script's name ("transformers")
    picklable: bool | None = None  # the dataset pickles, so that workers can be spawned
    wait_ms: float | None = None  # main thread's wait per step
    startup_ms: float | None = None  # building the iterator, per call (workers are started here)
    first_batch_ms: float | None = None  # from iter() to the first batch, per call
    batch_bytes: int | None = None  # tensors in one batch
    # per batch, summed over the samples of the batch, in the worker (or main thread) that made it
    getitem_ms: float | None = None  # wall
    getitem_cpu_ms: float | None = None
    collate_ms: float | None = None
    collate_cpu_ms: float | None = None
    queued_ms: float | None = None  # ready to run but no core was free (schedstat)
    storage_wait_ms: float | None = None  # wall - cpu - queued: waiting for storage or sleeping
    read_bytes: float | None = None  # bytes asked of the file system, per batch
    disk_bytes: float | None = None  # bytes that came from the device, per batch
    transforms: list[Transform] = msgspec.field(default_factory=list)


class Line(Fact, frozen=True, kw_only=True):
    """A source line where the training thread was seen during a phase."""

    where: str  # "train.py:41"
    function: str
    phase: str  # one of PHASES
    kind: (
        str  # "python", "waiting", "batches", "checkpoint", "evaluation", "logging", "launch", ...
    )
    share: float  # of the step
    ms: float
    code: str | None = None  # the line's text, where it could be read


class SyncCall(Fact, frozen=True, kw_only=True):
    """A call that makes the host wait for the device."""

    what: str  # "Tensor.item"
    where: str
    calls_per_step: float
    ms_per_step: float


class Bar(Fact, frozen=True, kw_only=True):
    """An interval of one lane of the timeline."""

    start_ms: float  # since the step's start
    end_ms: float
    phase: str
    label: str


class Lane(Fact, frozen=True, kw_only=True):
    name: str  # "main thread", "GPU stream 7", "gloo", "exposed"
    bars: list[Bar]


class Timeline(Fact, frozen=True, kw_only=True):
    """One representative traced step."""

    rank: int
    step: int
    wall_ms: float
    lanes: list[Lane]


class Rank(Fact, frozen=True, kw_only=True):
    """One training process."""

    rank: int
    node: str
    pid: int
    device: str
    steps: int
    step_ms: StepTimes | None
    phases: dict[str, Phase] | None
    peak_memory_bytes: int | None = None  # of the process
    peak_device_bytes: int | None = None
    device_memory_bytes: int | None = None


class Sample(Fact, frozen=True, kw_only=True):
    """One look at the machine by the launcher's sampler; None where it cannot be seen."""

    at_s: float  # since the run began
    cpu: float  # of all cores, 0..1
    tree_cpu: float  # of all cores, by the run's processes
    memory_bytes: int  # resident, of the run's processes
    available_bytes: int
    read_bytes_per_s: float | None = None
    write_bytes_per_s: float | None = None
    sent_bytes_per_s: float | None = None
    received_bytes_per_s: float | None = None
    nice_cpu: float | None = None  # of all cores, by niced programs, which give way to the run
    gpus: list[GpuSample] = msgspec.field(default_factory=list)


class GpuSample(Fact, frozen=True, kw_only=True):
    index: int
    utilisation: float | None = None
    memory_bytes: int | None = None
    pcie_received_bytes_per_s: float | None = None
    pcie_sent_bytes_per_s: float | None = None
    sm_mhz: int | None = None
    max_sm_mhz: int | None = None  # what the card can do
    power_w: float | None = None
    throttled: str | None = None


class Machine(Fact, frozen=True, kw_only=True):
    """One node and how busy it was."""

    node: str
    cpu: str | None
    cores: int  # usable by the run (affinity and cgroup)
    memory_bytes: int | None
    gpus: list[str]
    samples: list[Sample]  # at most 600, thinned
    cpu_load: float | None = None  # mean over the training, 0..1 of all cores
    other_load: float | None = None  # part of it that is not ours and does not give way to us
    start_limit: str | None = None  # a cgroup limit worth naming


class Environment(Fact, frozen=True, kw_only=True):
    """Where the training ran: versions, flags and threads, as pairs for a table."""

    python: str | None = None
    torch: str | None = None
    cuda: str | None = None
    torchvision: str | None = None
    threads: int | None = None  # intra-op
    flags: dict[str, str] = msgspec.field(default_factory=dict)  # "OMP_NUM_THREADS": "2"


class Optimizer(Fact, frozen=True, kw_only=True):
    name: str  # "Adam"
    parameters: int | None = None  # tensors
    elements: int | None = None
    fused: bool | None = None
    foreach: bool | None = None
    where: str | None = None
    keeps_gradients: bool | None = None  # filled with zeros between updates, not dropped
    trainer: str | None = None  # the library whose loop steps it; None: the script's own


class Exchange(Fact, frozen=True, kw_only=True):
    """How DistributedDataParallel exchanges gradients; None where torch does not tell."""

    bucket_cap_mb: float | None = None
    find_unused_parameters: bool | None = None
    gradient_as_bucket_view: bool | None = None
    static_graph: bool | None = None
    hooked: bool | None = None  # a communication hook was registered
    unsynchronised: float | None = None  # of the backward passes, 0..1, under no_sync()


class Batch(Fact, frozen=True, kw_only=True):
    """What the training loader's batches are made of."""

    shapes: list[list[int]]  # of the first batch's tensors
    dtypes: list[str]  # of the same: "uint8"
    distinct: int  # different shapes among them, but for an epoch's last batch, if only smaller
    looked_at: int
    padding: float | None = None  # of integer batches: the share of trailing equal ids, 0..1


class InForce(Fact, frozen=True, kw_only=True):
    """A remedy that was applied to this run."""

    name: str
    parameters: dict[str, bool | int | float | str]
    effects: int  # how often it changed something; 0: it had no effect
    notes: list[str]  # what it left as it was, and why


class Model(Fact, frozen=True, kw_only=True):
    """The training module as first seen, where it could be found."""

    name: str
    parameters: int
    bytes: int
    dtypes: list[str]
    compiled: bool
    wrapped: str | None = None  # "DistributedDataParallel", "FullyShardedDataParallel"
    modules: dict[str, int] | None = None  # class name -> how many; None: not recorded
    trainable: int | None = None  # parameters that require gradients
    channels_last: bool | None = None  # the first 4-d parameter lies so in memory
    biased_before_norm: int | None = None  # convolutions with bias right before a batch norm
    odd_dims: list[int] | None = None  # sizes of linear layers and embeddings, no multiples of 8
    checkpointed: bool | None = None  # torch.utils.checkpoint was called in a step
    exchange: Exchange | None = None  # of DistributedDataParallel


class Run(Fact, frozen=True, kw_only=True):
    """Everything known of one run."""

    folder: str
    name: str
    kind: str = "run"  # "run": measured live; "trace": made of recorded traces
    command: list[str]
    cwd: str
    started_at: float  # Unix seconds
    wall_s: float | None
    finished: bool
    exit_status: int | None  # negative: the signal that ended it
    stopped_by_us: bool = False  # --stop-after
    version: str = ""
    world_size: int = 1
    ranks: list[Rank] = msgspec.field(default_factory=list)
    missing_ranks: list[tuple[int, int]] = msgspec.field(default_factory=list)  # first, last
    steps: int = 0  # training steps seen on the first rank, warm-up and traced ones included
    warmup_steps: int = 0
    traced_steps: int = 0
    windows: int = 0
    step_definition: str | None = None  # how steps were told apart, one sentence
    updates_per_step: float | None = None
    batches_per_step: float | None = None
    device: str = "cpu"  # "cpu" | "cuda" | "rocm" | "mps" | "xpu"
    step_ms: StepTimes | None = None
    series: StepSeries | None = None
    phases: dict[str, Phase] | None = None  # all six, or None where no step was seen
    compute: Compute | None = None
    communication: Communication | None = None
    host: Host | None = None
    outside: Outside | None = None
    copies: Copies | None = None
    gpu_use: GpuUse | None = None  # None: no GPU, or no window
    trace_use: GpuUse | None = None  # of a whole trace, from the GPU's first activity to its last
    input_kind: str | None = None  # "loader" | "generator" | "function" | None
    loaders: list[Loader] = msgspec.field(default_factory=list)
    lines: list[Line] = msgspec.field(default_factory=list)  # largest first, at most 40
    sync_calls: list[SyncCall] = msgspec.field(default_factory=list)
    timelines: list[Timeline] = msgspec.field(default_factory=list)
    machines: list[Machine] = msgspec.field(default_factory=list)
    roofs: Roofs | None = (
        None  # of the launcher's machine; None: `speedprof roofs` never ran there
    )
    environment: Environment = msgspec.field(default_factory=Environment)
    optimizers: list[Optimizer] = msgspec.field(default_factory=list)
    models: list[Model] = msgspec.field(default_factory=list)
    applied: list[InForce] = msgspec.field(default_factory=list)  # by a plan
    tuning: Tuning | None = None  # where this run's plan was found
    whatif: WhatIf | None = None  # ceilings that trials measured
    batch: Batch | None = None  # of the training loader
    backwards_per_step: float | None = None
    garbage_ms: float | None = None  # garbage collector pauses per step
    startup_s: float | None = None  # from the command's start to the first step
    not_measured: list[NotMeasured] = msgspec.field(default_factory=list)
    changes: list[str] = msgspec.field(default_factory=list)  # live patches, "owner.name: reason"
    notes: list[str] = msgspec.field(
        default_factory=list
    )  # damage, switched-off probes, one sentence each

    def share(self, phase: str) -> float | None:
        """Return the phase's share of the step, None where phases were not measured."""
        return self.phases[phase].share if self.phases else None

    def training_loader(self) -> Loader | None:
        """Return the loader that fed most training steps."""
        training = [loader for loader in self.loaders if loader.role == "training"]
        return max(training, key=lambda loader: loader.batches, default=None)
