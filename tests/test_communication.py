"""What is said of ranks that exchange: transfer, waiting, who is late by what, who is missing."""

from __future__ import annotations

from pathlib import Path

import pytest
import runs
from run_folders import Folder, process, rows
from window_cases import GLOO, Case

from speedprof.advisor.rules.straggler import who
from speedprof.profiler import run_folder, trace_run
from speedprof.profiler.attribution import load
from speedprof.profiler.collective_calls import calls, calls_of
from speedprof.profiler.communication import late_phase, missing, missing_sentence
from speedprof.profiler.rank_reading import read_ranks
from speedprof.profiler.reduced import Collective
from speedprof.profiler.reduction import reduce_folder
from speedprof.profiler.run import Communication, Matching, Run

TRACES = Path(__file__).parent.parent.parent / "shared" / "traces"
LOOP = [("/home/me/train.py", 9, "main", False)]


def exchanging(case: Case, start: float, end: float) -> Case:
    return case.event("gloo:all_reduce", start, end, kind="user_annotation", thread=GLOO, size=10)


def run_of(path: Path, cases: dict[int, Case], *, world_size: int | None = None) -> Run:
    folder = Folder(path).end()
    for rank, case in cases.items():
        about = process(rank, world_size or len(cases), pid=100 + rank)
        folder.record(rows([50.0] * 20, samples=8), about=about)
        folder.window(case, pid=100 + rank)
    return load(path)


def talk(run: Run) -> Communication:
    assert run.communication is not None
    return run.communication


def matching(run: Run) -> Matching:
    found = talk(run).matching
    assert found is not None
    return found


def busy(until: float, what: str) -> Case:
    """Return a rank that does one thing before its second exchange, which all leave at 45 ms."""
    case = exchanging(Case([0, 50]), 0.5, 1)
    if what == "input_wait":
        case.probe(what, 1, until)
    elif what == "python":
        case.sampled(1, until, LOOP)
    elif what == "backward":
        case.event("aten::mm", 1, until).probe("backward", 1, until)
    else:
        case.event(what, 1, until)
    return exchanging(case, until, 45)


@pytest.mark.parametrize(
    ("what", "phase", "label"),
    [
        ("input_wait", "data_loading", "data_loading"),
        ("aten::mm", "compute", "compute.forward"),
        ("backward", "compute", "compute.backward"),
        ("python", "host", "host.python"),
    ],
)
def test_a_late_rank_is_named_with_what_it_did_before_it_came(
    tmp_path: Path, what: str, phase: str, label: str
):
    run = run_of(tmp_path, {rank: busy(40 if rank == 1 else 10, what) for rank in range(3)})
    found = talk(run)
    assert (found.late_rank, found.late_rank_phase, found.late_rank_label) == (1, phase, label)
    assert found.transfer_ms == pytest.approx(5.5)
    assert found.waiting_ms == pytest.approx(30 * 2 / 3)
    (late,) = matching(run).stragglers
    assert (late.rank, late.caused_ms, late.share) == (1, pytest.approx(30.0), 1.0)
    assert late.doing_ms == {label: pytest.approx(30.0)}
    assert late.unseen_ms == 0.0


def test_a_rank_is_late_by_its_data_where_a_generator_makes_it(tmp_path: Path):
    batches = [("/home/me/train.py", 20, "batches", True), *LOOP]
    cases = {}
    for rank, until in enumerate((10, 38)):
        case = exchanging(Case([0, 50]), 0.5, 1).sampled(1, until, batches)
        case.probe("backward", until, until + 2).event("aten::mm", until, until + 2)
        cases[rank] = exchanging(case.sample(until + 1, LOOP), until + 2, 45)
    run = run_of(tmp_path, cases)
    assert run.input_kind == "generator"
    assert talk(run).late_rank_label == "data_loading"


def test_what_all_ranks_do_makes_nobody_late(tmp_path: Path):
    """All compute for 20 ms; one of them reads its data first."""
    cases = {}
    for rank in range(3):
        start = 16 if rank == 2 else 1
        case = exchanging(Case([0, 50]), 0.5, 1).probe("input_wait", 1, start)
        cases[rank] = exchanging(case.event("aten::mm", start, start + 20), start + 20, 45)
    assert talk(run_of(tmp_path, cases)).late_rank_label == "data_loading"


def test_computing_beside_a_wait_does_not_make_the_one_late_who_computes_before(tmp_path: Path):
    """Both compute for 20 ms, the one in its exchange; the other is held up by Python besides."""
    early = exchanging(exchanging(Case([0, 60]), 0.5, 1), 2, 50).event("aten::mm", 2, 22)
    late = exchanging(Case([0, 60]), 0.5, 1).event("aten::mm", 1, 21).sampled(21, 48, LOOP)
    run = run_of(tmp_path, {0: early, 1: exchanging(late, 48, 50)})
    (straggler,) = matching(run).stragglers
    assert (straggler.rank, straggler.label) == (1, "host.python")
    assert straggler.caused_ms == pytest.approx(46.0)
    assert sum(straggler.doing_ms.values()) == pytest.approx(27.0, abs=1.5)


