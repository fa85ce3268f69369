"""Where each rule fires, where it is silent, and where nothing was measured to go by."""

from __future__ import annotations

from collections.abc import Callable

import fact_cases
import runs

from speedprof.profiler.run import Environment, Run

Make = Callable[[], Run]

LOADING, COPYING, TALKING = "data_loading", "host_to_device", "communication"


def loading(loader: object, share: float = 0.5, **facts: object) -> Run:
    return runs.run({LOADING: share}, loaders=[loader], **facts)


def copying(share: float = 0.3, **copies: object) -> Run:
    return runs.run(
        {COPYING: share}, device="cuda", copies=runs.copies(**copies), loaders=[runs.loader()]
    )


def talking(share: float = 0.4, **communication: object) -> Run:
    return runs.run({TALKING: share}, communication=runs.communication(**communication))


def hosting(share: float = 0.4, **facts: object) -> Run:
    return runs.run({"host": share}, **facts)


def between(share: float = 0.4, **facts: object) -> Run:
    return runs.run({"outside": share}, **facts)


def startup(workers: int = 2, **facts: object) -> Run:
    times = {"iterations": 21, "startup_ms": 200.0, "first_batch_ms": 360.0}
    return loading(runs.preparing(workers, 100.0, **{**times, **facts}), 0.3)


def updating(share_ms: float, **optimizer: object) -> Run:
    return runs.run(
        compute=runs.compute(None, optimizer_ms=share_ms), optimizers=[runs.optimizer(**optimizer)]
    )


def recorded(makers: str | None = "num_workers=0", share: float = 0.5, **facts: object) -> Run:
    flags = {"DataLoader": makers} if makers else {}
    return runs.trace({LOADING: share}, **({"environment": Environment(flags=flags)} | facts))


def warming(*walls_ms: float, host: float = 0.7) -> Run:
    return runs.trace({"host": host}, series=runs.series(*walls_ms))


def padded(padding: float | None = 0.4, share: float = 0.9, **facts: object) -> Run:
    ids = fact_cases.batch(padding)
    given = {"batch": ids, "compute": runs.compute(optimizer_ms=9.0)}
    return runs.run({"host": 1.0 - share}, **(given | facts))


def accumulating(
    unsynchronised: float | None = 0.0, backwards: float | None = 4.0, **facts: object
) -> Run:
    given: dict[str, object] = {
        "shares": {TALKING: 0.4},
        "communication": runs.communication(transfer_ms=40.0, waiting_ms=0.0),
        "models": [fact_cases.parallel(unsynchronised)],
        "optimizers": [runs.optimizer()],
        "backwards_per_step": backwards,
        "updates_per_step": 1.0,
    }
    return runs.run(**(given | facts))  # type: ignore[arg-type]


def hot(sm_mhz: int | None = 990, why: str | None = "hardware thermal limit") -> Run:
    """Return a computing run whose GPU was slow in every second look."""
    slow = fact_cases.gpu_look(sm_mhz=sm_mhz, throttled=why)
    machine = fact_cases.watched(fact_cases.gpu_look(), slow)
    return runs.run(device="cuda", compute=runs.compute(), machines=[machine])


