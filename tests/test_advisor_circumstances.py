"""What costs nothing by itself is told with the finding it belongs to, and never alone."""

from __future__ import annotations

from collections.abc import Callable

import case_runs
import fact_cases
import pytest
import runs
from rule_cases import LOADING, TALKING, copying, hosting, loading

from speedprof.advisor.judgement import judge
from speedprof.profiler.run import Arithmetic, Environment, Run

ROOFS = {"roofs": fact_cases.roofs()}
BUSY = {"machines": [runs.machine(4, cpu_load=0.97)]}
CROWDED = {"machines": [runs.machine(4, cpu_load=0.9, other_load=0.4)]}
FULL = {"machines": [runs.machine(4, samples=[fact_cases.look(available_gb=0.25)])]}
LAUNCHING = {"host": runs.host(launch_ms=40.0)}
SHAPES = {"batch": fact_cases.batch(distinct=37)}
COMPILED = {"models": [runs.model(compiled=True)]}
LINK = fact_cases.watched(
    fact_cases.gpu_look(), fact_cases.gpu_look(pcie_received_bytes_per_s=12.5e9)
)
SLOW = runs.copies(pageable_ms=20.0, gb_per_s=5.0)
MANY = runs.compute(operators_per_step=2500.0)
READING = runs.fetching(2, 180.0, disk_bytes=4e7)


def flags(**named: str) -> dict[str, object]:
    return {"environment": Environment(flags=named)}


def sending(**facts: object) -> Run:
    exchange = runs.communication(transfer_ms=40.0, waiting_ms=0.0, bytes=4e7, collectives=2.0)
    return runs.run({TALKING: 0.4}, communication=exchange, world_size=2, **facts)


def computing(**facts: object) -> Run:
    counted = Arithmetic(flops=1e11, tflops_per_s=1.2, coverage=1.0, precisions={"fp32": 1e11})
    return runs.run(compute=runs.compute(arithmetic=counted), **facts)


