"""The truth benchmark holds reports to known stalls; its own judgement is tested here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

PHASES = ("data_loading", "host_to_device", "compute", "communication", "host", "outside")


def by_phase(**ms: float) -> dict[str, float]:
    return dict.fromkeys(PHASES, 0.0) | ms


def seen(
    truth: ModuleType, stalled: dict[str, float], phases: dict[str, float], **more: float
) -> object:
    """Return a rank whose own clock agrees with its report, unless `more` says otherwise."""
    told = {"step": sum(phases.values()), "sum_error": 0.0, **more}
    return truth.Seen(stalled=stalled, phases=phases, **told)


def test_a_report_that_moves_by_the_stall_is_right(load: Callable[[str], ModuleType]) -> None:
    truth = load("truth")
    bare = seen(truth, by_phase(), by_phase(compute=4.0, host=1.0))
    stalled = seen(truth, by_phase(host=20.0), by_phase(compute=4.1, host=21.3), step=25.0)
    (moved,) = truth.compare("host-sleep", 20, [([bare], [stalled])])
    assert moved.phase == "host"
    assert moved.bar_ms == pytest.approx(0.4)
    assert moved.right


@pytest.mark.parametrize(("step", "right"), [(25.0, False), (26.2, True)])
def test_what_the_stall_does_to_the_rest_of_the_step_is_the_scripts(
    load: Callable[[str], ModuleType], step: float, right: bool
) -> None:
    truth = load("truth")
    bare = seen(truth, by_phase(), by_phase(compute=4.0, host=1.0))
    slower = seen(truth, by_phase(host=20.0), by_phase(compute=5.2, host=21.0), step=step)
    (moved,) = truth.compare("host-sleep", 20, [([bare], [slower])])
    assert moved.right is right


def test_a_stall_reported_in_another_phase_is_wrong(load: Callable[[str], ModuleType]) -> None:
    truth = load("truth")
    bare = seen(truth, by_phase(), by_phase(compute=4.0))
    stalled = seen(truth, by_phase(host=5.0), by_phase(compute=9.0))
    (moved,) = truth.compare("host-sleep", 5, [([bare], [stalled])])
    assert not moved.right
    assert moved.worst == ("compute", 5.0) or moved.worst == ("host", -5.0)


def test_phases_that_do_not_add_up_are_wrong(load: Callable[[str], ModuleType]) -> None:
    truth = load("truth")
    bare = seen(truth, by_phase(), by_phase(compute=4.0))
    off = seen(truth, by_phase(host=5.0), by_phase(compute=4.0, host=5.0), sum_error=1e-6)
    (moved,) = truth.compare("host-sleep", 5, [([bare], [off])])
    assert not moved.right


def test_the_script_times_the_stall_that_it_was_asked_for(
    load: Callable[[str], ModuleType],
) -> None:
    stalls = load("stalls")
    stalls.Training("outside-checkpoint", 3.0, 4).run()
    assert len(stalls.CLOCK.steps) == len(stalls.CLOCK.ends) == 4
    assert all(step["outside"] >= 3.0 for step in stalls.CLOCK.steps)


def test_an_evaluation_that_computes_is_one_stall(load: Callable[[str], ModuleType]) -> None:
    stalls = load("stalls")
    stalls.Training("outside-evaluation", 1.0, 5).run()
    evaluated = [step for step in stalls.CLOCK.steps if step["outside"] >= 4.0]
    assert len(evaluated) >= 2
    assert all("compute" not in step for step in stalls.CLOCK.steps)


@pytest.mark.slow
def test_a_pair_is_measured_whole(load: Callable[[str], ModuleType], tmp_path: Path) -> None:
    truth = load("truth")
    (moved,) = truth.measure("loader-sleep", (20,), 1, tmp_path)
    assert moved.phase == "data_loading"
    assert moved.injected_ms["data_loading"] > 10  # 20, less what the bare loader takes
    assert moved.sum_error < truth.SUM
