"""What belongs to a finding without being one: it costs nothing that was measured by itself.

Each function returns a part of a sentence, or nothing where the fact is unknown or unremarkable.
What belongs to one kind of finding is added by its rule; what may belong to several (`SHARED`) is
told once, by `story`, with the largest of them: one story instead of twenty warnings.
"""

from __future__ import annotations

from collections.abc import Callable

from speedprof.advisor.loading import CORES_FREE_BELOW, cpu_load
from speedprof.advisor.shares import number, percent, plenty, size, step_ms
from speedprof.profiler.run import Loader, Machine, Run

CROWD = 0.1  # of the machine, by other programs: less is what any system does in passing
NO_ROOM = 0.05  # of the machine's memory left: the page cache holds no files then
FULL = 0.85  # of device memory, allocated: torch-tb-profiler's 0.9 counts what is reserved, too
NEAR_ROOF = 0.8  # of it: repeats of one measurement differ by up to a fifth on shared storage
TINY_US = 10.0  # TraceLens calls kernels below it short: starting one takes about as long
FEW_OPERATORS = 100  # of which nobody would say that they are many
CHANGING = 2  # different shapes
DEBUGGING = {
    "CUDA_LAUNCH_BLOCKING": ("1", "CUDA_LAUNCH_BLOCKING=1 makes each launch wait for its end"),
    "anomaly_detection": ("True", "anomaly detection keeps the stack of each operator"),
    "TORCH_DISTRIBUTED_DEBUG": ("DETAIL", "TORCH_DISTRIBUTED_DEBUG=DETAIL checks each collective"),
}


def joined(*parts: str) -> str:
    """Return the parts that say something, each after a semicolon."""
    return "".join(f"; {part}" for part in parts if part)


def crowd(run: Run) -> str:
    """Say how much of the machine other programs take."""
    machine = _busiest(run)
    if machine is None or machine.other_load is None or machine.other_load < CROWD:
        return ""
    return f"other programs take {percent(machine.other_load)} of the machine's cores"


def saturated(run: Run) -> str:
    """Say that no core is free."""
    load = cpu_load(run)
    if load is None or load < CORES_FREE_BELOW:
        return ""
    machine = _busiest(run)
    cores = f" {plenty(machine.cores, 'core')}" if machine else " cores"
    return f"the machine's{cores} are {percent(load)} busy"


def no_room(run: Run) -> str:
    """Say that memory is full, so that files are read from storage again and again."""
    tightest = [
        (min(sample.available_bytes for sample in machine.samples), machine.memory_bytes)
        for machine in run.machines
        if machine.samples and machine.memory_bytes
    ]
    full = [available / whole for available, whole in tightest if available < NO_ROOM * whole]
    if not full:
        return ""
    left = percent(min(full))
    return f"only {left} of the machine's memory was free, which leaves no room to keep files"


def reading(run: Run, loader: Loader) -> str:
    """Say how fast storage is read, and how fast it can be where that was measured."""
    mean, amount = step_ms(run), loader.disk_bytes
    if not mean or not amount:
        return ""
    beside = sum(rank.node == run.ranks[0].node for rank in run.ranks) or 1  # read as much each
    rate = beside * amount * (run.batches_per_step or 1.0) / mean / 1e6  # GB/s
    text = f"{number(1e3 * rate)} MB/s come from storage"
    storage = run.roofs.storage_of(run.cwd) if run.roofs else None
    levels = (storage.sequential_gb_per_s, storage.parallel_gb_per_s) if storage else ()
    best = max((level.best for level in levels if level is not None), default=None)
    if best is None:
        return text
    room = ", so it is the disk that is slow" if rate >= NEAR_ROOF * best else ""
    return f"{text} of the {number(1e3 * best)} that it can give{room}"


def link(run: Run) -> str:
    """Say how fast copies to the device could be here, or else what the link was seen to carry."""
    transfers = run.roofs.transfers if run.roofs else None
    speed = run.copies.gb_per_s if run.copies else None
    if transfers is not None and transfers.pinned_gb_per_s is not None and speed is not None:
        best = number(transfers.pinned_gb_per_s.best)
        return f"from pinned memory this machine copies {best} GB/s"
    carried = [
        gpu.pcie_received_bytes_per_s or 0.0
        for machine in run.machines
        for sample in machine.samples
        for gpu in sample.gpus
    ]
    if not max(carried, default=0.0):
        return ""
    return f"the link to the GPU was seen to carry up to {number(max(carried) / 1e9)} GB/s"


