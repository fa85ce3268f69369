"""All-reduce tensors of several sizes: between two processes here, or between torchrun's ranks.

Runs in the user's interpreter: the standard library and torch. With nccl not yet run on a GPU.
"""

from __future__ import annotations

import os
import subprocess
from datetime import timedelta
from typing import Any

from speedprof.profiler.roofs.order import Absent
from speedprof.profiler.roofs.repeats import Plain, seconds, summary

SIZES = (4 << 10, 64 << 10, 1 << 20, 16 << 20, 64 << 20)  # bytes, of fp32
BUDGET_S = 1.0  # for each size
FEWEST, MOST = 3, 50
PATIENCE = timedelta(seconds=60)
ENDING_S = 10.0
LOCAL_ADDRESS, LOOPBACK = "127.0.0.1", "lo"


def is_one_of_many() -> bool:
    """Return whether a launcher such as torchrun started this process beside others."""
    return "RANK" in os.environ and int(os.environ.get("WORLD_SIZE", "1")) > 1


def among_ranks() -> Plain:
    """Measure between the ranks of a launcher, by the backend that they would train with."""
    import torch
    import torch.distributed as dist

    _require()
    gpu = torch.cuda.is_available() and dist.is_nccl_available()
    if gpu:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())
    dist.init_process_group("nccl" if gpu else "gloo", timeout=PATIENCE)
    nodes = int(os.environ.get("GROUP_WORLD_SIZE", "1"))
    try:
        return {**_measured("cuda" if gpu else "cpu"), "nodes": nodes}
    finally:
        dist.destroy_process_group()


def between_two(command: list[str], threads: int) -> Plain:
    """Measure between this process and one more, which `command` and a port start, by gloo."""
    import torch
    import torch.distributed as dist

    _require()
    store = dist.TCPStore(
        LOCAL_ADDRESS, 0, 2, is_master=True, timeout=PATIENCE, wait_for_workers=False
    )
    half = max(1, threads // 2)
    partner = subprocess.Popen(
        [*command, str(store.port), str(half)], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    )
    before = torch.get_num_threads()
    torch.set_num_threads(half)
    try:
        return _as_rank(0, store)
    finally:
        torch.set_num_threads(before)
        _end(partner)


def _end(partner: subprocess.Popen[bytes]) -> None:
    """Wait until the partner has ended, as long as is reasonable."""
    try:
        partner.wait(ENDING_S)
    except subprocess.TimeoutExpired:
        partner.kill()
        partner.wait()


def as_partner(port: int, threads: int) -> None:
    """Be the second of two processes."""
    import torch
    import torch.distributed as dist

    torch.set_num_threads(threads)
    _as_rank(1, dist.TCPStore(LOCAL_ADDRESS, port, 2, is_master=False, timeout=PATIENCE))


def _as_rank(rank: int, store: Any) -> Plain:
    import torch.distributed as dist

    os.environ.setdefault("GLOO_SOCKET_IFNAME", LOOPBACK)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=2, timeout=PATIENCE)
    try:
        return {**_measured("cpu"), "nodes": 1}
    finally:
        dist.destroy_process_group()


def _require() -> None:
    import torch.distributed as dist

    if not dist.is_available():
        raise Absent("this torch was built without torch.distributed")


def _measured(device: str) -> Plain:
    """Return the fields of `roofs.AllReduce`; every rank does the same number of repeats."""
    import torch.distributed as dist

    sizes = [{"bytes": size, "gb_per_s": _of_size(size, device)} for size in SIZES]
    return {"backend": dist.get_backend(), "ranks": dist.get_world_size(), "sizes": sizes}


def _of_size(size: int, device: str) -> Plain:
    import torch
    import torch.distributed as dist

    tensor = torch.ones(size // 4, device=device)

    def once() -> None:
        dist.all_reduce(tensor)
        if device == "cuda":
            torch.cuda.synchronize()

    once()
    longest = torch.tensor([seconds(once)], device=device)
    dist.all_reduce(longest, op=dist.ReduceOp.MAX)  # so that all agree on how often
    repeats = min(max(int(BUDGET_S / float(longest)), FEWEST), MOST)
    return summary([size / seconds(once) / 1e9 for _ in range(repeats)])
