"""What other kernels would gain: in lower precision, fused, or launched as one graph.

Pure functions of what was measured; each speeds up a class of kernels and asks Amdahl's law what
that is worth in this step. Gains of two remedies are never combined.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from speedprof.mitigations.gains import amdahl, ceiling
from speedprof.mitigations.mitigation import Gain

MOST_SPREAD = 2.5  # high / low: a wider range says nothing

# Precision. Products in TF32 or bf16 reach about three quarters of their roof where float32 ones
# reach nearly all of theirs (cuBLAS, large square matrices); small ones wait for memory, where
# half the bytes are worth less than that: the square root lies between both.
REACHED = 0.75
HALF_THE_BYTES = 2.0
PUBLISHED = (1.3, 3.2)  # where the roofs are not known: NERSC's tutorial on A100, TF32 and bf16

# Fusion. A chain of k operators, each reading one tensor and writing one, moves 2 k tensors. Fused
# it reads one and writes one, or all k where backward needs what lies between.
SHORTEST, LONGEST, USUAL = 1.5, 4.0, 3.0  # operators between two products
WORST = 0.82  # of torch.compile on a whole model: TSN, in MMAction2's documentation

# Graphs. NVIDIA's introduction (2019), V100: a kernel of 2.9 us took 9.6 us launched and waited
# for, 3.8 us launched, 3.4 us in a graph. Doubled, for graphs that branch and larger kernels.
NODE_MS = 0.001
REPLAY_MS = 0.02  # of launching the graph itself
GRAPHED = 0.5  # of the launches at least: loss, update and loading may stay outside


def product_speedup(ratio: float | None, *, reached: float = REACHED) -> tuple[float, float]:
    """Return how much faster products run in a type whose roof is `ratio` times as high.

    `reached` is the part of the ratio that the best kernels keep: 1 where both roofs were measured
    with such kernels.
    """
    if ratio is None:
        return PUBLISHED
    fastest = max(min(ratio, HALF_THE_BYTES), reached * ratio, 1.0)
    return math.sqrt(fastest), fastest


def precision(shares: Mapping[str, float], faster: Mapping[str, tuple[float, float]]) -> Gain:
    """Return the gain when classes of kernels (name -> share of the step) each run faster.

    `faster` holds each class's slowest and fastest speed-up; classes that it leaves out stay.
    """
    touched = {name: share for name, share in shares.items() if share > 0 and name in faster}
    low, high = (
        1.0
        / (1.0 - sum(share * (1.0 - 1.0 / faster[name][end]) for name, share in touched.items()))
        for end in (0, 1)
    )
    parts = ", ".join(
        f"{100 * share:.0f} % {name} {faster[name][0]:.2g} to {faster[name][1]:.2g} times"
        for name, share in touched.items()
    )
    return bounded(low, high, f"Amdahl by class of kernels, as fast: {parts}")


def chain_length(streaming_calls: float, product_calls: float) -> float:
    """Return how many operators that only move data lie between two products of a step."""
    if product_calls <= 0:
        return USUAL
    return min(max(streaming_calls / product_calls, SHORTEST), LONGEST)


def fusion_speedup(chain: float) -> tuple[float, float]:
    """Return how much faster a chain of operators runs as one, by the bytes that it saves."""
    return 2.0 * chain / (chain + 1.0), chain


def fusing(share: float, chain: float) -> Gain:
    """Return the gain of fusing chains that take `share` (0..1) of the step.

    The careful end is not the fewest bytes saved but the published counter-example, scaled to
    the share: a compiler now and then chooses worse kernels than the library's.
    """
    _, fastest = fusion_speedup(chain)
    model = (
        f"bytes saved: {100 * share:.0f} % of the step in chains of {chain:.2g} operators, "
        f"{2 * chain:.2g} passes over memory, 2 when fused; the low end is the published "
        f"counter-example of {WORST}x, scaled to that share"
    )
    return bounded(amdahl(share, WORST), amdahl(share, fastest), model)


def fusing_all(share: float, host: float, chain: float) -> Gain:
    """Return the gain where nothing stands between the operators: one chain forward, one back.

    `share` (0..1) of the step are operators that fuse, `host` what starting them takes, `chain`
    how many there are in one direction. Each reads and writes a tensor; fused and computed anew in
    backward, all of them together read one and write one, or read one only. Of the host's time
    half goes at least, with the operators. Measured on two cores: 27 operators over 8 MB, 10.9 to
    0.49 ms.
    """
    model = (
        f"bytes saved: {100 * share:.0f} % of the step in one chain of {chain:.2g} operators each "
        f"way, {2 * chain:.2g} passes over memory, 1 or 2 when fused; and of the "
        f"{100 * host:.0f} % for starting them half to all"
    )
    least = amdahl(share + host / 2.0, chain)
    return bounded(least, amdahl(share + host, 2.0 * chain), model)


def graphing(*, step_ms: float, launch_ms: float, operators: float) -> Gain:
    """Return the gain when the operators whose launches keep the device waiting become a graph.

    `launch_ms` is the exposed part alone: launches behind which the device computes cost nothing.
    """
    left = min(launch_ms, REPLAY_MS + NODE_MS * operators)
    saved = launch_ms - left
    model = (
        f"launching {operators:.0f} operators leaves the device idle {launch_ms:.3g} of "
        f"{step_ms:.3g} ms; a graph leaves {left:.2g} ms, for {100 * GRAPHED:.0f} to 100 % of them"
    )
    return bounded(ceiling(GRAPHED * saved / step_ms), ceiling(saved / step_ms), model)


def bounded(low: float, high: float, model: str, *, most: float = math.inf) -> Gain:
    """Return the gain, nowhere above `most`; too wide a range is narrowed to its middle."""
    low, high = min(low, most), min(high, most)
    if high > MOST_SPREAD * low:
        middle = math.sqrt(low * high)
        low, high = middle / math.sqrt(MOST_SPREAD), middle * math.sqrt(MOST_SPREAD)
    return Gain(low=low, high=high, model=model)
