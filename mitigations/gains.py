"""How much a remedy would gain: small formulas, each with its source, that answer with a range.

A gain is the ratio old step / new step. Gains are never added up or multiplied: when one
bottleneck goes, another one decides.
"""

from __future__ import annotations

from dataclasses import dataclass

from speedprof.mitigations.mitigation import Gain
from speedprof.profiler.ceilings import COMPETITION, EATEN

# Passing one batch between processes: queue, file descriptor and waking the training thread, then
# mapping, touching and unmapping shared memory that another process wrote. Measured on two busy
# cores: 0.34 ms for 4 kB, 8 ms for 16 MB, 30 ms for 64 MB.
HANDOFF_MS = 0.4
HANDOFF_BYTES_PER_MS = 2.5e6
RUNS_DIFFER = 0.05  # two runs of the same script on one machine; no prediction is sharper
PAGEABLE_LEAST = 0.4  # of a pageable copy goes when its memory is pinned: assumed


def ceiling(share: float) -> float:
    """Return the gain of removing a share (0..1) of the step altogether: 1 / (1 - share)."""
    return 1.0 / max(1.0 - min(max(share, 0.0), 1.0), 0.01)


def amdahl(share: float, speedup: float) -> float:
    """Return the gain when a share of the step runs `speedup` times faster (Amdahl 1967)."""
    kept = min(max(share, 0.0), 1.0)
    return 1.0 / max(1.0 - kept + kept / speedup, 0.01)


def removing(low_share: float, high_share: float, *, what: str, at_least: float = 1.0) -> Gain:
    """Return the gain of removing a share, of which at least `at_least` (0..1) goes."""
    low, high = ceiling(low_share * at_least), ceiling(high_share)
    part = "" if at_least >= 1.0 else f" of which {100 * at_least:.0f} to 100 % go"
    model = f"1 / (1 - share) with {shares(low_share, high_share)} of the step {what}{part}"
    return Gain(low=low, high=high, model=model)


def rarer(
    low_share: float, high_share: float, every: int, *, what: str, same_cores: bool = False
) -> Gain:
    """Return the gain of doing once in `every` times what takes a share of the step each time.

    What is left of a large share decides: one in `every`, and the rest of the step, which may be
    slower by `COMPETITION` of itself where work had kept caches warm and clocks high for it. It
    may be as much faster where both computed on the `same_cores` and cooled each other's caches
    (measured on a CPU, convolutions after 48 ms of Python, of copying, of logging: by 24, 5 and
    -5 % of themselves).
    """
    saved = 1.0 - 1.0 / max(every, 1)
    rest = 1.0 - min(max(low_share, 0.0), 1.0)
    slowed = min(COMPETITION * rest, EATEN * low_share * saved)
    low = 1.0 / max(1.0 - low_share * saved + slowed, 0.01)
    model = (
        f"1 / (1 - share x {saved:.3g}) with {shares(low_share, high_share)} of the step {what}"
    )
    high = ceiling(high_share * saved)
    if same_cores:
        left = 1.0 / high
        warmed = left - left / (1.0 + COMPETITION)
        high = 1.0 / (left - min(warmed, EATEN * high_share * saved))
    return Gain(low=low, high=high, model=model)


def overlapped(low_share: float, high_share: float, *, what: str, at_once: int = 1) -> Gain:
    """Return the gain of doing beside the rest of the step what the step waits for now.

    The step is then as long as the longer of the two: a wait of most of the step hides behind
    little, and two halves gain 2x at best. With more of it `at_once` the wait is shared by so many
    steps, at the careful end by half as many: whoever is asked may not answer all at once. The
    rest slows down there, too (`COMPETITION`).
    """
    rests = (1.0 - low_share, 1.0 - high_share)
    best = min(max(low_share / at_once, rests[0]), max(high_share / at_once, rests[1]))
    worst = max(high_share / max(at_once / 2.0, 1.0), (1.0 + COMPETITION) * max(rests))
    model = (
        f"the longer of the two instead of one after the other: {shares(low_share, high_share)} "
        f"of the step {what}, {at_once} at once, beside the rest"
    )
    return Gain(low=1.0 / min(worst, 1.0), high=1.0 / max(best, 0.01), model=model)


def decoded_elsewhere(share: float, ratio: float, *, what: str) -> Gain:
    """Return the gain when a share of the step, decoding, runs on another engine.

    `ratio` is the roof of that engine over the roof of this one, images per second each, on this
    machine. It is of whole pictures that lie in memory; where they are small, or read in between,
    less of it arrives: half of what it saves at least.
    """
    faster = max(ratio, 1.0)
    saved = share * (1.0 - 1.0 / faster)
    model = (
        f"Amdahl: {100 * share:.0f} % of the step ({what}) at the ratio of the two roofs, "
        f"{faster:.2g}, or half of what that saves"
    )
    return Gain(low=ceiling(saved / 2.0), high=ceiling(saved), model=model)


def copied_pinned(
    low_share: float, high_share: float, *, at_speed: float | None, overlapped: bool
) -> Gain:
    """Return the gain of copying from pinned memory what takes a share of the step now.

    `at_speed` is the part (0..1) of the present time that the copy takes at the speed of pinned
    memory: bytes / roof / present time. Without a roof, `PAGEABLE_LEAST` of it goes: no figure is
    published in numbers. Where the script can let the copy overlap, all of it may go.
    """
    remains = 1.0 - PAGEABLE_LEAST if at_speed is None else min(max(at_speed, 0.0), 1.0)
    low = ceiling(low_share * (1.0 - remains))
    high = ceiling(high_share * (1.0 if overlapped else 1.0 - remains))
    told = "at least 40 % of it goes" if at_speed is None else f"{100 * remains:.0f} % of it stays"
    hidden = ", nothing where it overlaps" if overlapped else ""
    model = (
        f"1 / (1 - share) with {shares(low_share, high_share)} of the step copying; {told}{hidden}"
    )
    return Gain(low=min(low, high), high=max(low, high), model=model)


