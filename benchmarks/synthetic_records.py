"""A run folder of a long training on many ranks that never was, through the real formats.

Everything in it is a little slow, so that rules have something to say: loading, copies, exchange,
a late rank, launching, checkpoints. Step times vary as real ones do.
"""

from __future__ import annotations

import json
import random
from array import array
from collections.abc import Iterator
from pathlib import Path

import msgspec

from speedprof.profiler import reduced
from speedprof.profiler.labels import LABELS, SEGMENTS
from speedprof.profiler.record import COLUMN, STEP_COLUMNS, Thinner, Writer
from speedprof.profiler.reduced import Collective, CopyTime, LineTime, OperatorTime, ReducedWindow

Facts = Iterator[tuple[str, dict[str, object]]]
MS = 1_000_000  # ns
STEP_MS = 100
BEGAN = 1_700_000_000
NODE_RANKS, WINDOWS, WINDOW_STEPS = 8, 8, 4
LINES, OPERATORS, COLLECTIVES = 40, 60, 12
BLOCK = 2_048  # rows written at once
SAMPLES = 600  # of each machine
# ms of a step by label: it adds up to STEP_MS
SHARES = {
    "data_loading": 15, "host_to_device": 8, "compute.forward": 14, "compute.backward": 12,
    "compute.optimizer": 6, "communication": 26, "host.launch": 6, "host.python": 5,
    "host.synchronisation": 3, "outside.checkpoint": 5,
}  # fmt: skip
FLAGS = {
    "float32_matmul_precision": "highest",
    "cudnn.benchmark": "False",
    "autocast": "off",
    "cuda_capability": "8.0",
}


