"""Let DistributedDataParallel overlap better.

Does: tunes DDP: buckets whose exchange backward can hide, gradients as views of them, a static
    graph, no search for unused parameters.
Helps: exposed exchanges of badly chosen buckets; copies between gradients and buckets; a walk over
    the graph in each step.
Avoid: `static_graph` where used parameters change from step to step; no search where some
    parameters get no gradient.
Safety: rounding. Gradients are summed in other groups.
Place: system. The same gradients, exchanged in other pieces.
Source: PyTorch DDP paper (VLDB 2020) and tuning guide; NERSC's tutorial on 4 A100: 31.0 to 30.5 ms
    a step with 100 MB buckets, 30.1 ms without broadcasting buffers, so expect little unless the
    buckets are badly chosen.
"""

from __future__ import annotations

from speedprof.advisor.finding import Finding
from speedprof.advisor.loading import CORES_FREE_BELOW, cpu_load
from speedprof.advisor.shares import number, percent, size, step_ms
from speedprof.mitigations.card import remedy
from speedprof.mitigations.communication.wrapping import (
    NOT_DDP,
    ddp_models,
    exchange_of,
    exchanges,
)
from speedprof.mitigations.communication_gains import best_cap, better_hidden
from speedprof.mitigations.gains import ceiling
from speedprof.mitigations.mitigation import Fit, Gain, Misfit
from speedprof.profiler.run import Run

OWN_CAP_MB = 25.0  # DDP's own
BEST = 0.25  # of the exposed exchange, where backward was not timed: assumed, NERSC measured 0.02
WORTH = 1.03
BY_HAND = """\
model = torch.nn.parallel.DistributedDataParallel(
    model, bucket_cap_mb={cap}, gradient_as_bucket_view=True, static_graph=True,{unused}
)"""


def assess(run: Run, finding: Finding) -> Fit | Misfit:
    models = ddp_models(run)
    if not models:
        return Misfit(reason=NOT_DDP)
    load = cpu_load(run)
    if run.device == "cpu" and load is not None and load >= CORES_FREE_BELOW:
        return Misfit(
            reason=f"the exchange runs on the cores that backward computes on ({percent(load)} "
            "busy): nothing is left to hide it behind"
        )
    largest = max(model.bytes for model in models)
    exchange = exchange_of(run)
    searching = bool(exchange and exchange.find_unused_parameters)
    cap, gain = _predicted(run, finding, largest)
    if gain.high < WORTH:
        return Misfit(reason=f"no buckets hide more: {gain.model}{_search(searching)}")
    return Fit(
        reason=f"exchanging {size(largest)} of gradients leaves {percent(finding.share)} "
        f"exposed{_now(run)}{_search(searching)}",
        gain=gain,
        parameters={"bucket_cap_mb": cap},
        by_hand=BY_HAND.format(
            cap=cap,
            unused="\n    find_unused_parameters=False,  # instead of True" if searching else "",
        ),
    )


def _predicted(run: Run, finding: Finding, gradient_bytes: int) -> tuple[int, Gain]:
    """Return the bucket size and its gain: by the timeline of buckets where it can be told."""
    backward = run.compute.backward_ms if run.compute else None
    talk, mean = run.communication, step_ms(run)
    if backward is None or talk is None or talk.transfer_ms is None or mean is None:
        cap = max(5, min(100, round(gradient_bytes / 8 / 1e6)))
        model = f"up to {100 * BEST:.0f} % of the exposed exchange hidden behind backward"
        return cap, Gain(low=1.0, high=ceiling(finding.share * BEST), model=model)
    exchange = exchange_of(run)
    now = (exchange.bucket_cap_mb if exchange else None) or OWN_CAP_MB
    times = exchanges(run)  # per step; each of them behind a backward pass of its own
    cap, floor = best_cap(talk.transfer_ms / times, backward / times, gradient_bytes, now)
    return cap, better_hidden(finding.share * mean, times * floor, mean)


def _now(run: Run) -> str:
    exchange = exchange_of(run)
    if exchange is None or exchange.bucket_cap_mb is None:
        return ""
    return f", in buckets of {number(exchange.bucket_cap_mb)} MB"


def _search(searching: bool) -> str:
    if not searching:
        return ""
    return (
        "; find_unused_parameters=True walks the graph in each step: needed only where "
        "parameters get no gradient"
    )


MITIGATION = remedy(
    "ddp-buckets",
    __doc__,
    treats=(("communication", "transfer"),),
    assess=assess,
    how="patch",
    after=("no-sync",),
)
