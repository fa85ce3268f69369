"""Cases of mitigations/communication: where each applies, where not and why, where unknown."""

from __future__ import annotations

import runs
from case_runs import COPYING, DDP, TALKING, Case, Make, gpu, talking, waiting

from speedprof.profiler.run import Environment, Exchange, Rank, Run


def ranks(count: int, nodes: int = 1, peak: int | None = None) -> list[Rank]:
    """Return ranks spread evenly over nodes; `peak` is GiB in use of 100."""
    return [
        Rank(
            rank=rank, node=f"node{rank * nodes // count}", pid=rank, device="cuda", steps=200,
            step_ms=None, phases=None, device_memory_bytes=100 << 30,
            peak_device_bytes=None if peak is None else peak << 30,
        )
        for rank in range(count)
    ]  # fmt: skip


def exchanging(exchange: Exchange | None = None, wrapped: str = "DistributedDataParallel",
               **facts: object) -> Run:  # fmt: skip
    """Return a run of two ranks that talk slowly, with a model wrapped like this."""
    model = runs.model(wrapped=wrapped, exchange=exchange)
    return talking(**({"models": [model], "world_size": 2} | facts))


def accumulating(unsynchronised: float | None, passes: float = 4.0, **facts: object) -> Run:
    exchange = Exchange(unsynchronised=unsynchronised)
    return exchanging(exchange, backwards_per_step=passes, **facts)


def sharded(count: int = 8, nodes: int = 2, peak: int | None = None) -> Run:
    return exchanging(wrapped="FSDPTransformer", world_size=count, ranks=ranks(count, nodes, peak))


def connected(nodes: int = 1, **facts: object) -> Run:
    environment = Environment(flags={"backend": "nccl"})
    ours = {"device": "cuda", "world_size": 4, "ranks": ranks(4, nodes)}
    facts = ours | {"environment": environment} | facts
    return exchanging(**facts)  # type: ignore[arg-type]


def fast() -> object:
    return runs.communication(transfer_ms=40.0, bytes=4e9)


def timed(backward_ms: float, **facts: object) -> Run:
    """Return a run whose exchange and backward were timed."""
    told = runs.communication(transfer_ms=40.0, waiting_ms=0.0)
    inside = runs.compute(backward_ms=backward_ms)
    return exchanging(Exchange(bucket_cap_mb=1000.0), communication=told, compute=inside, **facts)


NOT_WRAPPED: Case = (lambda: talking(models=[runs.model()]), "DistributedDataParallel")
HOOKED: Case = (lambda: exchanging(Exchange(hooked=True)), "a communication hook")
FAST: Case = (lambda: talking(communication=fast(), **DDP), "fast link")


def untimed() -> Run:
    return runs.run({TALKING: 0.4}, **DDP)


APPLIES: dict[str, Make] = {
    "balanced-ranks": waiting,
    "ddp-instead-of-dp": lambda: exchanging(wrapped="DataParallel"),
    "no-sync": lambda: accumulating(0.0),
    "ddp-buckets": lambda: talking(**DDP),
    "hybrid-sharding": sharded,
    "nccl-network": connected,
    "bf16-gradients": lambda: talking(**DDP),
    "fewer-exchanges": lambda: talking(**DDP),
    "powersgd": lambda: talking(**DDP),
    "local-sgd": lambda: connected(nodes=2),
    "sparse-gradients": lambda: talking(**DDP),
}

MISFITS: dict[str, list[Case]] = {
    "balanced-ranks": [(lambda: waiting(late_rank=None), "no one rank")],
    "ddp-instead-of-dp": [
        (exchanging, "inside DataParallel"),
        (
            lambda: exchanging(wrapped="DataParallel", machines=[runs.machine(8, gpus=["H100"])]),
            "there is 1 GPU",
        ),
    ],
    "no-sync": [
        NOT_WRAPPED,
        (lambda: accumulating(0.0, 1.0), "nothing to skip"),
        (lambda: accumulating(0.75), "under no_sync() already"),
    ],
    "ddp-buckets": [
        NOT_WRAPPED,
        (lambda: timed(0.0), "no buckets hide more"),
    ],
    "hybrid-sharding": [
        (exchanging, "FSDP"),
        (lambda: sharded(8, 1), "no node to shard within"),
        (lambda: sharded(8, 8), "no node to shard within"),
        (lambda: sharded(8, 2, peak=100), "a replica per node needs"),
    ],
    "nccl-network": [
        (lambda: connected(device="cpu"), "NCCL is for GPUs"),
        (lambda: connected(environment=Environment(flags={"backend": "gloo"})), "by gloo"),
        (lambda: connected(communication=fast()), "not slow for its links"),
    ],
    "bf16-gradients": [
        FAST,
        NOT_WRAPPED,
        HOOKED,
        (
            lambda: talking(
                models=[runs.model(wrapped="DistributedDataParallel", dtypes=["bfloat16"])]
            ),
            "bfloat16 already",
        ),
    ],
    "fewer-exchanges": [
        (talking, "DistributedDataParallel"),
        (lambda: accumulating(0.0), "no-sync ends that"),
    ],
    "powersgd": [
        FAST,
        NOT_WRAPPED,
        HOOKED,
        (lambda: exchanging(ranks=ranks(2, peak=100)), "error feedback needs"),
    ],
    "local-sgd": [
        NOT_WRAPPED,
        HOOKED,
        (connected, "1 node"),
    ],
    "sparse-gradients": [FAST, NOT_WRAPPED, HOOKED],
}

NOT_MEASURED: dict[str, list[Make]] = {
    "balanced-ranks": [lambda: runs.run({TALKING: 0.4})],
    "ddp-instead-of-dp": [talking],
    "no-sync": [
        lambda: accumulating(None),
        lambda: talking(**DDP, backwards_per_step=4.0),
        lambda: talking(**DDP, batches_per_step=None),
        lambda: accumulating(0.0, optimizers=[runs.optimizer(), runs.optimizer()]),
    ],
    "ddp-buckets": [talking],
    "hybrid-sharding": [lambda: exchanging(wrapped="FSDPTransformer")],
    "nccl-network": [
        lambda: gpu({COPYING: 0.3}),
        lambda: connected(ranks=[]),
        lambda: connected(environment=Environment()),
        lambda: connected(communication=None),
    ],
    "bf16-gradients": [untimed],
    "fewer-exchanges": [
        lambda: talking(**DDP, batches_per_step=None),
        lambda: accumulating(None),
    ],
    "powersgd": [untimed],
    "local-sgd": [lambda: talking(**DDP)],
    "sparse-gradients": [untimed],
}
