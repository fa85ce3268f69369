"""Traces that are valid and yet unusual: what they hold is told, and what they lack is said."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import runs

from speedprof.advisor.rules import launch_bound, python_time
from speedprof.profiler import attribution, trace_file, trace_run, trace_set, trace_steps
from speedprof.profiler.run_insides import Compute
from speedprof.profiler.trace_json import UnreadableTraceError
from speedprof.reports import wording

if TYPE_CHECKING:
    from pathlib import Path

    from speedprof.profiler.run import Run

ORIGIN = 1_700_000_000_000_000
STEP = 10_000  # us
Events = list[dict[str, Any]]


def event(category: str, name: str, at: float, duration: float, **said: Any) -> dict[str, Any]:
    on_device = category in ("kernel", "gpu_memcpy")
    where = {"pid": said.pop("pid", 1), "tid": said.pop("tid", 7 if on_device else 100)}
    times = {"ts": ORIGIN + at, "dur": duration}
    return {"ph": "X", "cat": category, "name": name, **where, **times, "args": said}


def training(*, steps: int = 4) -> Events:
    """Return steps of 10 ms with a copy of 1 ms and a kernel of 5 ms each."""
    found: Events = []
    for step in range(steps):
        at, launch = step * STEP, 2 * step + 1
        copy, kernel = {"correlation": launch}, {"correlation": launch + 1}
        found += [
            event("user_annotation", f"ProfilerStep#{step}", at, STEP - 10),
            event("cpu_op", "aten::copy_", at + 500, 100),
            event("cuda_runtime", "cudaMemcpyAsync", at + 510, 10, **copy),
            event("gpu_memcpy", "Memcpy HtoD (Pinned -> Device)", at + 1_000, 1_000, **copy),
            event("cpu_op", "aten::mm", at + 2_000, 500),
            event("cuda_runtime", "cudaLaunchKernel", at + 2_010, 10, **kernel),
            event("kernel", "volta_sgemm_128x64_nn", at + 3_000, 5_000, **kernel),
        ]
    return found


def written(folder: Path, events: Events, name: str = "trace.json", **metadata: Any) -> Path:
    path = folder / name
    path.write_text(json.dumps({**metadata, "traceEvents": events}))
    return path


def analyzed(folder: Path, *paths: Path) -> Run:
    run = folder / "run"
    run.mkdir()
    sources = trace_run.sources(paths)
    trace_set.analyze(sources, run, name="t", version="0", progress=lambda _: None)
    return attribution.load(run)


def ms(run: Run, phase: str) -> float:
    assert run.phases is not None
    return run.phases[phase].ms


def without_launches(events: Events) -> Events:
    for one in events:
        if one["cat"] in ("kernel", "gpu_memcpy"):
            del one["args"]["correlation"]
    return events


def steps_of(path: Path) -> trace_steps.Steps:
    return trace_steps.steps(trace_file.read(path))


def test_device_events_that_name_no_launch_keep_their_steps(tmp_path: Path) -> None:
    events = without_launches(training())
    run = analyzed(tmp_path, written(tmp_path, events))
    assert ms(run, "compute") == pytest.approx(5)
    assert ms(run, "host_to_device") == pytest.approx(1)


@pytest.mark.parametrize("none", [None, 0, -1, "", "none"])
def test_calls_without_a_correlation_launch_nothing(tmp_path: Path, none: object) -> None:
    events = training()
    for one in events:
        one["args"] = {"correlation": none}
    run = analyzed(tmp_path, written(tmp_path, events))
    assert run.step_ms is not None
    assert run.step_ms.median_ms == pytest.approx(10, rel=0.1)
    assert ms(run, "host_to_device") == pytest.approx(1)


def test_a_trace_whose_gpu_never_comes_to_its_steps_is_refused(tmp_path: Path) -> None:
    events = training()
    launch = event("cuda_runtime", "cudaLaunchKernel", -50, 10, correlation=99)
    events += [launch, event("kernel", "spin", 0, 20 * STEP, correlation=99, stream=3)]
    with pytest.raises(UnreadableTraceError, match="ends before the GPU comes to its steps"):
        analyzed(tmp_path, written(tmp_path, events))


def test_steps_of_another_thread_do_not_cut_those_of_training(tmp_path: Path) -> None:
    events = training()
    for step in range(10, 13):
        at = (step - 10) * STEP + 5_000
        events.append(event("user_annotation", f"ProfilerStep#{step}", at, STEP - 10, tid=200))
    path = written(tmp_path, events)
    assert (steps_of(path).boundaries[:-1] % (STEP * 1_000) == 0).all()
    assert len(steps_of(path).boundaries) == 5


def test_steps_apart_from_the_others_are_left_out_and_said(tmp_path: Path) -> None:
    events = training(steps=8)
    lost = ("ProfilerStep#2", "ProfilerStep#3")
    path = written(tmp_path, [one for one in events if one["name"] not in lost])
    assert steps_of(path).first == 4
    run = analyzed(tmp_path, path)
    assert run.steps == 4
    assert run.step_ms is not None
    assert run.step_ms.mean_ms == pytest.approx(10, rel=0.01)
    assert any(note.startswith("2 of the steps in trace.json were left out") for note in run.notes)


def test_a_last_step_that_only_began_is_left_out_and_said(tmp_path: Path) -> None:
    events = [*training(), event("user_annotation", "ProfilerStep#4", 4 * STEP, 40)]
    run = analyzed(tmp_path, written(tmp_path, events))
    assert run.steps == 4
    assert any(note.startswith("1 of the steps in trace.json were left out") for note in run.notes)


def test_whole_traces_leave_no_step_out(tmp_path: Path) -> None:
    path = written(tmp_path, training())
    assert steps_of(path).left_out == 0
    assert not any("left out" in note for note in analyzed(tmp_path, path).notes)


def test_a_trace_that_launches_kernels_and_holds_none_is_refused(tmp_path: Path) -> None:
    host = [one for one in training() if one["cat"] not in ("kernel", "gpu_memcpy")]
    with pytest.raises(UnreadableTraceError, match="launches kernels but holds none of them"):
        analyzed(tmp_path, written(tmp_path, host))


def test_a_trace_of_the_host_beside_a_gpu_does_not_pass_for_a_training_on_the_cpu(
    tmp_path: Path,
) -> None:
    host = [one for one in training() if one["cat"] in ("user_annotation", "cpu_op")]
    named = [{"id": 0, "name": "NVIDIA H100"}]
    run = analyzed(tmp_path, written(tmp_path, host, deviceProperties=named))
    assert any("but names one (NVIDIA H100)" in note for note in run.notes)


def test_several_gpus_or_processes_in_one_trace_are_said(tmp_path: Path) -> None:
    events = training()
    for number, one in enumerate(events):
        if one["cat"] == "kernel":
            one["args"]["device"] = number % 2
    events.append(event("cpu_op", "aten::mm", 100, 100, pid=2))
    notes = analyzed(tmp_path, written(tmp_path, events)).notes
    assert any("holds 2 GPUs of one process" in note for note in notes)
    assert any("holds 2 processes" in note for note in notes)


def test_kernels_of_one_graph_share_its_launch(tmp_path: Path) -> None:
    events = training()
    for step in range(4):
        same = {"correlation": 2 * step + 2, "stream": 9}
        events.append(event("kernel", "sgemm_2", step * STEP + 8_000, 1_500, **same))
    assert ms(analyzed(tmp_path, written(tmp_path, events)), "compute") == pytest.approx(6.5)


def test_devices_threads_and_correlations_may_be_text_or_huge(tmp_path: Path) -> None:
    events = training()
    for one in events:
        one["pid"], one["tid"] = str(2**70), f"thread {2**63 + 5}"
        for key in ("correlation", "device", "stream"):
            one["args"][key] = str(one["args"].get(key, 3))
    assert ms(analyzed(tmp_path, written(tmp_path, events)), "compute") == pytest.approx(5)


def test_traces_of_several_jobs_are_said_to_be(tmp_path: Path) -> None:
    sizes = [written(tmp_path, training(), "rank0.json", distributedInfo={"world_size": 2})]
    sizes.append(written(tmp_path, training(), "rank1.json", distributedInfo={"world_size": 8}))
    notes = analyzed(tmp_path, *sizes).notes
    assert any("say that there are 2, 8 ranks, so they are hardly of one job" in n for n in notes)


def test_traces_of_another_hour_are_said_to_be_of_another_job(tmp_path: Path) -> None:
    later = training()
    for one in later:
        one["ts"] += 7200 * 1_000_000
    events = (training(), later)
    paths = [written(tmp_path, part, f"rank{n}.json") for n, part in enumerate(events)]
    notes = analyzed(tmp_path, *paths).notes
    assert any("begin up to 2.0 hours apart" in note for note in notes)


def test_two_ranks_of_one_job_are_not_doubted(tmp_path: Path) -> None:
    paths = [written(tmp_path, training(), f"rank{number}.json") for number in range(2)]
    assert not any("hardly" in note for note in analyzed(tmp_path, *paths).notes)


def test_a_device_that_the_trace_does_not_name_is_not_said_to_lack_a_roof(tmp_path: Path) -> None:
    events = training()
    for one in events:
        if one["name"] == "aten::mm":
            one["args"]["Input Dims"] = [[1024, 1024], [1024, 1024]]
    run = analyzed(tmp_path, written(tmp_path, events))
    told = {missing.what: missing.why for missing in run.not_measured}
    assert told["MFU"] == "the trace does not name the device"


def test_one_rank_was_given(tmp_path: Path) -> None:
    events = training()
    events[-1]["name"] = "ncclDevKernel_AllReduce_Sum_f32_RING_LL"
    trace = written(tmp_path, events, distributedInfo={"rank": 0, "world_size": 4})
    run = analyzed(tmp_path, trace)
    assert any("1 of 4 ranks was given" in note for note in run.notes)
    assert wording.step_line(run).endswith(" · 1 of 4 ranks")


def hosted(**facts: Any) -> Run:
    return runs.run({"host": 0.4}, **facts)


@pytest.mark.parametrize(("count", "words"), [(1.0, "1 operator a"), (60.02, "60 operators a")])
def test_operators_are_counted_in_words_that_fit_their_number(count: float, words: str) -> None:
    computed = Compute(kinds={}, operators_per_step=count)
    found = launch_bound.check(hosted(host=runs.host(launch_ms=40.0), compute=computed))
    assert found is not None
    assert found.evidence.startswith(f"{words} step: ")


@pytest.mark.parametrize(("share", "words"), [(0.3, "most of it"), (0.01, "the costliest line")])
def test_a_line_is_most_of_the_time_in_python_only_where_it_is(share: float, words: str) -> None:
    lines = [runs.line("host", "python", share)]
    found = python_time.check(hosted(host=runs.host(python_ms=40.0), lines=lines))
    assert found is not None
    assert f", {words} (" in found.evidence


@pytest.mark.parametrize("at", [0, -5, 1e300, -1e300, 1e19, -ORIGIN])
def test_one_event_far_from_the_others_does_not_move_them(tmp_path: Path, at: float) -> None:
    stray = event("cpu_op", "aten::stray", 0, 10)
    stray["ts"] = at
    run = analyzed(tmp_path, written(tmp_path, [stray, *training()]))
    assert ms(run, "compute") == pytest.approx(5, rel=0.001)
    assert ms(run, "host_to_device") == pytest.approx(1, rel=0.001)


NAMED = {
    # one process without ranks, two cycles of its schedule
    ("vm_19949.1795242801446756572.pt.trace.json", "vm_19949.1795242801523918567.pt.trace.json"): (
        [0, 0]
    ),
    ("vm_19949.1795242801446756572.pt.trace.json",): [0],
    # two processes of one node; which is rank 0 no name tells
    ("node-3_41.1795242801446.pt.trace.json", "node-3_42.1795242801523.pt.trace.json"): [0, 1],
    ("rank5.1795242801446756572.pt.trace.json", "rank5.1795242801523918567.pt.trace.json"): [5, 5],
    ("rank_2.json", "rank_1.json.gz"): [2, 1],
    ("a-7.json", "a-9.json"): [7, 9],
    ("before.json", "after.json"): [0, 1],
}


@pytest.mark.parametrize("names", NAMED)
def test_names_tell_ranks_but_not_by_process_ids(tmp_path: Path, names: tuple[str, ...]) -> None:
    paths = [written(tmp_path, [], name) for name in names]
    assert [source.rank for source in trace_run.sources(paths)] == NAMED[names]