TOLD: dict[str, tuple[Callable[[], Run], str]] = {
    "storage against its roof": (
        lambda: loading(READING, **ROOFS),
        "400 MB/s come from storage of the 500 that it can give, so it is the disk that is slow",
    ),
    "storage without a roof": (lambda: loading(READING), "; 400 MB/s come from storage"),
    "no room for files": (lambda: loading(READING, **FULL), "only 1.6 % of the machine's memory"),
    "no free core": (lambda: loading(runs.preparing(2, 180.0), **BUSY), "4 cores are 97 % busy"),
    "others on the machine": (
        lambda: loading(runs.preparing(2, 180.0), **CROWDED),
        "other programs take 40 % of the machine's cores",
    ),
    "others beside a CPU training": (lambda: computing(**CROWDED), "other programs take 40 %"),
    "products against their roof": (
        lambda: computing(**ROOFS),
        "it multiplies at 1.2 TFLOP/s, this machine's best in fp32 is 1.5",
    ),
    "the link": (
        lambda: runs.run({"host_to_device": 0.3}, device="cuda", copies=SLOW, **ROOFS),
        "from pinned memory this machine copies 25.0 GB/s",
    ),
    "what the link carried": (
        lambda: runs.run({"host_to_device": 0.3}, device="cuda", copies=SLOW, machines=[LINK]),
        "the link to the GPU was seen to carry up to 12.5 GB/s",
    ),
    "convolutions without cuDNN": (
        lambda: case_runs.computing(**flags(**{"cudnn.enabled": "False"})),
        "cuDNN is switched off",
    ),
    "exchange against its roof": (
        lambda: sending(**ROOFS),
        "that is 1 GB/s, where an all-reduce of 16.8 MB reached 2",
    ),
    "a search for unused parameters": (
        lambda: sending(models=[fact_cases.parallel(find_unused_parameters=True)]),
        "find_unused_parameters=True",
    ),
    "blocking launches": (
        lambda: hosting(**LAUNCHING, **flags(CUDA_LAUNCH_BLOCKING="1")),
        "makes each launch wait",
    ),
    "anomaly detection": (
        lambda: hosting(host=runs.host(python_ms=40.0), **flags(anomaly_detection="True")),
        "anomaly detection keeps the stack",
    ),
    "a profiler": (
        lambda: hosting(host=runs.host(python_ms=40.0), **flags(profilers="cProfile")),
        "cProfile looks on",
    ),
    "tiny operators": (
        lambda: hosting(0.9, host=runs.host(launch_ms=90.0), compute=MANY),
        "an operator runs 4 us on average",
    ),
    "recompiling": (
        lambda: hosting(**LAUNCHING, **SHAPES, **COMPILED),
        "64 batches had 37 different shapes, and the model may be compiled again",
    ),
    "trying algorithms": (
        lambda: hosting(**LAUNCHING, **SHAPES, **flags(**{"cudnn.benchmark": "True"})),
        "cudnn.benchmark tries its algorithms",
    ),
    "no room on the device": (
        lambda: hosting(**LAUNCHING, device="cuda", ranks=[case_runs.full_device(92)]),
        "the device's memory is 92 % full, with no room for larger batches",
    ),
    "blocks of many sizes": (
        lambda: hosting(host=runs.host(allocator_ms=40.0), **SHAPES),
        "64 batches had 37 different shapes",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", TOLD)
def test_a_circumstance_is_told_with_its_finding(name: str) -> None:
    make, words = TOLD[name]
    told = [found.evidence for found in judge(make()).findings if words in found.evidence]
    assert len(told) == 1
    assert not told[0].endswith(".")


QUIET = {
    "roofs": fact_cases.roofs(),
    "batch": fact_cases.batch(),
    "ranks": [case_runs.full_device(60)],
    "machines": [runs.machine(4, cpu_load=0.5, other_load=0.02, samples=[fact_cases.look()])],
    **flags(CUDA_LAUNCH_BLOCKING="0", anomaly_detection="False", profilers=""),
}


@pytest.mark.parametrize(
    "make",
    [
        lambda **facts: loading(runs.preparing(2, 180.0), **facts),
        lambda **facts: hosting(**LAUNCHING, **facts),
        lambda **facts: hosting(host=runs.host(allocator_ms=40.0), **(facts | {"ranks": []})),
        lambda **facts: runs.run(compute=runs.compute(), **facts),
    ],
)
def test_what_is_as_it_should_be_is_not_mentioned(make: Callable[..., Run]) -> None:
    assert judge(make(**QUIET)) == judge(make())


def test_what_concerns_several_findings_is_told_once_with_the_largest() -> None:
    slow = {"host": runs.host(launch_ms=14.0, python_ms=16.0)}
    both = {**CROWDED, **flags(CUDA_LAUNCH_BLOCKING="1"), **slow}
    run = runs.run({LOADING: 0.2, "host": 0.3}, loaders=[runs.preparing(0, 20.0)], **both)
    told = {found.rule: found.evidence for found in judge(run).findings}
    assert [rule for rule, text in told.items() if "each launch wait" in text] == ["python-time"]
    assert [rule for rule, text in told.items() if "other programs" in text] == [
        "preparation-bound"
    ]


def test_a_crowd_that_a_rule_names_itself_is_not_told_again() -> None:
    queueing = runs.preparing(4, 360.0, queued_ms=180.0, getitem_cpu_ms=150.0)
    judged = judge(loading(queueing, **CROWDED))
    assert sum("other programs" in found.evidence for found in judged.findings) == 1


def test_circumstances_alone_are_no_findings() -> None:
    """Everything odd at once, and no phase that suffers from it."""
    odd = {**ROOFS, **SHAPES, **CROWDED, **COMPILED, **flags(CUDA_LAUNCH_BLOCKING="1")}
    run = runs.run({LOADING: 0.04, "host": 0.04}, **odd)
    assert judge(run).findings[1:] == ()


def test_copies_whose_speed_is_unknown_are_not_held_against_the_link() -> None:
    found = judge(copying(pageable_ms=20.0)).findings
    assert all("this machine copies" not in one.evidence for one in found)