FIRES: dict[str, tuple[Make, str | None, float]] = {  # rule -> run, cause, share of the step
    "recorded-loading": (recorded, None, 0.5),
    "warm-up": (lambda: warming(4000.0, 100.0, 90.0, 110.0), None, 3900 / 4300),
    "straggler": (
        lambda: talking(transfer_ms=10.0, waiting_ms=30.0, late_rank=1, late_rank_phase="host"),
        "straggler",
        0.3,
    ),
    "cpu-oversubscription": (
        lambda: loading(runs.preparing(4, 360.0, queued_ms=180.0, getitem_cpu_ms=150.0)),
        "cpu_preparation",
        0.245,
    ),
    "worker-startup": (startup, "startup", 0.26),
    "storage-bound": (lambda: loading(runs.fetching(2, 180.0)), "storage", 0.4545),
    "preparation-bound": (lambda: loading(runs.preparing(0, 50.0)), "cpu_preparation", 0.5),
    "handoff-bound": (
        lambda: loading(runs.preparing(2, 10.0, batch_bytes=64 << 20)),
        "worker_handoff",
        0.5,
    ),
    "pageable-copies": (lambda: copying(pageable_ms=20.0, pinned_ms=0.0), "pageable_memory", 0.3),
    "blocking-copies": (
        lambda: copying(pageable_ms=0.0, pinned_ms=20.0, blocking_ms=20.0),
        "blocking_copy",
        0.3,
    ),
    "copy-bandwidth": (
        lambda: copying(pageable_ms=0.0, pinned_ms=30.0, blocking_ms=0.5, bytes=6e8),
        "bandwidth",
        0.3,
    ),
    "padding-waste": (padded, "arithmetic", 0.4 * 0.81),
    "needless-exchange": (accumulating, "transfer", 0.3),
    "throttled-device": (hot, "arithmetic", 0.25),
    "communication-transfer": (
        lambda: talking(transfer_ms=30.0, waiting_ms=10.0),
        "transfer",
        0.3,
    ),
    "synchronising-calls": (
        lambda: hosting(host=runs.host(synchronisation_ms=40.0), sync_calls=[runs.sync_call()]),
        "synchronisation",
        0.4,
    ),
    "launch-bound": (lambda: hosting(host=runs.host(launch_ms=40.0)), "launch", 0.4),
    "python-time": (
        lambda: hosting(host=runs.host(python_ms=40.0), lines=[runs.line("host", "python", 0.3)]),
        "python",
        0.4,
    ),
    "allocator": (lambda: hosting(host=runs.host(allocator_ms=40.0)), "allocator", 0.4),
    "checkpointing": (
        lambda: between(outside=runs.outside(checkpoint_ms=30.0, other_ms=10.0)),
        "checkpoint",
        0.3,
    ),
    "evaluation": (
        lambda: between(outside=runs.outside(evaluation_ms=40.0)),
        "evaluation",
        0.4,
    ),
    "logging-inside": (lambda: between(outside=runs.outside(logging_ms=40.0)), "logging", 0.4),
    "between-steps": (lambda: between(outside=runs.outside(other_ms=40.0)), "other", 0.4),
    "arithmetic-bound": (lambda: runs.run(compute=runs.compute()), "arithmetic", 1.0),
    "bandwidth-bound": (
        lambda: runs.run(compute=runs.compute("memory_bandwidth")),
        "memory_bandwidth",
        1.0,
    ),
    "slow-optimizer": (lambda: updating(30.0), "memory_bandwidth", 0.3),
}

SILENT: dict[str, list[Make]] = {
    "recorded-loading": [
        lambda: recorded(share=0.04),
        lambda: runs.run({LOADING: 0.5}),  # a live run has rules of its own
    ],
    "warm-up": [
        lambda: warming(240.0, 100.0, 90.0, 110.0),  # a slow step is no warm-up
        lambda: warming(100.0, 100.0, 4000.0, 110.0),
        lambda: runs.run({"host": 0.7}, series=runs.series(4000.0, 100.0, 90.0, 110.0)),
    ],
    "straggler": [
        lambda: talking(transfer_ms=40.0, waiting_ms=0.0),
        lambda: talking(0.04, transfer_ms=0.0, waiting_ms=4.0),
    ],
    "cpu-oversubscription": [
        lambda: loading(runs.preparing(2, 180.0)),
        lambda: loading(runs.preparing(2, 180.0, queued_ms=30.0)),  # a sixth is time slicing
    ],
    "worker-startup": [
        lambda: startup(persistent_workers=True),
        lambda: startup(iterations=1),
        lambda: startup(workers=0),
    ],
    "storage-bound": [
        lambda: loading(runs.preparing(0, 50.0)),
        lambda: loading(runs.fetching(0, 50.0), 0.04),
    ],
    "preparation-bound": [
        lambda: loading(runs.preparing(2, 90.0), 0.03),
        lambda: loading(runs.preparing(2, 10.0)),  # idle workers are not the limit
    ],
    "handoff-bound": [
        lambda: loading(runs.preparing(2, 180.0)),  # busy workers are the limit
        lambda: loading(runs.preparing(0, 50.0)),  # nothing is handed over
    ],
    "pageable-copies": [
        lambda: copying(pageable_ms=0.0, pinned_ms=20.0),
        lambda: copying(0.02, pageable_ms=2.0),
    ],
    "blocking-copies": [
        lambda: copying(pageable_ms=0.0, pinned_ms=20.0, blocking_ms=1.0),
        lambda: copying(pageable_ms=20.0, pinned_ms=0.0, blocking_ms=20.0),
    ],
    "copy-bandwidth": [
        lambda: copying(pageable_ms=0.0, pinned_ms=30.0, blocking_ms=30.0, bytes=6e8),
    ],
    "padding-waste": [
        lambda: padded(0.15),
        lambda: padded(0.4, 0.45),  # computing is not what the step is about
    ],
    "needless-exchange": [
        lambda: accumulating(0.75),
        lambda: accumulating(backwards=1.0),
        lambda: accumulating(shares={TALKING: 0.04}),
    ],
    "throttled-device": [
        lambda: hot(1800),  # clocks come and go by a tenth
        lambda: hot(990, "power cap"),  # what a busy card is meant to do
        lambda: hot(990, None),
        lambda: runs.run({LOADING: 0.6}, compute=runs.compute(), machines=hot().machines),
    ],
    "communication-transfer": [lambda: talking(transfer_ms=1.0, waiting_ms=39.0)],
    "synchronising-calls": [lambda: hosting(host=runs.host(python_ms=40.0))],
    "launch-bound": [lambda: hosting(host=runs.host(python_ms=40.0))],
    "python-time": [lambda: hosting(host=runs.host(launch_ms=40.0))],
    "allocator": [lambda: hosting(host=runs.host(python_ms=39.0, allocator_ms=1.0))],
    "checkpointing": [lambda: between(outside=runs.outside(other_ms=40.0))],
    "evaluation": [lambda: between(0.04, outside=runs.outside(evaluation_ms=4.0))],
    "logging-inside": [lambda: between(outside=runs.outside(evaluation_ms=40.0))],
    "between-steps": [lambda: between(outside=runs.outside(logging_ms=40.0))],
    "arithmetic-bound": [
        lambda: runs.run({LOADING: 0.6}, compute=runs.compute()),
        lambda: runs.run(compute=runs.compute("memory_bandwidth")),
    ],
    "bandwidth-bound": [lambda: runs.run(compute=runs.compute())],
    "slow-optimizer": [
        lambda: updating(6.0),
        lambda: updating(30.0, fused=True),
    ],
}

