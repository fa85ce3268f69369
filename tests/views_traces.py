"""Views of recorded traces: no samples of the machine, no loader, no lines."""

from __future__ import annotations

from dataclasses import replace

import msgspec
from view_facts import HOSTILE, phases, step_times
from views import run, view
from views_large import VIEWS as LIVE_VIEWS
from views_large import gpu_timeline, ranks_with_a_straggler

from speedprof.advisor.finding import Finding
from speedprof.profiler.run import (
    Arithmetic,
    ArithmeticKind,
    Compute,
    Copies,
    Environment,
    GpuUse,
    Host,
    Matching,
    NotMeasured,
    RankWaiting,
    Run,
    Straggler,
)
from speedprof.reports.view import View

LOADING = Finding(
    rule="recorded-loading",
    phase="data_loading",
    cause=None,
    share=0.334,
    low=0.30,
    high=0.36,
    evidence="the training thread makes its own batches: the GPU is idle meanwhile for 59.3 of 178"
    " ms (33 %) of each step",
)
USE = GpuUse(
    step_ms=177.6, busy_ms=99.4, idle_ms=78.2, compute_ms=97.4, communication_ms=0.0,
    overlap_ms=0.0, exposed_communication_ms=0.0, copies_ms=1.92, exposed_copies_ms=1.92,
    to_device_ms=1.92, to_host_ms=0.0, on_device_ms=0.0, memset_ms=0.08, loader_ms=60.3,
    loader_idle_ms=60.2,
)  # fmt: skip

SUMS = Arithmetic(
    flops=7.8e11,
    tflops_per_s=13.4,
    coverage=0.98,
    precisions={"fp32": 7.8e11},
    kinds={
        "convolution": ArithmeticKind(
            ms=58.0, counted_ms=58.0, flops=7.8e11, tflops_per_s=13.4, of_peak=0.86
        )
    },
    mfu=0.28,
    peaks={"fp32": 15.7},
    device="V100 SXM2",
    source="NVIDIA V100 data sheet",
)


def trace(**changes: object) -> Run:
    wall = 177.6
    bare = run(
        name="resnet50",
        kind="trace",
        command=["resnet50.json.gz"],
        exit_status=None,
        wall_s=None,
        device="cuda",
        steps=6,
        warmup_steps=0,
        traced_steps=6,
        windows=1,
        step_definition="torch.profiler's steps (ProfilerStep)",
        step_ms=msgspec.structs.replace(step_times(wall, count=6), samples_per_s=None),
        series=None,
        phases=phases(wall, 0.334, 0.01, 0.556, 0.0, 0.1, 0.0),
        compute=Compute(
            kinds={"convolution": 58.0, "normalisation": 39.0}, bound="arithmetic", arithmetic=SUMS
        ),
        copies=Copies(pageable_ms=1.92, pinned_ms=0, blocking_ms=2.0, bytes=19e6, gb_per_s=10.1),
        gpu_use=USE,
        host=Host(launch_ms=17.0, python_ms=0.5, allocator_ms=0.2, synchronisation_ms=0.1),
        outside=None,
        loaders=[],
        lines=[],
        timelines=[gpu_timeline(wall)],
        machines=[],
        environment=Environment(flags={"DataLoader": "num_workers=0"}),
        optimizers=[],
        models=[],
        garbage_ms=None,
        startup_s=None,
        not_measured=[NotMeasured(what="communication", why="one process trained alone")],
        changes=[],
    )
    return msgspec.structs.replace(bare, **changes)


def recorded() -> View:
    return view(trace(), LOADING, "Data loading takes 33 % of each step.")


def recorded_ranks() -> View:
    """Return four ranks of eight, matched, the third late."""
    base = ranks_with_a_straggler(4, 2)
    matching = Matching(
        collectives=30,
        unmatched=9,
        steps=3,
        transfer_ms=103.83,
        waiting_ms=128.37,
        stragglers=[
            Straggler(
                rank=2, caused_ms=119.13, share=0.93, phase="host", label="host.allocator",
                doing_ms={"host.allocator": 110.0},
            ),
            Straggler(rank=0, caused_ms=9.24, share=0.07, unseen_ms=9.0),
        ],
        ranks=[
            RankWaiting(rank=k, inside_ms=200.0 - 30 * k, waited_ms=9, caused_ms=0, clock_ms=-k)
            for k in range(4)
        ],
    )  # fmt: skip
    assert base.run.communication is not None
    spent = msgspec.structs.replace(base.run.communication, matching=matching, overlapped_ms=24.9)
    use = msgspec.structs.replace(
        USE, communication_ms=53.7, overlap_ms=24.9, exposed_communication_ms=28.8
    )
    made = msgspec.structs.replace(
        base.run, kind="trace", communication=spent, gpu_use=use, missing_ranks=[(4, 7)]
    )
    return replace(base, run=made)


def hostile_trace() -> View:
    made = trace(command=[HOSTILE], name=HOSTILE, environment=Environment(cuda=HOSTILE))
    return view(made, LOADING, HOSTILE)


VIEWS = {
    **LIVE_VIEWS,
    "recorded": recorded,
    "recorded_ranks": recorded_ranks,
    "hostile_trace": hostile_trace,
}
