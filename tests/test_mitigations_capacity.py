"""Freed memory pays only through a larger batch, and only where memory binds."""

from __future__ import annotations

import pytest
import remedies_memory
import runs
from case_runs import full_device, gpu
from hypothesis import given
from hypothesis import strategies as some
from remedies_memory import WEIGHTS, accumulating, filled, lean
from test_mitigations import assess

from speedprof.advisor.judgement import judge
from speedprof.mitigations.catalogue import advise
from speedprof.mitigations.gains import ceiling
from speedprof.mitigations.memory.capacity import (
    Capacity,
    capacity,
    fixed_share,
    fullness,
    larger_batch,
)
from speedprof.mitigations.mitigation import Fit, Misfit

FREEING = [name for name in remedies_memory.APPLIES if name != "expandable-segments"]
shares = some.floats(0.0, 1.0)


def held(weights: int = 10, peak: int = 80) -> Capacity:
    return Capacity(total=100, peak=peak, weights=weights, gradients=weights, states=2.0 * weights)


def test_activations_are_what_weights_gradients_and_state_leave() -> None:
    assert held().activations == pytest.approx(40.0)
    assert held().times(20.0) == pytest.approx(1.5)


def test_activations_are_never_nothing() -> None:
    assert held(weights=30).activations == pytest.approx(4.0)


def test_a_run_of_adam_holds_four_times_its_weights() -> None:
    found = capacity(filled())
    assert found is not None
    assert found.weights + found.gradients + found.states == pytest.approx(16 * WEIGHTS)


def test_the_fullest_rank_decides() -> None:
    assert fullness(gpu(ranks=[full_device(40), full_device(90)])) == pytest.approx(0.9)
    assert fullness(gpu()) is None


def test_host_exchange_and_update_stay_in_a_larger_batch_and_waiting_does_not() -> None:
    compute = runs.compute(optimizer_ms=5.0)
    host = runs.host(launch_ms=15.0, synchronisation_ms=15.0)
    run = gpu({"host": 0.3, "communication": 0.2}, host=host, compute=compute)
    assert fixed_share(run) == pytest.approx(0.15 + 0.2 + 0.05)


def test_a_batch_twice_as_large_halves_what_stays() -> None:
    assert larger_batch(0.4, 2.0) == pytest.approx(1 / 0.8)
    assert larger_batch(0.4, 2.0, each=0.1, once=0.2) == pytest.approx(1 / (0.7 + 0.3))


@given(shares, some.floats(1.0, 100.0))
def test_a_larger_batch_never_gains_more_than_what_stays(fixed: float, times: float) -> None:
    assert 1.0 - 1e-9 <= larger_batch(fixed, times) <= ceiling(fixed) + 1e-9


@pytest.mark.parametrize("name", [name for name in FREEING if name != "gradient-accumulation"])
def test_room_in_memory_that_is_half_empty_is_worth_nothing(name: str) -> None:
    misfit = assess(name, filled(50))
    assert isinstance(misfit, Misfit)
    assert "does not bind" in misfit.reason


def test_activations_are_not_computed_again_for_speed() -> None:
    inside = runs.compute("arithmetic", kinds={"matmul": 90.0, "elementwise": 10.0})
    for full in (40, 90):
        run = lean(ranks=[full_device(full)], compute=inside)
        named = [one.mitigation.name for one in advise(run, judge(run))]
        assert "activation-checkpointing" not in named
        assert "offloading" not in named


def test_batches_are_taken_together_as_far_as_they_fit() -> None:
    fit = assess("gradient-accumulation", accumulating(16.0, percent=60))
    assert isinstance(fit, Fit)
    assert fit.parameters == {"batch_size": 8, "batches": 8}
    roomy = assess("gradient-accumulation", accumulating(16.0, percent=51))
    assert isinstance(roomy, Fit)
    assert roomy.parameters == {"batch_size": 16, "batches": 4}


def test_taking_batches_together_keeps_the_samples_of_an_update() -> None:
    for full in (51, 55, 60, 65):
        fit = assess("gradient-accumulation", accumulating(12.0, percent=full))
        if isinstance(fit, Fit):
            assert (
                int(str(fit.parameters["batch_size"])) * int(str(fit.parameters["batches"])) == 48
            )


def test_room_is_made_where_a_full_memory_forbids_the_larger_batch_that_launching_wants() -> None:
    host = runs.host(launch_ms=40.0)
    for full, advised in ((95, True), (40, False)):
        run = filled(full, host=host, phases=runs.phases(host=0.4, communication=0.2))
        named = [one.mitigation.name for one in advise(run, judge(run))]
        assert ("sharded-training" in named) is advised
        assert ("activation-checkpointing" in named) is advised