def write(folder: Path, *, ranks: int, steps: int) -> int:
    """Write the folder; return its bytes."""
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps(_start()))
    (folder / "end.json").write_text(json.dumps({"exit_status": 0, "wall_s": 9e3, "notes": []}))
    for node in range((ranks + NODE_RANKS - 1) // NODE_RANKS):
        (folder / f"machine-node{node}.jsonl").write_text("\n".join(_machine(node)) + "\n")
    rows = list(_blocks(steps))  # the same for all ranks: what they wait for each other evens out
    for rank in range(ranks):
        _record(folder, rank, rows, _facts(rank, ranks, steps))
        (folder / f"worker-{_host(rank)}-{9000 + rank}.jsonl").write_text(_worker() + "\n")
        for index in range(WINDOWS):
            path = folder / f"window-{_host(rank)}-{1000 + rank}-{index}.json"
            path.write_bytes(msgspec.json.encode(_window(rank, index)))
    return sum(path.stat().st_size for path in folder.iterdir())


def _host(rank: int) -> str:
    return f"node{rank // NODE_RANKS}"


def _start() -> dict[str, object]:
    return {
        "format": 1, "name": "train", "command": ["train.py"], "cwd": "/home/somebody",
        "started_at": BEGAN - 3, "version": "0", "options": {"warmup": 10},
    }  # fmt: skip


def _machine(node: int) -> Iterator[str]:
    head = {"node": f"node{node}", "cpu": "a CPU", "cores": 64, "memory_bytes": 1 << 39}
    yield json.dumps(head | {"gpus": ["NVIDIA A100-SXM4-40GB"] * NODE_RANKS})
    for number in range(SAMPLES):
        gpus = [
            {"index": index, "utilisation": 0.6, "sm_mhz": 1410, "max_sm_mhz": 1410}
            for index in range(NODE_RANKS)
        ]
        look = {"at_s": 3.0 + number, "cpu": 0.4, "tree_cpu": 0.3, "memory_bytes": 1 << 35}
        yield json.dumps(look | {"available_bytes": 1 << 38, "gpus": gpus})


def _record(folder: Path, rank: int, rows: list[array[int]], facts: Facts) -> None:
    writer = Writer(str(folder / f"rank-{_host(rank)}-{1000 + rank}.rec"))
    for name, content in facts:
        writer.fact(name, content)
    for block in rows:
        writer.rows(block)
    writer.close()


def _worker() -> str:
    """Return what a worker tells of a hundred batches: busy, and mostly preparing."""
    times = {"getitem_ns": 380, "getitem_cpu_ns": 340, "collate_ns": 20, "collate_cpu_ns": 20}
    spent = {name: 100 * ms * MS for name, ms in times.items()}
    return json.dumps({"loader": 0, "worker": 0, "batches": 100, "samples": 6_400, **spent})


def _facts(rank: int, ranks: int, steps: int) -> Facts:
    yield "process", {
        "format": 1, "pid": 1000 + rank, "host": _host(rank), "rank": rank, "world_size": ranks,
        "local_rank": rank % NODE_RANKS, "argv": ["/home/somebody/train.py"], "thread": 11,
        "clock": [MS, BEGAN * 1_000 * MS + MS], "python": "3.11", "torch": "2.15",
        "device": "cuda", "cuda": "13.0", "threads": 8, "flags": FLAGS,
    }  # fmt: skip
    yield "loader", {
        "number": 0, "where": "/home/somebody/train.py:41", "dataset": "ImageFolder",
        "length": 1_281_167, "batch_size": 64, "num_workers": 4, "picklable": True,
    }  # fmt: skip
    yield "loader_use", {
        "number": 0, "role": "training", "batches": steps, "iterations": steps // 2_500 + 1,
        "wait_ns": steps * 15 * MS, "batch_bytes": 38_535_168,
    }  # fmt: skip
    yield "optimizer", {"name": "SGD", "parameters": 161, "elements": 25_557_032}
    exchange = {"bucket_cap_mb": 25.0, "find_unused_parameters": True, "static_graph": False}
    yield "model", {
        "name": "ResNet", "parameters": 25_557_032, "bytes": 102_228_128, "dtypes": ["float32"],
        "compiled": False, "wrapped": "DistributedDataParallel", "exchange": exchange,
        "modules": {"Conv2d": 53, "BatchNorm2d": 53, "ReLU": 17, "Linear": 1},
        "trainable": 25_557_032, "channels_last": False, "checkpointed": False,
    }  # fmt: skip
    for line in range(LINES):
        where = f"/home/somebody/train.py:{line}"
        yield "sync_call", {"what": "Tensor.item", "where": where, "count": steps, "ns": steps}
    yield "end", {"steps": steps, "step_definition": "an optimizer update"}


def _blocks(steps: int) -> Iterator[array[int]]:
    """Yield the rows that a recorder would have kept, many at a time."""
    thinner, block, start, dice = Thinner(), array("q"), 2 * MS, random.Random(1)
    row = [0] * len(STEP_COLUMNS)
    for name in ("count", "batches", "backwards", "updates"):
        row[COLUMN[name]] = 1
    row[COLUMN["samples"]] = 64
    row[COLUMN["device_wall"]] = row[COLUMN["device_input_wait"]] = -1
    for _ in range(steps):
        wall = int(dice.gauss(STEP_MS, 3) * MS)
        row[0], row[COLUMN["wall"]] = start, wall
        row[COLUMN["input_wait"]] = wall * 15 // 100
        row[COLUMN["backward"]], row[COLUMN["optimizer"]] = wall // 3, wall // 16
        row[COLUMN["checkpoint"]] = wall // 20
        start += wall
        kept = thinner.add(row)
        if kept is not None:
            block.extend(kept)
        if len(block) >= BLOCK * len(row):
            yield block
            block = array("q")
    rest = thinner.flush()
    block.extend(rest or [])
    yield block


def _window(rank: int, index: int) -> ReducedWindow:
    first = 10 + 12 * index
    starts = [2 * MS + (first + at) * STEP_MS * MS for at in range(WINDOW_STEPS + 1)]
    step = [[0] * len(LABELS) for _ in SEGMENTS]
    for label, ms in SHARES.items():
        counted = label in ("data_loading", "outside.checkpoint")
        step[-1 if counted else -2][LABELS.index(label)] = ms * MS
    return ReducedWindow(
        format=reduced.FORMAT,
        host=_host(rank),
        pid=1000 + rank,
        rank=rank,
        device="cuda",
        index=index,
        first_step=first,
        boundaries=starts,
        starts=starts[:-1],
        labels=list(LABELS),
        segments=list(SEGMENTS),
        cube=[step] * WINDOW_STEPS,
        lines=[_line(at) for at in range(LINES)],
        operators=[_operator(at) for at in range(OPERATORS)],
        operator_calls=WINDOW_STEPS * 900,
        events=10_000,
        collectives=[
            _collective(rank, first + at // COLLECTIVES, at)
            for at in range(WINDOW_STEPS * COLLECTIVES)
        ],
        collective_ns=WINDOW_STEPS * 20 * MS,
        copies=CopyTime(pinned_ns=0, pageable_ns=32 * MS, blocking_ns=32 * MS, bytes=150_000_000),
    )


def _line(number: int) -> LineTime:
    label = number % len(LABELS)
    return LineTime(
        file="/home/somebody/train.py", line=number, function="main", label=label,
        waiting=number % 3 == 0, chain=-1, ns=MS,
    )  # fmt: skip


def _operator(number: int) -> OperatorTime:
    kind = ("convolution", "matmul", "elementwise", "normalisation")[number % 4]
    return OperatorTime(name=f"kernel_{number}", kind=kind, ns=2 * MS, calls=60)


def _collective(rank: int, step: int, number: int) -> Collective:
    """Return an exchange of a millisecond that rank 5 comes late to."""
    late = MS if rank == 5 else 0
    begins = 2 * MS + step * STEP_MS * MS + number % COLLECTIVES * 2 * MS
    before = [0] * len(LABELS)
    before[LABELS.index("host.python")] = late
    return Collective(
        name="nccl:all_reduce", step=step, start=begins + late, end=begins + 2 * MS,
        bytes=8 << 20, kind="all_reduce", before=before, during=[0] * len(LABELS),
    )  # fmt: skip
