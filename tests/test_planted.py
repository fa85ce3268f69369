"""Scripts with one true bottleneck each, run whole: the verdict names it."""

from __future__ import annotations

from pathlib import Path

import advice_bars
import agreement
import planted
import pytest

from speedprof.profiler import attribution

ENOUGH = 24  # steps after warm-up: two windows, and twice as many steps beside them


@pytest.mark.alone
@pytest.mark.parametrize("case", planted.PLANTED, ids=lambda case: case.script)
def test_the_verdict_names_the_planted_cause(case: planted.Planted, tmp_path: Path) -> None:
    long = case.phase == "compute"  # up to 600 ms a step, and every step alike
    short = ("--stop-after", str(ENOUGH)) if long else ()
    folder = planted.run(tmp_path, *short, *case.order)
    report = planted.report_of(folder)
    assert planted.verdict(report) == case.truth, planted.told(report)
    assert report["run"]["ranks"] == case.ranks
    assert advice_bars.breaches(report) == []
    assert agreement.disagreements(folder) == []  # windows and probes, on the traced steps


@pytest.mark.slow
@pytest.mark.parametrize("loop", planted.LOOPS, ids=lambda loop: Path(loop.script).name)
def test_the_steps_of_any_loop_are_told_apart(loop: planted.Loop, tmp_path: Path) -> None:
    run = attribution.load(planted.run(tmp_path, str(planted.SCRIPTS / f"{loop.script}.py")))
    assert run.steps == loop.steps
    assert run.step_definition == loop.definition
    assert run.batches_per_step == _about(loop.batches_per_step)
    assert run.updates_per_step == _about(loop.updates_per_step)
    assert run.phases is not None
    assert sum(phase.share for phase in run.phases.values()) == pytest.approx(1, abs=1e-9)


def test_every_script_is_in_the_tables() -> None:
    scripts = {str(path.relative_to(planted.SCRIPTS)) for path in planted.SCRIPTS.rglob("*.py")}
    named = {f"{case.script}.py" for case in (*planted.PLANTED, *planted.LOOPS)}
    assert scripts == named


def _about(expected: float | None) -> object:
    return None if expected is None else pytest.approx(expected, rel=0.05)