NOT_MEASURED: dict[str, list[Make]] = {
    "recorded-loading": [lambda: runs.trace(phases=None)],
    "warm-up": [lambda: runs.trace({"host": 0.7}), lambda: warming(4000.0, 100.0)],
    "straggler": [
        lambda: runs.run({TALKING: 0.4}),
        lambda: talking(waiting_ms=None, transfer_ms=None),
    ],
    "cpu-oversubscription": [lambda: loading(runs.preparing(4, 180.0, queued_ms=None))],
    "worker-startup": [lambda: startup(startup_ms=None)],
    "storage-bound": [
        lambda: loading(runs.loader()),
        lambda: runs.run({LOADING: 0.5}, input_kind="generator"),
    ],
    "preparation-bound": [
        lambda: loading(runs.loader()),
        lambda: runs.run({LOADING: 0.5}, input_kind="generator"),
    ],
    "handoff-bound": [lambda: loading(runs.loader(2))],
    "pageable-copies": [lambda: runs.run({COPYING: 0.3}), copying],
    "blocking-copies": [
        lambda: runs.run({COPYING: 0.3}),
        lambda: copying(pageable_ms=0.0, pinned_ms=20.0),
    ],
    "copy-bandwidth": [
        lambda: runs.run({COPYING: 0.3}),
        lambda: copying(pageable_ms=0.0, pinned_ms=30.0, blocking_ms=0.5),
    ],
    "padding-waste": [lambda: padded(None), lambda: padded(batch=None)],
    "needless-exchange": [
        lambda: accumulating(None),
        lambda: accumulating(backwards=None),
        lambda: accumulating(communication=None),
    ],
    "throttled-device": [lambda: hot(None), lambda: runs.run(compute=runs.compute())],
    "communication-transfer": [lambda: runs.run({TALKING: 0.4}), talking],
    "synchronising-calls": [hosting],
    "launch-bound": [hosting],
    "python-time": [hosting],
    "allocator": [hosting],
    "checkpointing": [between],
    "evaluation": [between],
    "logging-inside": [between],
    "between-steps": [between],
    "arithmetic-bound": [runs.run, lambda: runs.run(compute=runs.compute(None))],
    "bandwidth-bound": [runs.run, lambda: runs.run(compute=runs.compute(None))],
    "slow-optimizer": [
        lambda: runs.run(compute=runs.compute(optimizer_ms=30.0)),
        lambda: runs.run(compute=runs.compute(), optimizers=[runs.optimizer()]),
    ],
}
