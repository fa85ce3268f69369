"""Workers that are fast enough on average and late now and then."""

from __future__ import annotations

from dataclasses import dataclass

from speedprof.advisor.loading import production_ms
from speedprof.advisor.shares import number, percent, step_ms
from speedprof.mitigations.gains import handoff_ms
from speedprof.mitigations.mitigation import Gain, Misfit
from speedprof.profiler.run import Loader, Run

UNEVEN = 1.15  # mean or p90 over the median step: steps of one length wait for something else
SUPPLY = 0.95  # of the rest of the step: above it a queue never fills, however long it may be


@dataclass(frozen=True, slots=True, kw_only=True)
class Unevenness:
    """What speaks for a queue that runs empty now and then; times are ms per step."""

    loader: Loader
    step_ms: float
    shortest_ms: float  # the step without its wait, but with the hand-over
    supply_ms: float  # the workers' mean time for a step's batches
    ratio: float  # the mean or the 90th percentile of steps over their median

    @property
    def text(self) -> str:
        return (
            f"the workers make a step's batches in {number(self.supply_ms)} ms on average, the "
            f"rest of the step takes {number(self.shortest_ms)}, and steps are uneven "
            f"({number(self.ratio)} times the median)"
        )


def unevenness(run: Run) -> Unevenness | Misfit:
    """Return what shows that single late batches are waited for, or why nothing does."""
    loader = run.training_loader()
    if loader is None or loader.num_workers == 0:
        return Misfit(reason="no worker makes batches ahead")
    mean, production, steps = step_ms(run), production_ms(loader), run.step_ms
    if mean is None or production is None or run.phases is None or steps is None:
        return Misfit(reason="what a batch costs to make, or the steps' spread, was not measured")
    batches = run.batches_per_step or 1.0
    rest = mean - run.phases["data_loading"].ms
    shortest = min(rest + handoff_ms(loader.batch_bytes, batches), mean)
    supply = production * batches / loader.num_workers
    if supply > SUPPLY * rest:
        return Misfit(
            reason=f"the workers need {number(supply)} ms for each step's batches and the rest "
            f"takes {number(rest)}: they are too slow on average, not now and then"
        )
    ratio = max(steps.mean_ms, steps.p90_ms) / max(steps.median_ms, 1e-9)
    if ratio < UNEVEN:
        return Misfit(
            reason=f"steps are even ({number(ratio)} times the median): no single batch is late"
        )
    return Unevenness(
        loader=loader, step_ms=mean, shortest_ms=shortest, supply_ms=supply, ratio=ratio
    )


def without_lateness(seen: Unevenness, least: float, *, what: str) -> Gain:
    """Return the gain when `least` (0..1) to all of the wait for late batches goes."""
    now, shortest = seen.step_ms, seen.shortest_ms
    longest = now - least * (now - shortest)
    model = (
        f"with {what} {percent(least)} to all of the {number(now - shortest)} ms of waiting go: "
        f"{number(now)} -> {number(shortest)} to {number(longest)} ms"
    )
    return Gain(low=now / longest, high=now / shortest, model=model)
