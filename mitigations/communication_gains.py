"""What fewer, smaller or better hidden exchanges gain: small formulas that answer with a range.

Shares are of the step (0..1) and exposed: what computing hides costs nothing. The models know one
measurement only, so each says where it is careful; ranges are never wider than `WIDEST`.
"""

from __future__ import annotations

from speedprof.mitigations.gains import ceiling, shares
from speedprof.mitigations.mitigation import Gain

WIDEST = 2.5  # times: a wider range tells nothing
LATENCY_MS = 0.1  # of one collective that carries nothing, between nodes; within one it is less
LEFT_OUT_AT_LEAST = 0.7  # of the exposed time that left out exchanges took: caches and overlap
CAPS_MB = (5, 10, 25, 50, 100, 200)  # bucket sizes worth trying; 25 is DDP's own


def narrowed(low: float, high: float, model: str) -> Gain:
    """Return the gain as a range, its high end lowered where the range is wider than `WIDEST`."""
    return Gain(low=low, high=min(high, WIDEST * low), model=model)


def rarer(low: float, high: float, every: float, *, what: str = "exchanges") -> Gain:
    """Return the gain of exchanging once where `every` exchanges were before.

    Of these, (every - 1) / every go, with at least `LEFT_OUT_AT_LEAST` of their time.
    """
    gone = 1.0 - 1.0 / max(every, 1.0)
    model = (
        f"1 / (1 - share): of the {shares(low, high)} of the step that {what} take, "
        f"{100 * LEFT_OUT_AT_LEAST * gone:.0f} to {100 * gone:.0f} % go"
    )
    return narrowed(ceiling(LEFT_OUT_AT_LEAST * gone * low), ceiling(gone * high), model)


def fixed_part(transfer_ms: float, collectives: float | None) -> float:
    """Return the part (0..1) of an exchange that does not depend on its bytes."""
    return min(LATENCY_MS * (collectives or 1.0) / max(transfer_ms, 1e-9), 1.0)


def smaller(low: float, high: float, *, ratio: float, fixed: float, coding: float) -> Gain:
    """Return the gain of exchanging `ratio` times fewer bytes.

    Hopeful: the exchange shrinks as its bytes do. Careful: the part that does not depend on bytes
    stays, and coding takes `coding` (0..1) of the time that the exchange took.
    """
    best = 1.0 - 1.0 / ratio
    least = max((1.0 - fixed) * best - coding, 0.0)
    model = (
        f"1 / (1 - share): of the {shares(low, high)} of the step that exchanges take, "
        f"{100 * least:.0f} to {100 * best:.0f} % go with {ratio:g} times fewer bytes"
    )
    return narrowed(ceiling(least * low), ceiling(best * high), model)


def exposed_floor(total_ms: float, backward_ms: float, buckets: float) -> float:
    """Return the least time in ms of an exchange in equal buckets that backward cannot hide.

    Buckets become ready evenly over backward and travel one after another (as in PyTorch's DDP
    paper, VLDB 2020): the last one starts when backward ends, and the link is idle before the
    first one is ready.
    """
    count = max(buckets, 1.0)
    return max(total_ms / count, total_ms - backward_ms * (1.0 - 1.0 / count))


def best_cap(
    total_ms: float, backward_ms: float, exchanged_bytes: float, cap_mb: float
) -> tuple[int, float]:
    """Return the bucket size in MB that hides most, and the ms that stay exposed with it.

    `total_ms` was measured with buckets of `cap_mb`; each bucket more costs `LATENCY_MS`.
    """
    whole_mb = exchanged_bytes / 2**20
    carrying = max(total_ms - LATENCY_MS * whole_mb / cap_mb, 0.0)

    def exposed(cap: int) -> float:
        buckets = max(whole_mb / cap, 1.0)
        return exposed_floor(carrying + LATENCY_MS * buckets, backward_ms, buckets)

    best = min(CAPS_MB, key=lambda cap: (round(exposed(cap), 3), -cap))
    return best, exposed(best)


def better_hidden(exposed_ms: float, floor_ms: float, step_ms: float) -> Gain:
    """Return the gain of hiding an exchange down to what cannot be hidden; nothing at the least.

    The high end takes half of the way: NERSC measured 31.0 to 30.5 ms where the model says more.
    """
    hidden = max(exposed_ms - floor_ms, 0.0) / 2.0
    model = (
        f"{exposed_ms:.3g} ms of the exchange are exposed, {floor_ms:.3g} ms cannot be hidden "
        f"behind backward: up to half of the difference goes from {step_ms:.3g} ms"
    )
    return narrowed(1.0, ceiling(hidden / step_ms), model)


def less_between_nodes(nodes: int) -> float:
    """Return how many times fewer bytes hybrid sharding sends between nodes than full sharding.

    Per step and link between nodes, with P bytes of parameters: full sharding gathers them twice
    and scatters gradients once, 3 P; replicas on m nodes all-reduce gradients, 2 P (m - 1) / m.
    """
    return 3.0 / (2.0 * (nodes - 1) / nodes)
