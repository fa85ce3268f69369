"""The catalogue as a whole, and the advice for one run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import runs
from case_runs import DDP, KINDS, talking
from catalogue_rows import NEGATIVE, ROWS
from remedy_cases import APPLIES

from speedprof.advisor.finding import CAUSES, Finding
from speedprof.advisor.judgement import judge
from speedprof.mitigations import card
from speedprof.mitigations.catalogue import (
    CATALOGUE,
    MOST_ADVICE,
    WORTH,
    Advice,
    advise,
    find,
    misfits,
)
from speedprof.mitigations.mitigation import ACTIONS, COMPONENTS, HOWS, SAFETIES, Fit, Mitigation
from speedprof.profiler.errors import SpeedprofError
from speedprof.profiler.run import Run, Transform

LOADING = "data_loading"
OURS = {  # from what runs showed us: in no survey
    "collect-garbage-less",
    "dali-loading",
    "fewer-exchanges",
    "generator-to-loader",
    "in-process-loading",
    "rarer-work",
    "set-epoch",
    "smaller-batches",
}
EACH = pytest.mark.parametrize("remedy", CATALOGUE, ids=lambda remedy: remedy.name)


def advice(run: Run) -> tuple[Advice, ...]:
    return advise(run, judge(run))


def names(run: Run) -> list[str]:
    return [one.mitigation.name for one in advice(run)]


@EACH
def test_a_card_has_all_its_lines(remedy: Mitigation) -> None:
    told = card.lines(remedy.card)
    assert tuple(told) == (*card.LABELS, card.AGAINST)[: len(told)]
    assert len(told) >= len(card.LABELS)
    assert all(told.values())
    assert remedy.card.split("\n")[0].endswith(".")


@EACH
def test_a_cards_safety_and_place_are_legal(remedy: Mitigation) -> None:
    assert remedy.safety in SAFETIES
    assert remedy.how in HOWS
    if remedy.place == "system":
        assert (remedy.action, remedy.component) == (None, None)
    else:
        assert remedy.place == "5r"
        assert remedy.action in ACTIONS
        assert remedy.component in COMPONENTS


@EACH
def test_a_remedy_that_changes_training_is_one_of_the_five_actions(remedy: Mitigation) -> None:
    assert (remedy.place == "5r") == (remedy.safety == "changes_training")


@EACH
def test_a_remedy_treats_known_bottlenecks(remedy: Mitigation) -> None:
    for phase, cause in remedy.treats:
        assert cause is None or cause in CAUSES[phase]


@EACH
def test_a_remedy_conflicts_with_others_of_the_catalogue_only(remedy: Mitigation) -> None:
    for other in remedy.conflicts:
        assert find(other) is not remedy


@pytest.mark.parametrize("row", ROWS)
def test_every_row_of_the_master_table_has_its_remedy(row: int) -> None:
    meant, names = ROWS[row]
    for name in names:
        file = Path(card.__file__).parent.rglob(name.replace("-", "_") + ".py")
        assert find(name).name == name, meant
        assert list(file), f"{name} has no file of its name"


def test_every_remedy_stands_in_the_master_table_or_is_one_of_our_own() -> None:
    rows = {name for _meant, names in ROWS.values() for name in names}
    assert {one.name for one in CATALOGUE} - rows == OURS


def test_no_two_remedies_have_one_name() -> None:
    assert len({remedy.name for remedy in CATALOGUE}) == len(CATALOGUE)


def test_every_remedy_of_the_folder_is_in_the_catalogue() -> None:
    folder = Path(card.__file__).parent
    written = {file.name for file in folder.rglob("*.py") if "MITIGATION = " in file.read_text()}
    assert len(written) == len(CATALOGUE)


@pytest.mark.parametrize(
    ("phase", "cause"), [(phase, cause) for phase, causes in CAUSES.items() for cause in causes]
)
def test_every_cause_has_a_remedy(phase: str, cause: str) -> None:
    treated = [remedy for remedy in CATALOGUE if (phase, cause) in remedy.treats]
    assert treated


def test_a_remedy_is_found_by_its_name() -> None:
    assert find("pin-memory").name == "pin-memory"


def test_a_misspelt_name_gets_the_nearest_ones() -> None:
    with pytest.raises(SpeedprofError, match="did you mean pin-memory"):
        find("pin-memroy")


def test_a_name_like_no_other_gets_the_list() -> None:
    with pytest.raises(SpeedprofError, match="there are loader-workers"):
        find("zzzzzz")


def test_advice_needs_no_torch() -> None:
    code = (
        "import sys; from speedprof.mitigations.catalogue import advise; "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("name", APPLIES)
def test_advice_is_ranked_worthwhile_and_short(name: str) -> None:
    given = advice(APPLIES[name]())
    assert len(given) <= MOST_ADVICE
    assert len({one.mitigation.name for one in given}) == len(given)
    gains = [one.fit.gain for one in given if one.fit.gain]
    assert all(gain.high >= WORTH for gain in gains)
    ranks = [_order(one) for one in given]
    assert ranks == sorted(ranks)


def _order(one: Advice) -> tuple[bool, float]:
    """What changes the training comes last; before that, the larger gain comes first."""
    gain = one.fit.gain
    return (one.mitigation.changes_training, -round((gain.low + gain.high) / 2, 2) if gain else -1)


def test_a_slow_loader_gets_workers_and_what_else_makes_batches_faster() -> None:
    chain = [Transform(name="Resize", ms_per_sample=0.4, calls=640)]
    run = runs.run({LOADING: 0.6}, loaders=[runs.preparing(0, 60.0, transforms=chain)])
    makers = {"loader-workers", "cache-samples", "faster-decoding", "dali-loading"}
    assert set(names(run)) == makers


def test_a_balanced_step_may_still_get_what_its_findings_are_worth() -> None:
    parts = {"outside": runs.outside(checkpoint_ms=15.0), "host": runs.host(python_ms=15.0)}
    run = runs.run({"outside": 0.15, "host": 0.15}, **parts)
    assert judge(run).verdict.finding is None
    assert names(run) == ["rarer-checkpoints"]


def test_a_run_without_findings_gets_no_advice() -> None:
    assert advice(runs.run(phases=None)) == ()


def test_computing_that_nothing_is_known_of_gets_no_remedy_but_less_of_it() -> None:
    assert all(one.mitigation.changes_training for one in advice(runs.run({"host": 0.02})))


def test_what_does_not_apply_is_told_with_its_reason() -> None:
    run = runs.run({LOADING: 0.6}, loaders=[runs.preparing(2, 190.0)])
    told = misfits(run, judge(run))
    assert "gain nothing" in told["loader-workers"].reason


# What must not be advised: each of these was measured by somebody to be of no use, or to harm.


def test_no_computing_is_saved_while_the_loader_is_the_bottleneck() -> None:
    inside = runs.compute("arithmetic", kinds=KINDS)
    run = runs.run(
        {LOADING: 0.4}, compute=inside, models=[runs.model()], loaders=[runs.preparing(0, 40.0)],
        device="cuda", machines=[runs.machine(16, gpus=["NVIDIA H100"])],
    )  # fmt: skip
    assert "arithmetic-bound" in [found.rule for found in judge(run).findings]
    assert not {"bf16-autocast", "compile-model", "channels-last", "tf32"} & set(names(run))


def test_nothing_beside_loading_is_sped_up_behind_workers_that_are_never_idle() -> None:
    facts = {"host": runs.host(python_ms=15.0), "lines": [runs.line("host", "python", 0.15)]}
    busy = runs.run({LOADING: 0.4, "host": 0.15}, loaders=[runs.preparing(2, 190.0)], **facts)
    alone = runs.run({LOADING: 0.4, "host": 0.15}, loaders=[runs.preparing(0, 40.0)], **facts)
    assert "rarer-work" not in names(busy)
    assert "rarer-work" in names(alone)


def test_no_loader_advice_on_a_step_of_95_percent_computing() -> None:
    """A published profile, 97.8 % busy: DALI gave 7 % there, and mixed precision 3.2x."""
    inside = runs.compute("arithmetic", kinds=KINDS)
    run = runs.run(
        {LOADING: 0.05}, compute=inside, models=[runs.model()], loaders=[runs.preparing(0, 5.0)],
        device="cuda", machines=[runs.machine(16, gpus=["NVIDIA A100"])],
    )  # fmt: skip
    assert not any(one.finding.phase == LOADING and one.fit.gain.high > 1.1 for one in advice(run))
    assert names(run)[0] == "bf16-autocast"


def test_no_workers_beyond_what_the_cpu_can_serve() -> None:
    run = runs.run({LOADING: 0.5}, loaders=[runs.preparing(2, 190.0)])
    assert "loader-workers" not in names(run)


def test_no_compression_of_gradients_on_a_fast_link() -> None:
    fast = runs.communication(transfer_ms=40.0, waiting_ms=0.0, bytes=4e9)
    assert "bf16-gradients" not in names(talking(communication=fast, **DDP))
    assert "bf16-gradients" in names(talking(**DDP))


def test_no_network_advice_where_ranks_wait_for_a_late_one() -> None:
    late = runs.communication(transfer_ms=1.0, waiting_ms=39.0, late_rank=1)
    assert names(talking(communication=late, **DDP)) == ["balanced-ranks"]


def test_no_mixed_precision_where_it_is_on_already() -> None:
    inside = runs.compute("arithmetic", kinds=KINDS)
    run = runs.run(
        compute=inside, models=[runs.model(dtypes=["bfloat16"])], device="cuda",
        machines=[runs.machine(16, gpus=["NVIDIA A100"])],
    )  # fmt: skip
    assert "bf16-autocast" not in names(run)


def test_compiling_is_advised_together_with_measuring_it() -> None:
    told = find("compile-model").assess(APPLIES["compile-model"](), _any_finding())
    assert "compare the step time" in told.by_hand
    assert told.gain.low < 1.0


def test_pinning_is_never_advised_in_the_training_thread() -> None:
    for remedy in CATALOGUE:
        assert ".pin_memory()" not in card.lines(remedy.card)["Does"]
    fit = find("pin-memory").assess(APPLIES["pin-memory"](), _any_finding())
    assert ".pin_memory()" not in fit.by_hand


@pytest.mark.parametrize("name", NEGATIVE)
def test_methods_with_negative_evidence_are_explained_and_never_advised(name: str) -> None:
    remedy = find(name)
    assert remedy.against
    run = APPLIES[name]()
    found = Finding(
        rule="any", phase=remedy.treats[0][0], cause=remedy.treats[0][1], share=0.5, low=0.4,
        high=0.6, evidence="it was seen",
    )  # fmt: skip
    assert isinstance(remedy.assess(run, found), Fit)
    assert name not in [one.mitigation.name for one in advice(run)]


def test_what_speaks_against_a_remedy_keeps_it_from_being_advised() -> None:
    assert {one.name for one in CATALOGUE if one.against} == set(NEGATIVE)


def _any_finding() -> object:
    run = APPLIES["bf16-autocast"]()
    return judge(run).findings[0]