def exchange_roof(run: Run) -> str:
    """Say how fast gradients are exchanged, and how fast they could be."""
    facts = run.communication
    if run.roofs is None or facts is None or not facts.bytes or not facts.transfer_ms:
        return ""
    each = facts.bytes / max(facts.collectives or 1.0, 1.0)
    measured = [
        one
        for level in run.roofs.all_reduce
        if level.ranks == run.world_size
        for one in level.sizes
    ]
    near = min(measured, key=lambda one: abs(one.bytes - each), default=None)
    if near is None:
        return ""
    rate = facts.bytes / facts.transfer_ms / 1e6
    return (
        f"that is {number(rate)} GB/s, where an all-reduce of {size(near.bytes)} reached "
        f"{number(near.gb_per_s.best)}"
    )


def searching(run: Run) -> str:
    """Say that DDP looks for unused parameters after each forward pass."""
    exchanges = [model.exchange for model in run.models if model.exchange is not None]
    if not any(one.find_unused_parameters for one in exchanges):
        return ""
    return "DDP looks for unused parameters in every step (find_unused_parameters=True)"


def debugging(run: Run) -> str:
    """Name the switch for debugging that makes the host slow."""
    flags = run.environment.flags
    named = [text for name, (value, text) in DEBUGGING.items() if flags.get(name) == value]
    profiler = flags.get("profilers")
    named += [f"{profiler} looks on"] if profiler else []
    return " and ".join(named[:2])


def tiny(run: Run) -> str:
    """Say how short the operators are, where starting one takes as long as running it."""
    count = run.compute.operators_per_step if run.compute else None
    computing = run.phases["compute"].ms if run.phases else None
    if not count or count < FEW_OPERATORS or not computing:
        return ""
    each = 1e3 * computing / count
    return f"an operator runs {number(each)} us on average" if each < TINY_US else ""


def changing_shapes(run: Run) -> str:
    """Say that batches change their shape, where something is prepared for each shape anew."""
    batch = run.batch
    if batch is None or batch.distinct < CHANGING:
        return ""
    seen = f"{batch.looked_at} batches had {batch.distinct} different shapes"
    if any(model.compiled for model in run.models):
        return f"{seen}, and the model may be compiled again for new ones"
    if run.environment.flags.get("cudnn.benchmark") == "True":
        return f"{seen}, and cudnn.benchmark tries its algorithms for each new one"
    return ""


def no_larger_batch(run: Run) -> str:
    """Say that the device's memory is full: what each step costs once cannot be spread further."""
    full = [
        rank.peak_device_bytes / rank.device_memory_bytes
        for rank in run.ranks
        if rank.peak_device_bytes and rank.device_memory_bytes
    ]
    if max(full, default=0.0) < FULL:
        return ""
    return f"the device's memory is {percent(max(full))} full, with no room for larger batches"


def shapes(run: Run) -> str:
    """Say that batches change their shape, which a cache of memory blocks suffers from."""
    batch = run.batch
    if batch is None or batch.distinct < CHANGING:
        return ""
    return f"{batch.looked_at} batches had {batch.distinct} different shapes"


def without_cudnn(run: Run) -> str:
    """Say that convolutions run without cuDNN."""
    convolving = run.compute is not None and run.compute.kinds.get("convolution")
    if run.device != "cuda" or not convolving:
        return ""
    switched_off = run.environment.flags.get("cudnn.enabled") == "False"
    return "cuDNN is switched off (torch.backends.cudnn.enabled)" if switched_off else ""


def arithmetic_roof(run: Run) -> str:
    """Say how fast the step multiplies, and how fast this machine can."""
    counted = run.compute.arithmetic if run.compute else None
    device = run.roofs.of_device(run.device) if run.roofs else None
    if counted is None or device is None or not counted.precisions:
        return ""
    main = max(counted.precisions, key=lambda name: counted.precisions[name])
    level = device.matmul_tflops.get(main)
    if level is None:
        return ""
    return (
        f"it multiplies at {number(counted.tflops_per_s)} TFLOP/s, this machine's best in {main} "
        f"is {number(level.best)}"
    )


# what may belong to several findings, and the (phase, cause)s that it may belong to
ON_HOST = (("host", "launch"), ("host", "python"), ("host", "synchronisation"))
ON_CORES = (*ON_HOST[:2], ("data_loading", "cpu_preparation"))
SHARED: tuple[tuple[Callable[[Run], str], tuple[tuple[str, str], ...]], ...] = (
    (debugging, ON_HOST),
    (changing_shapes, ON_HOST[:2]),
    (no_larger_batch, (ON_HOST[0], ("communication", "transfer"))),
    (crowd, ON_CORES),
)


def _busiest(run: Run) -> Machine | None:
    return max(run.machines, key=lambda machine: machine.cpu_load or 0.0, default=None)
