"""What remedies ask a run: its cores, its memory, its loader's pipeline, its user's own words."""

from __future__ import annotations

from speedprof.advisor.loading import preparation_cpu_ms, waiting_ms
from speedprof.advisor.shares import step_ms
from speedprof.mitigations.gains import Pipeline, handoff_ms
from speedprof.profiler.run import Loader, Machine, Run

PRECISIONS = {"fp32": "float32", "tf32": "float32", "bf16": "bfloat16", "fp16": "float16"}
USED = 0.1  # of the FLOPs: a type below that is an exception
COMPILED = ("triton_", "CompiledFunction", "Torch-Compiled Region", "## Call CompiledFxGraph")


def machine(run: Run) -> Machine | None:
    """Return the machine of the first rank, None where no machine was recorded."""
    node = run.ranks[0].node if run.ranks else None
    return next((one for one in run.machines if one.node == node), None) or next(
        iter(run.machines), None
    )


def cores(run: Run) -> float | None:
    """Return the cores that one rank may use, what other programs take left out."""
    node, own = machine(run), own_cores(run)
    if node is None or own is None:
        return None
    return max(1.0, own * (1.0 - (node.other_load or 0.0)))


def own_cores(run: Run) -> float | None:
    """Return the cores of one rank, as if no other program ran."""
    node = machine(run)
    if node is None:
        return None
    together = sum(rank.node == node.node for rank in run.ranks) or 1
    return max(1.0, node.cores / together)


def available_bytes(run: Run) -> int | None:
    """Return the memory that was free at the tightest moment of the run."""
    node = machine(run)
    if node is None:
        return None
    return min((sample.available_bytes for sample in node.samples), default=node.memory_bytes)


def rest_cores(run: Run, pipeline_cpu_ms: float) -> float:
    """Return how many cores the step keeps busy beside making batches.

    At least 1, and no more than its operators have threads: beyond them, the machine's load is
    somebody else's.
    """
    have = cores(run) or 1.0
    if run.device != "cpu":
        return 1.0
    most = max(1.0, min(float(run.environment.threads or have), have))
    node, mean, loading = machine(run), step_ms(run), run.share("data_loading")
    if node is None or node.cpu_load is None or mean is None or loading is None:
        return most
    ours = max(node.cpu_load - (node.other_load or 0.0), 0.0) * node.cores * mean
    return min(max((ours - pipeline_cpu_ms) / max(mean * (1.0 - loading), 1e-9), 1.0), most)


def pipeline(run: Run, loader: Loader) -> Pipeline | None:
    """Return the loader's pipeline, None where its batches were not timed."""
    cpu, waiting = preparation_cpu_ms(loader), waiting_ms(run, loader)
    mean, have, loading = step_ms(run), cores(run), run.share("data_loading")
    if cpu is None or mean is None or have is None or loading is None:
        return None
    batches = run.batches_per_step or 1.0
    return Pipeline(
        now_ms=mean,
        workers=loader.num_workers,
        rest_ms=mean * (1.0 - loading),
        cpu_ms=cpu * batches,
        waiting_ms=(waiting or 0.0) * batches,
        handoff_ms=handoff_ms(loader.batch_bytes, batches),
        cores=have,
        rest_cores=rest_cores(run, cpu * batches),
        storage_ms=storage_ms(run, loader) * batches,
    )


def storage_ms(run: Run, loader: Loader) -> float:
    """Return the least that storage needs for one batch's bytes, in ms; 0 where nobody measured.

    Only bytes that came from the device count, at the best rate of this machine's own roofs.
    """
    storage = run.roofs.storage_of(run.cwd) if run.roofs else None
    levels = (storage.sequential_gb_per_s, storage.parallel_gb_per_s) if storage else ()
    best = max((level.best for level in levels if level is not None), default=0.0)
    return (loader.disk_bytes or 0.0) / (best * 1e6) if best > 0 else 0.0


