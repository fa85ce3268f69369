"""Numbers read the same in the terminal and on the page."""

from __future__ import annotations

import msgspec
import pytest
from views import run

from speedprof.mitigations.mitigation import HOWS, SAFETIES, Gain
from speedprof.profiler.run import PHASES, StepTimes
from speedprof.reports import wording


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (None, "–"),
        (0.0, "0 ms"),
        (0.0004, "<0.001 ms"),
        (0.042, "0.042 ms"),
        (4.211, "4.21 ms"),
        (41.23, "41.2 ms"),
        (1240.4, "1,240 ms"),
        (12_400.0, "12.4 s"),
    ],
)
def test_times_have_three_digits_and_a_unit(value: float | None, said: str) -> None:
    assert wording.ms(value) == said


@pytest.mark.parametrize(
    ("share", "said"),
    [(None, "–"), (0.0, "0 %"), (0.001, "<1 %"), (0.006, "1 %"), (0.614, "61 %")],
)
def test_a_little_is_not_nothing_and_nothing_is_not_unmeasured(
    share: float | None, said: str
) -> None:
    assert wording.percent(share) == said


@pytest.mark.parametrize(
    ("value", "said"),
    [(None, "–"), (512.0, "512 B"), (3.4e6, "3.40 MB"), (150e9, "150 GB"), (2e12, "2.00 TB")],
)
def test_bytes_are_decimal(value: float | None, said: str) -> None:
    assert wording.quantity(value, "B") == said


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [
        (1.4, 2.1, "1.4–2.1× faster"),
        (1.02, 1.06, "1.02–1.06× faster"),
        (1.31, 1.32, "1.3× faster"),
        (9.0, 14.2, "9.0–14× faster"),
    ],
)
def test_a_gain_is_a_range(low: float, high: float, said: str) -> None:
    assert wording.gain(Gain(low=low, high=high, model="")) == said


def test_a_gain_that_cannot_be_predicted_is_said_to_be_so() -> None:
    assert wording.gain(None) == "gain not predictable from this run"


def test_there_is_a_word_for_everything_that_the_contract_names() -> None:
    assert set(wording.PHASE_NAMES) == set(PHASES)
    assert set(wording.SAFETY_WORDS) == set(SAFETIES)
    assert set(wording.HOW_WORDS) == set(HOWS)


def test_only_a_phase_that_is_zero_and_listed_as_a_gap_is_unseen() -> None:
    assert wording.unseen_phases(run()) == {"host_to_device", "communication"}
    assert wording.unseen_phases(run(not_measured=[])) == frozenset()


@pytest.mark.parametrize(
    ("finished", "status", "part"),
    [
        (True, 0, None),
        (True, 3, "status 3"),
        (True, -9, "signal 9"),
        (False, None, "did not finish"),
    ],
)
def test_a_run_that_ended_badly_says_how(
    finished: bool, status: int | None, part: str | None
) -> None:
    said = wording.ending(run(finished=finished, exit_status=status))
    assert said is None if part is None else said is not None and part in said


@pytest.mark.parametrize(
    ("low", "median", "mean", "high", "said"),
    [
        (125.0, 131.0, 130.0, 135.0, "131 ms each (125–135 ms)"),
        (16_465.0, 20_400.0, 21_000.0, 32_400.0, "20.4 s each (16.5–32.4 s)"),
        (1156.0, 9000.0, 9100.0, 12_400.0, "9,000 ms each (1,156 ms–12.4 s)"),
        (28.3, 106.0, 184.0, 404.0, "106 ms each (28.3–404 ms, 184 ms on average)"),
    ],
)
def test_a_range_of_steps_has_one_unit_and_tells_the_mean_that_the_phases_add_up_to(
    low: float, median: float, mean: float, high: float, said: str
) -> None:
    times = StepTimes(count=9, mean_ms=mean, median_ms=median, p10_ms=low, p90_ms=high)
    assert said in wording.step_line(msgspec.structs.replace(run(), step_ms=times)).split(" · ")