def test_a_rank_that_was_late_when_its_recording_began_is_late_by_nothing_known(tmp_path: Path):
    """Its clock says the same: it is 30 ms behind, for it entered the step 30 ms later."""
    early, late = Case([0, 50]).event("aten::mm", 0, 5), Case([0, 50]).event("aten::mm", 0, 5)
    exchanging(exchanging(early, 5, 40), 41, 42)
    exchanging(exchanging(late, 5, 10), 11, 12)
    run = run_of(tmp_path, {0: early, 1: late})
    (straggler,) = matching(run).stragglers
    assert (straggler.rank, straggler.phase, straggler.label) == (1, None, None)
    assert straggler.unseen_ms == pytest.approx(30.0)
    assert matching(run).ranks[1].clock_ms == pytest.approx(-30.0)
    assert talk(run).late_rank == 1


def test_each_rank_says_how_long_it_waited_and_how_long_others_waited_for_it(tmp_path: Path):
    run = run_of(tmp_path, {rank: busy(10 + 15 * rank, "aten::mm") for rank in range(3)})
    listed = [(r.rank, r.inside_ms, r.waited_ms, r.caused_ms) for r in matching(run).ranks]
    assert listed == [
        (0, pytest.approx(35.5), pytest.approx(30.0), 0.0),
        (1, pytest.approx(20.5), pytest.approx(15.0), 0.0),
        (2, pytest.approx(5.5), 0.0, pytest.approx(30.0)),
    ]
    assert (matching(run).collectives, matching(run).unmatched, matching(run).steps) == (2, 0, 1)


def test_one_rank_of_many_has_communication_but_nobody_to_wait_for(tmp_path: Path):
    run = run_of(tmp_path, {3: busy(20, "aten::mm")}, world_size=8)
    found = talk(run)
    assert found.total_ms == pytest.approx(25.5)
    assert (found.transfer_ms, found.waiting_ms, found.late_rank) == (None, None, None)
    assert found.matching is None
    assert (found.collectives, found.bytes) == (2.0, 20.0)


def test_a_process_that_trains_alone_has_no_communication(tmp_path: Path):
    assert run_of(tmp_path, {0: Case([0, 50]).event("aten::mm", 0, 40)}).communication is None


def test_ranks_that_are_missing_are_said(tmp_path: Path):
    run = run_of(tmp_path, {0: busy(10, "aten::mm"), 2: busy(20, "aten::mm")}, world_size=6)
    assert run.missing_ranks == [(1, 1), (3, 5)]
    assert run.notes[0].startswith("2 of 6 ranks were given (not 1, 3 to 5)")


@pytest.mark.parametrize(
    ("size", "seen", "absent"),
    [
        (1, [0], []),
        (4, [0, 1, 2, 3], []),
        (4, [1, 2], [(0, 0), (3, 3)]),
        (128, [0, 1], [(2, 127)]),
        (2, [5], [(0, 4)]),
        (3, [], [(0, 2)]),
    ],
)
def test_missing_ranks_are_listed_in_stretches(
    size: int, seen: list[int], absent: list[tuple[int, int]]
):
    assert missing(size, seen) == absent
    assert (missing_sentence(size, seen) is None) == (not absent)


def test_a_thousand_missing_ranks_are_one_short_sentence():
    sentence = missing_sentence(10_000, range(0, 10_000, 2))
    assert sentence is not None
    assert len(sentence) < 200


def test_without_windows_of_what_came_before_the_phases_tell_what_a_late_rank_does():
    phases = {
        0: {"compute": 10.0, "host": 2.0, "communication": 30.0},
        1: {"compute": 11.0, "host": 30.0, "communication": 1.0},
        2: {"compute": 12.0, "host": 3.0, "communication": 29.0},
    }
    assert late_phase(phases, 1) == "host"
    assert late_phase({0: {"compute": 1.0}, 1: {"compute": 1.0}}, 1) is None
    assert late_phase({1: {"compute": 1.0}}, 1) is None


# Many ranks


def test_of_many_ranks_the_first_are_kept_in_detail_and_all_are_matched(tmp_path: Path):
    """Files are read in the order of their names, which here is against that of the ranks."""
    folder = Folder(tmp_path, warmup=0)
    for rank in range(12):
        about = process(rank, 12, pid=200 - rank)
        told = [("note", {"text": f"rank {rank}, {n}"}) for n in range(3)]
        folder.record(rows([50.0] * 3, samples=8), *told, about=about)
        folder.window(busy(30 if rank == 10 else 10, "aten::mm"), pid=200 - rank)
    reduce_folder(tmp_path)
    parts = read_ranks(tmp_path, 0, [])
    assert [part.rank.rank for part in parts] == list(range(12))
    assert [part.series is not None for part in parts] == [True] * 8 + [False] * 4
    drawn = [any(window.timeline for window in part.windows) for part in parts]
    assert drawn == [True] * 8 + [False] * 4
    assert [len(part.record.facts["note"]) for part in parts] == [3] * 8 + [1] * 4
    run = load(tmp_path)
    assert [timeline.rank for timeline in run.timelines] == [*range(7), 10]  # the late one, too
    assert (matching(run).collectives, len(matching(run).ranks)) == (2, 12)
    assert talk(run).late_rank == 10


