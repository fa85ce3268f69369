"""Runs made for tables of cases: a few shares in, a whole `Run` out."""

from __future__ import annotations

from speedprof.profiler.run import (
    PHASES,
    Communication,
    Compute,
    Copies,
    Environment,
    GpuUse,
    Host,
    Line,
    Loader,
    Machine,
    Model,
    Optimizer,
    Outside,
    Phase,
    Run,
    StepSeries,
    StepTimes,
    SyncCall,
)

STEP_MS = 100.0


def phases(step_ms: float = STEP_MS, spread: float = 0.02, **shares: float) -> dict[str, Phase]:
    """Return six phases; compute gets what the named shares leave over."""
    whole = dict.fromkeys(PHASES, 0.0) | shares
    if "compute" not in shares:
        whole["compute"] = 1.0 - sum(shares.values())
    return {
        name: Phase(
            share=share,
            low=max(0.0, share - spread),
            high=min(1.0, share + spread),
            ms=share * step_ms,
        )
        for name, share in whole.items()
    }


def run(
    shares: dict[str, float] | None = None,
    *,
    step_ms: float = STEP_MS,
    spread: float = 0.02,
    **facts: object,
) -> Run:
    """Return a finished CPU run of 200 steps with these shares by phase; the rest are Run's "
    "fields."""
    fields: dict[str, object] = {
        "folder": "speedprof-runs/example",
        "name": "example",
        "command": ["train.py"],
        "cwd": "/home/user",
        "started_at": 0.0,
        "wall_s": 60.0,
        "finished": True,
        "exit_status": 0,
        "steps": 200,
        "warmup_steps": 0,
        "batches_per_step": 1.0,
        "device": "cpu",
        "step_ms": StepTimes(
            count=200, mean_ms=step_ms, median_ms=step_ms, p10_ms=step_ms, p90_ms=step_ms
        ),
        "phases": phases(step_ms, spread, **(shares or {})),
        "machines": [machine()],
        "environment": Environment(python="3.11", torch="2.9", threads=2),
    }
    return Run(**(fields | facts))  # type: ignore[arg-type]


def trace(shares: dict[str, float] | None = None, **facts: object) -> Run:
    """Return a run made of a recorded trace: no machine, no loader, no versions."""
    recorded = {"kind": "trace", "device": "cuda", "machines": [], "environment": Environment()}
    return run(shares, **(recorded | facts))


def series(*walls_ms: float) -> StepSeries:
    """Return steps of these lengths, all of them traced."""
    nothing = [0.0] * len(walls_ms)
    starts = [sum(walls_ms[:at]) / 1e3 for at in range(len(walls_ms))]
    return StepSeries(
        start_s=starts,
        wall_ms=list(walls_ms),
        input_wait_ms=nothing,
        outside_ms=nothing,
        traced=[True] * len(walls_ms),
    )


def gpu_use(**facts: float) -> GpuUse:
    """Return a GPU that did nothing but what is named."""
    nothing = dict.fromkeys(GpuUse.__struct_fields__, 0.0)
    return GpuUse(**(nothing | {"step_ms": STEP_MS} | facts))


def machine(cores: int = 2, **facts: object) -> Machine:
    fields: dict[str, object] = {
        "node": "node0",
        "cpu": "an x86 CPU",
        "cores": cores,
        "memory_bytes": 16 << 30,
        "gpus": [],
        "samples": [],
        "cpu_load": 0.5,
    }
    return Machine(**(fields | facts))  # type: ignore[arg-type]


def loader(num_workers: int = 0, **facts: object) -> Loader:
    """Return a loader of 64-sample batches that nothing was measured of."""
    fields: dict[str, object] = {
        "number": 1,
        "role": "training",
        "where": "train.py:41",
        "dataset": "ImageFolder",
        "iterable": False,
        "length": 12_800,
        "batch_size": 64,
        "num_workers": num_workers,
        "pin_memory": False,
        "persistent_workers": False,
        "prefetch_factor": 2 if num_workers else None,
        "start_method": "fork" if num_workers else None,
        "batches": 200,
        "iterations": 2,
        "picklable": True,
        "batch_bytes": 1 << 20,
    }
    return Loader(**(fields | facts))  # type: ignore[arg-type]


def preparing(num_workers: int = 0, cpu_ms: float = 60.0, **facts: object) -> Loader:
    """Return a loader whose batches cost CPU time."""
    return _timed(num_workers, wall_ms=cpu_ms, cpu_ms=cpu_ms, **facts)


def fetching(num_workers: int = 0, wait_ms: float = 60.0, **facts: object) -> Loader:
    """Return a loader whose batches wait for storage, with a tenth of CPU time on top."""
    return _timed(
        num_workers,
        wall_ms=1.1 * wait_ms,
        cpu_ms=0.1 * wait_ms,
        **{"storage_wait_ms": wait_ms, "read_bytes": 6.4e6, **facts},
    )


def _timed(num_workers: int, *, wall_ms: float, cpu_ms: float, **facts: object) -> Loader:
    times: dict[str, object] = {
        "getitem_ms": 0.9 * wall_ms,
        "collate_ms": 0.1 * wall_ms,
        "getitem_cpu_ms": 0.9 * cpu_ms,
        "collate_cpu_ms": 0.1 * cpu_ms,
        "queued_ms": 0.0,
        "storage_wait_ms": 0.0,
        "wait_ms": 60.0,
    }
    return loader(num_workers, **(times | facts))


def line(phase: str, kind: str, share: float, where: str = "train.py:12") -> Line:
    return Line(
        where=where, function="main", phase=phase, kind=kind, share=share, ms=share * STEP_MS
    )


def host(**parts: float) -> Host:
    """Return the inside of the host phase: `host(python_ms=30)`."""
    return Host(**(dict.fromkeys(Host.__struct_fields__, 0.0) | parts))


def outside(**parts: float) -> Outside:
    """Return the inside of the outside phase: `outside(checkpoint_ms=30)`."""
    return Outside(**(dict.fromkeys(Outside.__struct_fields__, 0.0) | parts))


def communication(**facts: object) -> Communication:
    fields: dict[str, object] = {"total_ms": 50.0, "exposed_ms": 50.0}
    return Communication(**(fields | facts))  # type: ignore[arg-type]


def compute(bound: str | None = "arithmetic", **facts: object) -> Compute:
    return Compute(bound=bound, **facts)  # type: ignore[arg-type]


def copies(**facts: object) -> Copies:
    return Copies(**facts)  # type: ignore[arg-type]


def optimizer(**facts: object) -> Optimizer:
    return Optimizer(**({"name": "AdamW", "parameters": 160, "elements": 25_000_000} | facts))


def model(**facts: object) -> Model:
    fields: dict[str, object] = {
        "name": "ResNet",
        "parameters": 25_000_000,
        "bytes": 100_000_000,
        "dtypes": ["float32"],
        "compiled": False,
    }
    return Model(**(fields | facts))  # type: ignore[arg-type]


def sync_call(**facts: object) -> SyncCall:
    fields: dict[str, object] = {
        "what": "Tensor.item",
        "where": "train.py:57",
        "calls_per_step": 3.0,
        "ms_per_step": 4.0,
    }
    return SyncCall(**(fields | facts))  # type: ignore[arg-type]
