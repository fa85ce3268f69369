"""The report in the terminal: the verdict first, twenty lines, readable without colour."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

import pytest
from rich.cells import cell_len
from view_facts import HOSTILE, phases
from views import balanced, loader_bound, no_steps, nothing_measured, run, unfinished
from views_large import gpu_with_copies, hostile_names
from views_traces import VIEWS, recorded, recorded_ranks

from speedprof.reports import to_text
from speedprof.reports.view import View

COLOR = re.compile(r"\x1b\[[0-9;]*m")
EVERY_VIEW = pytest.mark.parametrize("made", VIEWS.values(), ids=VIEWS.keys())


@EVERY_VIEW
@pytest.mark.parametrize("width", [40, 60, 80, 100, 300])
def test_no_line_is_wider_than_the_terminal(made: Callable[[], View], width: int) -> None:
    for line in to_text.render(made(), width=width).splitlines():
        assert cell_len(line) <= width


@EVERY_VIEW
def test_nothing_but_text_comes_out_without_colour(made: Callable[[], View]) -> None:
    text = to_text.render(made(), color=False)
    assert all(c == "\n" or c.isprintable() for c in text)


@EVERY_VIEW
def test_colour_adds_colour_and_changes_no_word(made: Callable[[], View]) -> None:
    plain, colored = to_text.render(made(), color=False), to_text.render(made(), color=True)
    bare = [line.rstrip() for line in COLOR.sub("", colored).splitlines()]
    assert bare == plain.splitlines()
    assert COLOR.search(colored)


def test_the_verdict_is_the_first_sentence() -> None:
    lines = to_text.render(loader_bound()).splitlines()
    assert lines[0].startswith("speedprof · train ")
    assert lines[1].startswith("Data loading takes 61 % of each step")


def test_a_report_is_about_twenty_lines() -> None:
    assert 15 <= len(to_text.render(loader_bound(), report="x/report.html").splitlines()) <= 26


def test_the_bar_runs_through_the_phases_from_left_to_right() -> None:
    lines = to_text.render(loader_bound()).splitlines()
    loading = next(line for line in lines if line.startswith(" data loading"))
    compute = next(line for line in lines if line.startswith(" compute"))
    assert loading.count("█") > compute.count("█") > 0
    assert loading.rindex("█") + 1 == compute.index("█")
    assert "61 % ± 2" in loading
    assert "25.1 ms" in loading


def test_a_phase_of_nothing_after_a_full_bar_is_drawn_as_nothing() -> None:
    full = phases(40.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0)
    text = to_text.render(replace(loader_bound(), run=run(phases=full, not_measured=[])))
    last = next(line for line in text.splitlines() if line.startswith(" outside the step"))
    assert last.split() == ["outside", "the", "step", "0", "%", "±", "1", "0", "ms"]


def test_a_phase_that_nobody_could_see_is_a_dash() -> None:
    lines = to_text.render(loader_bound()).splitlines()
    assert next(line for line in lines if line.startswith(" host to device")).split()[-1] == "–"


def test_evidence_comes_with_its_line_and_remedies_with_gain_and_safety() -> None:
    text = " ".join(to_text.render(loader_bound(), width=100).split())
    assert "23.2 ms in __getitem__ per batch, 97 % of it CPU time. train.py:41" in text
    assert "1. loader-workers 1.4–2.1× faster other random draws · by --apply" in text
    assert "loader = DataLoader(dataset, batch_size=32, num_workers=2" in text
    assert "gain not predictable from this run" in text
    assert "channels-last" not in text
    assert "and 1 more in the report" in text


def test_what_was_not_measured_and_where_the_page_is_come_last() -> None:
    text = to_text.render(gpu_with_copies(), report="runs/a/report.html")
    assert text.splitlines()[-2:] == [
        "Not measured: communication (one process)",
        "Report: runs/a/report.html",
    ]


def test_a_recorded_trace_says_so_and_does_not_speak_of_an_end() -> None:
    text = " ".join(to_text.render(recorded()).split())
    assert "recorded trace: 6 steps on cuda" in text
    assert "did not finish" not in text


def test_the_gpus_use_and_the_step_without_its_bottleneck_are_said() -> None:
    text = " ".join(to_text.render(recorded()).split())
    assert "The GPU is busy 56.0 % of the step and idle 44.0 %" in text
    assert "in the DataLoader with the GPU idle 33.9 %" in text
    assert "take 118–142 ms, 1.25× to 1.50× faster" in text
    assert "from pageable memory take 1.92 ms a step (11.5 ms in 6 steps) at 10.1 GB/s" in text


def test_the_mfu_names_its_roof() -> None:
    text = " ".join(to_text.render(recorded()).split())
    assert "13.4 TFLOP/s in fp32; MFU 28 % of the V100 SXM2's roof (15.7 for fp32)" in text


def test_transfer_and_the_late_rank_are_said_with_what_kept_it() -> None:
    text = " ".join(to_text.render(recorded_ranks()).split())
    assert "transfer 103.8 of the 110.0 to 200.0 ms that a rank spends in them" in text
    assert "rank 2 causes 119.1 of 128.4 ms of waiting, kept by host: allocator" in text


def test_a_long_path_to_the_page_is_one_piece() -> None:
    path = "/".join(["folder"] * 40) + "/report.html"
    assert f"Report: {path}" in to_text.render(balanced(), report=path)


def test_a_run_without_steps_or_phases_says_so_and_draws_no_bar() -> None:
    assert "No training step was seen" in to_text.render(no_steps())
    assert "█" not in to_text.render(no_steps())
    assert "no process was reached" in to_text.render(nothing_measured())


def test_an_unfinished_run_says_so_and_shows_its_notes() -> None:
    text = to_text.render(unfinished())
    assert "the run did not finish" in text
    assert "1 damaged frame was skipped" in text


def test_terminal_escapes_in_names_are_spelled() -> None:
    text = to_text.render(hostile_names(), color=True, report=HOSTILE)
    assert "\\x1b[31m" in text.replace("\n", "")
    assert "\x1b[31m" not in text
    assert "\u202e" not in text
    text.encode("utf-8")


def test_code_that_is_only_comments_is_still_shown() -> None:
    view = loader_bound()
    fit = replace(view.advice[0].fit, by_hand="# move the files nearer\n")
    shown = to_text.render(replace(view, advice=(replace(view.advice[0], fit=fit),)))
    assert "# move the files nearer" in shown


def test_a_tiny_phase_leaves_a_mark() -> None:
    sliver = phases(40.0, 0.001, 0.0, 0.999, 0.0, 0.0, 0.0)
    text = to_text.render(replace(loader_bound(), run=run(phases=sliver)))
    loading = next(line for line in text.splitlines() if line.startswith(" data loading"))
    assert "▏" in loading
    assert "<1 %" in loading