def test_only_the_last_collectives_of_a_rank_are_kept_and_all_are_counted():
    listed = [
        Collective(name="all_reduce", step=n, start=10 * n, end=10 * n + 5, bytes=7)
        for n in range(100)
    ]
    kept = calls(listed, most=30)
    assert kept.step.tolist() == list(range(70, 100))
    assert (kept.count, kept.bytes) == (100, 700)


def test_windows_in_a_row_that_hold_the_same_collective_count_it_once(tmp_path: Path):
    """A kernel that one step launched may end in the next window."""
    first = Case([0, 10, 20], device="cuda", first_step=4)
    second = Case([20, 30], device="cuda", first_step=6)
    for case, shift in ((first, 0), (second, 0)):
        case.kernel("ncclKernel_AllReduce", 5 + shift, 7, launched=4 if case is first else None)
    windows = []
    for number, case in enumerate((first, second)):
        (tmp_path / f"{number}").mkdir()
        windows.append(case.reduced(tmp_path / f"{number}"))
    assert [len(window.collectives) for window in windows] == [1, 1]
    assert len(calls_of(windows)) == 1
    assert calls_of(windows).step.tolist() == [4]
    assert len(calls_of(windows[1:])) == 1
    assert calls_of(windows[1:]).count == 0  # its step was not recorded whole


# Recorded jobs


def recorded(name: str, folder: Path) -> Run:
    """Return a published job's run; its traces are no part of this project."""
    traces = TRACES / name
    if not traces.exists():
        pytest.skip(f"{traces} is not there")
    for source in trace_run.sources([traces]):
        trace_run.take(source, folder)
    run_folder.write_start(
        folder, [name], name=name, started_at=0.0, options={"warmup": 0}, version="", kind="trace"
    )
    return load(folder)


@pytest.mark.parametrize(
    ("name", "ranks", "collectives", "transfer", "waiting", "late", "caused", "inside"),
    [
        ("dlrm_v100_8ranks", 8, 8, 0.22, 11.2, 7, 9.2, (1.7, 11.3)),
        ("torchrec_4ranks", 4, 30, 103.8, 128.4, 2, 119.1, (105.7, 229.4)),
    ],
)
def test_recorded_jobs_are_matched_over_all_their_ranks(
    tmp_path: Path, name: str, ranks: int, collectives: int, transfer: float, waiting: float,
    late: int, caused: float, inside: tuple[float, float],
):  # fmt: skip
    run = recorded(name, tmp_path)
    assert (len(run.ranks), run.missing_ranks) == (ranks, [])
    found = matching(run)
    assert (found.collectives, found.unmatched) == (collectives, 0)
    assert found.transfer_ms == pytest.approx(transfer, abs=0.05)
    assert found.waiting_ms == pytest.approx(waiting, abs=0.05)
    assert found.stragglers[0].rank == late
    assert found.stragglers[0].caused_ms == pytest.approx(caused, abs=0.05)
    spent = [rank.inside_ms for rank in found.ranks]
    assert (min(spent), max(spent)) == (
        pytest.approx(inside[0], abs=0.05),
        pytest.approx(inside[1], abs=0.05),
    )


def test_two_of_128_recorded_ranks_are_one_job(tmp_path: Path):
    run = recorded("sampled_pair", tmp_path)
    assert (run.world_size, [rank.rank for rank in run.ranks]) == (128, [0, 1])
    assert run.missing_ranks == [(2, 127)]
    assert matching(run).collectives == 10
    assert any(note.startswith("2 of 128 ranks were given") for note in run.notes)


# What is said of it


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        (
            {"late_rank_phase": "host", "late_rank_label": "host.allocator"},
            "memory to be allocated",
        ),
        ({"late_rank_phase": "host"}, "is busy in Python and launching"),
        (
            {"late_rank_phase": "compute", "late_rank_label": "compute.device_memory"},
            "it computes",
        ),
        ({}, "rank 2 is the late one, for 93 % of the waiting"),
    ],
)
def test_the_late_rank_is_said_with_its_cause_as_exactly_as_it_is_known(
    facts: dict[str, str], said: str
):
    sentence = who(runs.communication(late_rank=2, late_rank_share=0.93, **facts))
    assert said in sentence
    assert ("because" in sentence) == bool(facts)


def test_a_rank_that_came_late_into_the_recording_is_said_to_have(tmp_path: Path):
    early, late = Case([0, 50]), Case([0, 50])
    exchanging(exchanging(early, 5, 40), 41, 42)
    exchanging(exchanging(late, 5, 10), 11, 12)
    sentence = who(talk(run_of(tmp_path, {0: early, 1: late})))
    assert "because it came late into the recorded steps already" in sentence