def users_word(loader: Loader, argument: str) -> str:
    """Say that the script sets the argument itself, so that its own value would have to change."""
    if argument not in loader.explicit:
        return ""
    value = getattr(loader, argument)
    return f"; the script sets {argument}={value} itself, that value would have to change"


def fewer_threads(run: Run, pipeline: Pipeline, workers: int) -> int | None:
    """Return with how many compute threads so many workers fit on the CPU's cores.

    None where they fit as it is, or where that is not known. Threads of one operator wait for
    each other: one that waits for a core which a worker holds stops them all, for milliseconds.
    Measured on two cores with two threads: a step of 19 ms took 25 ms with one worker and 15 ms
    with two; with one thread and two workers it took 9.9 ms, as long as the model says. Workers
    that wait for storage hold no core meanwhile.
    """
    threads, have = run.environment.threads, own_cores(run)
    making = pipeline.cpu_ms + pipeline.waiting_ms
    if run.device != "cpu" or threads is None or have is None or making <= 0:
        return None
    holding = round(workers * pipeline.cpu_ms / making)
    fewer = max(1, int(have) - holding)
    return fewer if holding and fewer < threads else None


def threads_reason(run: Run, fewer: int | None) -> str:
    """Say that threads and workers do not fit on the cores, nothing where they do."""
    now = run.environment.threads
    return f", with {fewer} instead of {now} compute threads" if fewer is not None else ""


def threads_line(fewer: int | None) -> str:
    """Return the line that leaves the workers their cores, nothing where they have them."""
    if fewer is None:
        return ""
    return f"torch.set_num_threads({fewer})  # at the start: workers need the other cores\n"


def loader_call(loader: Loader, **changes: object) -> str:
    """Return the arguments to write into the loader's call, with what they replace."""
    written = [f"# {loader.where or 'where it is made'}, in DataLoader(...):"]
    for argument, value in changes.items():
        old = (
            f"  # instead of {getattr(loader, argument)!r}" if argument in loader.explicit else ""
        )
        written.append(f"{argument}={value!r},{old}")
    return "\n".join(written)


def dtypes(run: Run) -> set[str]:
    """Return the parameter types of all models that were found.

    Of a recorded trace, the types in which its kernels multiply.
    """
    found = {dtype.removeprefix("torch.") for model in run.models for dtype in model.dtypes}
    counted = run.compute.arithmetic if run.compute and run.kind == "trace" else None
    if counted is None:
        return found
    whole = sum(counted.precisions.values())
    used = (name for name, flops in counted.precisions.items() if flops >= USED * whole)
    return found | {PRECISIONS.get(name, name) for name in used if name}


def types_unknown(run: Run) -> bool:
    """Tell whether the run is a trace whose kernels do not tell in which types they multiply."""
    return run.kind == "trace" and not dtypes(run)


def gpus(run: Run) -> list[str]:
    """Return the names of the devices that are known."""
    node = machine(run)
    counted = run.compute.arithmetic if run.compute else None
    recorded = [counted.device] if counted is not None and counted.device else []
    return node.gpus if node is not None and node.gpus else recorded


def compiled_in_trace(run: Run) -> bool:
    """Tell whether a recorded trace shows a compiled model among its costliest kernels."""
    operators = run.compute.operators if run.compute and run.kind == "trace" else []
    return any(one.name.startswith(COMPILED) for one in operators)


def kinds_share(run: Run, *kinds: str) -> float | None:
    """Return the share of the step (0..1) in these kinds of operators, None where not measured."""
    compute, share = run.compute, run.share("compute")
    if compute is None or share is None or not compute.kinds:
        return None
    total = sum(compute.kinds.values())
    if total <= 0:
        return None
    return share * sum(compute.kinds.get(kind, 0.0) for kind in kinds) / total


def cpu_has_bf16(run: Run) -> bool | None:
    """Tell whether the CPU multiplies bf16 in hardware; None where that was not recorded."""
    told = run.environment.flags.get("cpu_bf16")
    return None if told is None else told.lower() in ("yes", "true", "1")


def is_gpu(run: Run) -> bool:
    return run.device in ("cuda", "rocm")
