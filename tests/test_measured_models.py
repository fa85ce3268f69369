"""Predictions that measurements on a small CPU machine corrected."""

from __future__ import annotations

import runs
from case_runs import DDP, loading
from test_mitigations import finding
from test_mitigations_gains import pipeline

from speedprof.mitigations.catalogue import find
from speedprof.mitigations.gains import amdahl, workers_gain
from speedprof.mitigations.mitigation import Fit, Gain, Misfit
from speedprof.profiler.run import Operator, Run


def fit(name: str, run: Run) -> Fit:
    answer = find(name).assess(run, finding(name, run))
    assert isinstance(answer, Fit), answer
    return answer


def misfit(name: str, run: Run) -> str:
    answer = find(name).assess(run, finding(name, run))
    assert isinstance(answer, Misfit), answer
    return answer.reason


def gain(name: str, run: Run) -> Gain:
    predicted = fit(name, run).gain
    assert predicted is not None
    return predicted


def updating(elements: int, device: str = "cpu") -> Run:
    inside = runs.compute(None, optimizer_ms=90.0)
    optimizer = runs.optimizer(parameters=2, elements=elements)
    return runs.run(compute=inside, device=device, optimizers=[optimizer])


def test_a_table_of_eight_million_weights_is_updated_much_faster_on_a_cpu() -> None:
    """26.5 to 4.1 ms a step were measured, 24.5 of it the update."""
    assert gain("fused-optimizer", updating(7_680_000)).high == amdahl(0.9, 12.0)


def test_without_temporaries_a_large_table_gains_as_usual() -> None:
    inside = runs.compute(None, optimizer_ms=90.0)
    plain = runs.optimizer(name="SGD", parameters=2, elements=7_680_000)
    run = runs.run(compute=inside, device="cpu", optimizers=[plain])
    assert gain("fused-optimizer", run).high < amdahl(0.9, 4.0)


def test_a_step_of_nothing_but_passes_over_memory_fuses_into_two() -> None:
    """27 operators over 8 MB each: 10.9 to 0.49 ms a step were measured."""
    inside = {"kinds": {"elementwise": 75.0, "reduction": 25.0}, "operators_per_step": 27.0}
    operators = [
        Operator(name="aten::mul", kind="elementwise", ms=75.0, calls=20.0),
        Operator(name="aten::sum", kind="reduction", ms=25.0, calls=7.0),
    ]
    made = runs.compute("memory_bandwidth", operators=operators, **inside)
    run = runs.run({"host": 0.08}, compute=made, models=[runs.model()])
    told = gain("compile-model", run)
    assert told.low <= 10.9 / 0.49 <= told.high
    assert told.high / told.low <= 2.5 + 1e-9


def test_small_tensors_and_gpus_keep_the_usual_range() -> None:
    usual = gain("fused-optimizer", updating(64_000))
    assert usual.high < gain("fused-optimizer", updating(7_680_000)).high
    assert gain("fused-optimizer", updating(7_680_000, "cuda")).high < usual.high


def test_what_is_read_once_need_not_be_kept() -> None:
    once = loading(runs.preparing(iterations=1))
    assert "read each sample once" in misfit("cache-samples", once)


def test_a_run_that_was_stopped_may_have_had_more_epochs() -> None:
    stopped = loading(runs.preparing(iterations=1), stopped_by_us=True)
    assert fit("cache-samples", stopped).gain is not None


def test_an_exchange_on_busy_cores_hides_behind_nothing() -> None:
    slow = runs.communication(transfer_ms=40.0, waiting_ms=0.0, bytes=4e7, collectives=4.0)
    busy = runs.run(
        {"communication": 0.4},
        communication=slow,
        machines=[runs.machine(2, cpu_load=0.97)],
        **DDP,
    )
    assert "the cores that backward computes on" in misfit("ddp-buckets", busy)


def test_a_prediction_between_numbers_of_workers_is_no_sharper_than_two_runs() -> None:
    """Waiting alone: twice the workers, half the time, give or take what runs differ by."""
    waiting = pipeline(now_ms=60.0, workers=2, rest_ms=0.1, cpu_ms=0.1, waiting_ms=120.0)
    told = workers_gain(waiting, 4)
    assert told.low < 2.0 < told.high
    assert told.high / told.low < 1.2