def speeding_up(share: float, slowest: float, fastest: float, *, what: str) -> Gain:
    """Return the gain when a share runs between `slowest` and `fastest` times as fast."""
    faster = f"{slowest:g} to {fastest:g} times as fast"
    model = f"Amdahl: {100 * share:.0f} % of the step ({what}) runs {faster}"
    return Gain(low=amdahl(share, slowest), high=amdahl(share, fastest), model=model)


def shares(low: float, high: float) -> str:
    """Show a pair of shares: "31 to 35 %"."""
    first, second = f"{100 * low:.0f}", f"{100 * high:.0f}"
    return f"{first} %" if first == second else f"{first} to {second} %"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pipeline:
    """What a step needs, whoever makes its batches; times are milliseconds per step."""

    now_ms: float
    workers: int  # as measured
    rest_ms: float  # the step without its wait for data
    cpu_ms: float  # of making its batches
    waiting_ms: float  # of making its batches: storage, no core needed
    handoff_ms: float  # of receiving its batches from workers
    cores: float  # that the run may use
    rest_cores: float  # that the rest of the step keeps busy, 1 at least
    storage_ms: float = 0.0  # that reading its bytes takes at best, however many workers read


def handoff_ms(batch_bytes: int | None, batches: float = 1.0) -> float:
    """Return what receiving a step's batches from workers costs the training thread, in ms."""
    return batches * (HANDOFF_MS + (batch_bytes or 0) / HANDOFF_BYTES_PER_MS)


def hopeful_step(pipeline: Pipeline, workers: int) -> float:
    """Return the step in ms if half of the rest's further cores can be spared and nothing slows.

    Threads of one operator wait for each other: two cores busy computing do less than twice the
    work of one, so workers take less from them than their CPU time (measured on two cores, a JPEG
    folder with 0 and 2 workers: 1.70x, where full sharing gives 1.55x and none 2.0x).

    Supply: CPU work spreads over workers and cores, waiting over workers alone. Cores: all CPU
    work of a step, spread over all cores. The step is as long as the longest of the three.
    """
    needed = (1.0 + min(pipeline.rest_cores, pipeline.cores)) / 2.0
    work = pipeline.cpu_ms + needed * pipeline.rest_ms
    rest = pipeline.rest_ms + pipeline.handoff_ms
    return max(supply_ms(pipeline, workers), rest, work / pipeline.cores)


def careful_step(pipeline: Pipeline, workers: int) -> float:
    """Return the step in ms if the rest keeps its cores and everything slows down.

    By how much workers slow down the rest is told in `profiler.ceilings`.
    """
    work = pipeline.cpu_ms + min(pipeline.rest_cores, pipeline.cores) * pipeline.rest_ms
    rest = pipeline.rest_ms + pipeline.handoff_ms
    longest = max(supply_ms(pipeline, workers), rest, work / pipeline.cores)
    return longest * (1.0 + COMPETITION)


def supply_ms(pipeline: Pipeline, workers: int) -> float:
    """Return how often, in ms, that many workers (1 at least) can deliver a step's batches.

    CPU work spreads over workers and cores, waiting over workers alone; no number of them reads
    faster than the storage delivers.
    """
    at_once = min(float(workers), pipeline.cores)
    made = pipeline.cpu_ms / at_once + pipeline.waiting_ms / workers
    return max(made, pipeline.storage_ms)


def workers_gain(pipeline: Pipeline, workers: int) -> Gain:
    """Return the gain of `workers` workers, between the careful and the hopeful step."""
    fast, slow = hopeful_step(pipeline, workers), careful_step(pipeline, workers)
    ratios = [pipeline.now_ms / slow, pipeline.now_ms / fast]
    if pipeline.workers:  # both sides by the same model, so that its errors cancel
        ratios = [
            careful_step(pipeline, pipeline.workers) / slow,
            hopeful_step(pipeline, pipeline.workers) / fast,
        ]
    if min(ratios) > 1.0 + RUNS_DIFFER:
        best = max(ratios) * (1.0 + RUNS_DIFFER)
        if not pipeline.workers:  # who waits for no batch at all has no more to gain
            best = max(min(best, pipeline.now_ms / pipeline.rest_ms), *ratios)
        ratios = [min(ratios) / (1.0 + RUNS_DIFFER), best]
    model = (
        f"a step's batches need {pipeline.cpu_ms:.1f} ms of CPU and {pipeline.waiting_ms:.1f} ms "
        "of "
        f"waiting, shared by {workers} workers on {pipeline.cores:.3g} cores, beside "
        f"{pipeline.rest_ms:.1f} ms of other work: {pipeline.now_ms:.1f} -> {fast:.1f} to "
        f"{slow:.1f} ms"
    )
    return Gain(low=min(ratios), high=max(ratios), model=model)


def best_workers(pipeline: Pipeline, most: int) -> int:
    """Return the fewest workers whose careful step is within 3 % of the best up to `most`."""
    steps = {count: careful_step(pipeline, count) for count in range(1, max(most, 1) + 1)}
    best = min(steps.values())
    return min(count for count, step in steps.items() if step <= 1.03 * best)
