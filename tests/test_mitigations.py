"""Each remedy applies where it helps, and elsewhere says why it does not."""

from __future__ import annotations

import pytest
import runs
from case_runs import Make
from remedies_host import asking
from remedy_cases import APPLIES, MISFITS, NOT_MEASURED

from speedprof.advisor.finding import Finding
from speedprof.mitigations.catalogue import CATALOGUE, find
from speedprof.mitigations.mitigation import Fit, Misfit
from speedprof.profiler.ceilings import COMPETITION
from speedprof.profiler.run import Run

NAMES = [mitigation.name for mitigation in CATALOGUE]
FREEING = ("in-process-loading", "rarer-work", "rarer-checkpoints")
ANYTHING = (("data_loading", None),)  # for what treats no bottleneck
EACH = pytest.mark.parametrize("name", NAMES)


def each_run(table: dict[str, list[Make]]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(
        ("name", "make"), [(name, make) for name, makes in table.items() for make in makes]
    )


def finding(name: str, run: Run) -> Finding:
    """Return the finding that the remedy is for, with the share that the run gives its phase."""
    phase, cause = (find(name).treats or ANYTHING)[0]
    share = run.share(phase) or 0.0
    rule = "cpu-oversubscription" if name == "fewer-threads" else "rule"
    return Finding(
        rule=rule, phase=phase, cause=cause, share=share, low=max(0.0, share - 0.02),
        high=share + 0.02, evidence="it was seen", where="train.py:12",
    )  # fmt: skip


def assess(name: str, run: Run) -> Fit | Misfit:
    return find(name).assess(run, finding(name, run))


def test_every_remedy_has_cases_of_each_sort() -> None:
    for table in (APPLIES, MISFITS, NOT_MEASURED):
        assert set(table) == set(NAMES)


@EACH
def test_a_remedy_applies_where_it_helps(name: str) -> None:
    fit = assess(name, APPLIES[name]())
    assert isinstance(fit, Fit), fit
    assert any(letter.isdigit() for letter in fit.reason)
    if fit.gain is None:  # fewer steps, not shorter ones, or none: the training itself is mended
        assert find(name).changes_training or not find(name).treats
        return
    assert 0.5 < fit.gain.low <= fit.gain.high
    assert fit.gain.high >= 1.03
    assert any(letter.isdigit() for letter in fit.gain.model)


@EACH
def test_a_remedy_shows_the_lines_to_write(name: str) -> None:
    fit = assess(name, APPLIES[name]())
    assert isinstance(fit, Fit)
    assert fit.by_hand.strip()
    meant = (
        "device_id=None",
        "hook(None",
        "batch = None",
        "is not None",
        "{name: ",
        "dataset, {}",
    )
    text = fit.by_hand
    for words in meant:
        text = text.replace(words, "")
    assert "None" not in text
    assert "{" not in text


@EACH
def test_a_gain_never_beats_the_removal_of_what_the_finding_costs(name: str) -> None:
    """The ceiling 1 / (1 - share); remedies that act on operators may take all of their phase.

    Where workers go, or what ran on the same cores, the rest runs faster, too: it had shared
    caches and memory with them.
    """
    run = APPLIES[name]()
    fit = assess(name, run)
    assert isinstance(fit, Fit)
    if fit.gain is None:
        return
    rest = (1.0 - min(finding(name, run).high, 0.999)) / (1.0 + COMPETITION * (name in FREEING))
    assert fit.gain.high <= 1.0 / rest + 1e-9


@pytest.mark.parametrize(
    ("name", "make", "why"),
    [(name, make, why) for name, cases in MISFITS.items() for make, why in cases],
)
def test_a_remedy_says_why_it_does_not_apply(name: str, make: Make, why: str) -> None:
    misfit = assess(name, make())
    assert isinstance(misfit, Misfit), misfit
    assert why in misfit.reason


@each_run(NOT_MEASURED)
def test_a_remedy_does_not_guess_what_was_not_measured(name: str, make: Make) -> None:
    assert isinstance(assess(name, make()), Misfit)


@EACH
def test_a_remedy_answers_even_where_nothing_at_all_was_measured(name: str) -> None:
    bare = Run(
        folder="", name="", command=[], cwd="", started_at=0.0, wall_s=None, finished=False,
        exit_status=None,
    )  # fmt: skip
    answer = assess(name, bare)
    assert isinstance(answer, Misfit), answer


def test_an_explicit_argument_is_named_as_the_users_own() -> None:
    chosen = runs.preparing(0, 60.0, explicit=["num_workers"])
    fit = assess("loader-workers", runs.run({"data_loading": 0.6}, loaders=[chosen]))
    assert isinstance(fit, Fit)
    assert "the script sets num_workers=0 itself" in fit.reason
    assert "num_workers=2,  # instead of 0" in fit.by_hand
    assert fit.by_hand.startswith("# train.py:41")


def test_an_argument_that_the_script_left_out_is_not_called_its_own() -> None:
    fit = assess(
        "loader-workers", runs.run({"data_loading": 0.5}, loaders=[runs.preparing(0, 50.0)])
    )
    assert isinstance(fit, Fit)
    assert "itself" not in fit.reason
    assert "instead" not in fit.by_hand


def test_waiting_for_storage_wants_more_workers_than_cores() -> None:
    run = runs.run({"data_loading": 0.7}, loaders=[runs.fetching(0, 64.0)])
    fit = assess("loader-workers", run)
    assert isinstance(fit, Fit)
    assert fit.parameters["num_workers"] in (3, 4)


def test_workers_are_limited_by_the_memory_that_their_batches_take() -> None:
    huge = runs.fetching(0, 64.0, batch_bytes=120 << 20)
    small = runs.machine(16, memory_bytes=1 << 30)
    run = runs.run({"data_loading": 0.7}, loaders=[huge], machines=[small])
    fit = assess("loader-workers", run)
    assert isinstance(fit, Fit)
    assert fit.parameters["num_workers"] <= 2


def test_ranks_of_one_machine_share_its_cores() -> None:
    from case_runs import full_device

    ranks = [full_device(1), full_device(1)]
    run = runs.run(
        {"data_loading": 0.5}, loaders=[runs.preparing(0, 50.0)], ranks=ranks,
        machines=[runs.machine(2)],
    )  # fmt: skip
    assert isinstance(assess("loader-workers", run), Misfit)


@pytest.mark.parametrize(("python", "fits"), [("3.13.1", True), ("3.14.0", False)])
def test_a_data_set_that_cannot_be_pickled_is_fine_where_workers_are_forked(
    python: str, fits: bool
) -> None:
    from speedprof.profiler.run import Environment

    run = runs.run(
        {"data_loading": 0.5}, loaders=[runs.preparing(0, 50.0, picklable=False)],
        environment=Environment(python=python, threads=2),
    )  # fmt: skip
    assert isinstance(assess("loader-workers", run), Fit) is fits


def test_cores_that_other_programs_hold_are_not_counted_on() -> None:
    held = runs.machine(4, cpu_load=0.9, other_load=0.75)
    slow = {"loaders": [runs.preparing(0, 50.0)]}
    free = runs.run({"data_loading": 0.5}, machines=[runs.machine(4)], **slow)
    busy = runs.run({"data_loading": 0.5}, machines=[held], **slow)
    assert isinstance(assess("loader-workers", free), Fit)
    assert isinstance(assess("loader-workers", busy), Misfit)


def test_one_exchange_in_four_is_left() -> None:
    run = APPLIES["fewer-exchanges"]()
    fit = assess("fewer-exchanges", run)
    assert isinstance(fit, Fit)
    assert fit.parameters == {"every": 4}
    assert fit.gain is not None
    assert fit.gain.high == pytest.approx(1.0 / (1.0 - 0.75 * 0.42))


def test_the_line_that_the_finding_names_is_the_one_to_change() -> None:
    lines = [runs.line("host", "waiting", 0.2, "train.py:3"), runs.line("host", "python", 0.15)]
    fit = assess("rarer-work", runs.run({"host": 0.4}, lines=lines))
    assert isinstance(fit, Fit)
    assert fit.by_hand.startswith("# train.py:12")


def test_forked_workers_share_what_is_kept_and_others_need_it_once_each() -> None:
    small = runs.machine(8, memory_bytes=1 << 30)

    def of(method: str) -> Fit | Misfit:
        eight = runs.preparing(8, 50.0, start_method=method)
        run = runs.run({"data_loading": 0.5}, loaders=[eight], machines=[small])
        return assess("cache-samples", run)

    assert isinstance(of("fork"), Fit)
    assert isinstance(of("spawn"), Misfit)


def test_a_queue_that_other_programs_cause_is_not_blamed_on_the_scripts_own_threads() -> None:
    held = runs.machine(2, cpu_load=1.0, other_load=0.65)
    run = runs.run({"data_loading": 0.6}, machines=[held], loaders=[runs.preparing(0, 60.0)])
    misfit = assess("fewer-threads", run)
    assert isinstance(misfit, Misfit)
    assert "other programs hold the cores" in misfit.reason


def test_a_line_that_waits_and_hardly_computes_may_ask_ahead() -> None:
    run = asking(runs.line("compute", "compute", 0.01))
    fit = assess("deferred-reading", run)
    assert isinstance(fit, Fit)
    assert fit.parameters == {"ahead": 1}
