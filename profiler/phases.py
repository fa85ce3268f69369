"""How much of a step each part takes, from what every step says and what windows split exactly.

The always-on probes count some parts on *every* step: the wait for the loader, checkpoints,
evaluation, the time between epochs. These come in bursts (at an epoch's start, every 100 steps)
that a few traced steps would miss or overrate, so their mean is taken over all steps and needs no
window. What remains of a step can be split into compute, host, communication and copies by
windows alone. For that the remainder is divided, again on every step, into the places that the
probes tell apart (backward, optimizer, after the optimizer, the rest), and each place is split in
the proportions that the windows saw there: a stratified ratio estimator (Cochran, "Sampling
Techniques", 6.10). A print every tenth step is then charged to the place where it happens, and
not spread over compute.

Tracing itself lengthens operators and the Python between them, by up to `TRACING_NS` an event. Of
what traced steps are longer than others up to that much is taken off these labels, before the
proportions are formed; waits are not lengthened by tracing.

On a GPU the places of the host's loop do not say what the device did, so there the remainder is
one place; the device's idle time while the host waits for input is measured by CUDA events on
every step, or, without them, is the part of the wait that windows found exposed.

Where windows saw every step (a recorded trace), nothing is estimated: see exact_phases.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from speedprof.profiler import exact_phases
from speedprof.profiler.batch_sources import cubes
from speedprof.profiler.labels import LABEL, LABELS, PHASE_OF, SEGMENT, SEGMENTS
from speedprof.profiler.record import COLUMN, EPOCH_START
from speedprof.profiler.run import PHASES, Phase
from speedprof.profiler.statistics import MIN_BLOCKS, ratio_half_width, t_975

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from speedprof.profiler.reduced import ReducedWindow
    from speedprof.profiler.stacks import Source

TRACING_NS = 3_000  # a recorded operator costs 0.5 to 2 us on current machines
LONE_STEP = 0.5  # half-width, as part of the share, where one traced step is all there is
PLACES = [SEGMENT[name] for name in SEGMENTS if name != "counted"]
DATA, CHECKPOINT = LABEL["data_loading"], LABEL["outside.checkpoint"]
EVALUATION, OTHER = LABEL["outside.evaluation"], LABEL["outside.other"]
NEEDED = (
    "wall", "input_wait", "input_start", "device_input_wait", "backward", "optimizer", "tail",
    "checkpoint", "evaluation", "between",
)  # fmt: skip
COUNTED = (DATA, CHECKPOINT, EVALUATION, OTHER)
LENGTHENED_HOST = [LABEL["host.launch"], LABEL["host.python"]]
LENGTHENED = [
    index for index, phase in enumerate(PHASE_OF) if phase == "compute"
] + LENGTHENED_HOST


@dataclass(frozen=True, slots=True, kw_only=True)
class Breakdown:
    """One process's mean step by label, and its phases with intervals."""

    label_ms: dict[str, float]  # they add up to the mean step
    phases: dict[str, Phase]
    split: bool  # windows told compute, host, communication and copies apart


@dataclass(frozen=True, slots=True, kw_only=True)
class _Proportions:
    """What windows saw: of each place (row) the part of each label; one more column: sources."""

    part: NDArray[np.float64]
    step_residual: NDArray[
        np.float64
    ]  # ns by (traced step, phase) that proportions do not explain
    group: NDArray[np.int64]  # window of each traced step
    remainder_ns: float  # mean remainder of a traced step


def breakdown(
    rows: NDArray[np.int64],
    windows: Sequence[ReducedWindow],
    sources: frozenset[Source],
    *,
    traced: NDArray[np.int64],
    device: str,
) -> Breakdown:
    """Return the parts of the mean step of `rows`; `traced` are the rows of traced steps."""
    exact = exact_phases.labelled(rows, windows, sources) if windows else None
    if exact is not None:
        return _exact(exact, float(rows[:, COLUMN["wall"]].mean()) / 1e6)
    return estimated(rows, windows, sources, traced=traced, device=device)


def estimated(
    rows: NDArray[np.int64],
    windows: Sequence[ReducedWindow],
    sources: frozenset[Source],
    *,
    traced: NDArray[np.int64],
    device: str,
) -> Breakdown:
    """Estimate the parts of the mean step of `rows` from the probes and what windows split."""
    on_device = device != "cpu"
    exposed = _exposed_part(windows, traced) if on_device else 1.0
    counted = _counted(rows, exposed=exposed, on_device=on_device)
    places = _places(rows, counted.sum(axis=1), on_device=on_device)
    steps, in_places = float(rows[:, COLUMN["count"]].sum()), places.sum(axis=0)
    usual = in_places / steps
    seen = _proportions(windows, sources, usual, on_device=on_device) if windows else None
    part = _all_compute() if seen is None else seen.part
    labelled = in_places @ part
    mean = labelled[: len(LABELS)]
    mean[DATA] += labelled[len(LABELS)]
    mean[list(COUNTED)] += counted.sum(axis=0)
    # by hand: a BLAS starts its threads for so thin a product, which takes longer than the product
    by_phase = np.einsum("rp,pq->rq", places, _by_phase(part))
    for index, label in enumerate(COUNTED):
        by_phase[:, PHASES.index(PHASE_OF[label])] += counted[:, index]
    return Breakdown(
        label_ms={label: float(mean[index]) / steps / 1e6 for index, label in enumerate(LABELS)},
        phases=_phases(by_phase, rows, counted, seen),
        split=seen is not None,
    )


def _exact(by_label: NDArray[np.float64], mean_ms: float) -> Breakdown:
    parts = by_label.sum(axis=0) / by_label.sum() * mean_ms
    return Breakdown(
        label_ms={label: float(parts[index]) for index, label in enumerate(LABELS)},
        phases=exact_phases.phases(by_label, mean_ms),
        split=True,
    )


def _counted(rows: NDArray[np.int64], *, exposed: float, on_device: bool) -> NDArray[np.float64]:
    """Return ns by (row, COUNTED label) that the always-on probes measured, within the wall."""
    column = _columns(rows)
    wait = column["input_wait"] + column["input_start"]
    if on_device:
        measured = column["device_input_wait"] >= 0
        epoch = (rows[:, COLUMN["flags"]] & EPOCH_START) > 0
        # At an epoch's start the device has run dry long before the workers are there.
        guessed = np.where(epoch, wait, exposed * wait)
        wait = np.where(measured, column["device_input_wait"] + column["input_start"], guessed)
    parts = np.column_stack(
        (wait, column["checkpoint"], column["evaluation"], column["between"])
    ).clip(min=0.0)
    over = np.maximum(parts.sum(axis=1) / column["wall"], 1.0)
    bounded: NDArray[np.float64] = parts / over[:, None]
    return bounded


def _places(
    rows: NDArray[np.int64], counted: NDArray[np.float64], *, on_device: bool
) -> NDArray[np.float64]:
    """Divide what remains of each row into PLACES; return ns by (row, place)."""
    column = _columns(rows)
    remainder = np.maximum(column["wall"] - counted, 0.0)
    places = np.zeros((len(rows), len(PLACES)))
    if on_device:
        places[:, SEGMENT["other"]] = remainder
        return places
    places[:, SEGMENT["backward"]] = column["backward"]
    places[:, SEGMENT["optimizer"]] = np.maximum(column["optimizer"], 0)
    after = column["tail"] - column["checkpoint"] - column["evaluation"]
    places[:, SEGMENT["tail"]] = np.maximum(after, 0)
    fitting = remainder / np.maximum(places.sum(axis=1), 1.0)
    places *= np.minimum(fitting, 1.0)[:, None]
    places[:, SEGMENT["other"]] = np.maximum(remainder - places.sum(axis=1), 0.0)
    return places


def _columns(rows: NDArray[np.int64]) -> dict[str, NDArray[np.float64]]:
    return {name: rows[:, COLUMN[name]].astype(np.float64) for name in NEEDED}


def _exposed_part(windows: Sequence[ReducedWindow], traced: NDArray[np.int64]) -> float:
    """Return which part of the host's wait for input the device had nothing else to do in."""
    waits = traced[:, COLUMN["input_wait"]] + traced[:, COLUMN["input_start"]]
    host = float(waits.sum())
    found = sum(place[DATA] for window in windows for step in window.cube for place in step)
    return min(1.0, found / host) if host > 0 and windows else 1.0


def _all_compute() -> NDArray[np.float64]:
    part = np.zeros((len(PLACES), len(LABELS) + 1))
    for place, label in (
        ("backward", "compute.backward"),
        ("optimizer", "compute.optimizer"),
        ("tail", "compute.forward"),
        ("other", "compute.forward"),
    ):
        part[SEGMENT[place], LABEL[label]] = 1.0
    return part


def _proportions(
    windows: Sequence[ReducedWindow],
    sources: frozenset[Source],
    usual: NDArray[np.float64],
    *,
    on_device: bool,
) -> _Proportions:
    steps = np.concatenate([_remainder(w, sources, on_device=on_device) for w in windows])
    group = np.repeat(np.arange(len(windows)), [len(w.cube) for w in windows])
    total = steps.sum(axis=0)
    events = sum(w.events for w in windows) / len(steps)
    lengthened = LENGTHENED_HOST if on_device else LENGTHENED
    total = _without_tracing(total / len(steps), usual, TRACING_NS * events, lengthened)
    whole = total.sum(axis=1)
    anywhere = total.sum(axis=0) / max(whole.sum(), 1.0)
    if not anywhere.any():
        anywhere[LABEL["compute.forward"]] = 1.0
    unseen = np.tile(anywhere, (len(PLACES), 1))
    unseen[SEGMENT["tail"]] = 0.0
    unseen[SEGMENT["tail"], LABEL["host.python"]] = 1.0  # no operators: the loop's own Python
    part = np.where(whole[:, None] > 0, total / np.maximum(whole, 1e-9)[:, None], unseen)
    predicted = steps.sum(axis=2) @ part
    return _Proportions(
        part=part,
        step_residual=_by_phase(steps.sum(axis=1) - predicted),
        group=group,
        remainder_ns=float(steps.sum() / len(steps)),
    )


def _remainder(
    window: ReducedWindow, sources: frozenset[Source], *, on_device: bool
) -> NDArray[np.float64]:
    """Return ns by (step, place, label and sources) of what the probes do not count."""
    kept, moved = cubes(window, sources)
    places = np.zeros((len(kept), len(PLACES), len(LABELS) + 1))
    if on_device:
        kept = kept.copy()
        kept[:, :, COUNTED] = 0
        places[:, SEGMENT["other"], : len(LABELS)] = kept.sum(axis=1)
        places[:, SEGMENT["other"], len(LABELS)] = moved.sum(axis=(1, 2))
        return places
    places[:, :, : len(LABELS)] = kept[:, PLACES]
    places[:, :, len(LABELS)] = moved[:, PLACES].sum(axis=2)
    return places


def _without_tracing(
    traced: NDArray[np.float64], usual: NDArray[np.float64], most: float, labels: list[int]
) -> NDArray[np.float64]:
    """Take off these labels, in each place, what tracing added; at most `most` ns in all."""
    longer: NDArray[np.float64] = np.maximum(traced.sum(axis=1) - usual, 0.0)
    longer *= min(1.0, most / max(float(longer.sum()), 1.0))
    lengthened = traced[:, labels]
    factor = 1.0 - np.minimum(longer / np.maximum(lengthened.sum(axis=1), 1.0), 1.0)
    cleaned = traced.copy()
    cleaned[:, labels] = lengthened * factor[:, None]
    return np.asarray(cleaned, np.float64)


def _by_phase(by_label: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sum columns of labels (and a last one of sources, if there is one) by phase."""
    summed = np.zeros((len(by_label), len(PHASES)))
    for index, phase in enumerate((*PHASE_OF, "data_loading")[: by_label.shape[1]]):
        summed[:, PHASES.index(phase)] += by_label[:, index]
    return summed


def _phases(
    by_phase: NDArray[np.float64],
    rows: NDArray[np.int64],
    counted: NDArray[np.float64],
    seen: _Proportions | None,
) -> dict[str, Phase]:
    wall = by_phase.sum(axis=1)
    mean_ms = float(wall.sum() / rows[:, COLUMN["count"]].sum() / 1e6)
    split = 1.0 - float(counted.sum() / wall.sum())
    phases = {}
    for index, name in enumerate(PHASES):
        share = float(by_phase[:, index].sum() / wall.sum())
        half = ratio_half_width(by_phase[:, index], wall)
        half = share if math.isinf(half) else half
        if seen is not None:
            half = math.hypot(half, split * _window_half(seen, index, share))
        low, high = max(0.0, share - half), min(1.0, share + half)
        phases[name] = Phase(share=share, low=low, high=high, ms=share * mean_ms)
    return phases if seen is not None else _host_hidden(phases)


def _host_hidden(phases: dict[str, Phase]) -> dict[str, Phase]:
    """Widen what cannot be told apart without windows: host time is inside compute."""
    compute, host = phases["compute"], phases["host"]
    hidden = Phase(share=host.share, low=0.0, high=compute.high, ms=host.ms)
    return {**phases, "host": hidden}


def _window_half(seen: _Proportions, phase: int, share: float) -> float:
    """Return half the interval, as part of the remainder, from having traced only some steps."""
    residual, count = seen.step_residual[:, phase], len(seen.step_residual)
    if not seen.step_residual.any():
        return 0.0
    if count < 2:
        return LONE_STEP * share
    windows = int(seen.group.max()) + 1
    sums = np.bincount(seen.group, residual) if windows >= MIN_BLOCKS else residual
    error = math.sqrt(len(sums) / (len(sums) - 1) * float((sums**2).sum())) / count
    return t_975(len(sums) - 1) * error / max(seen.remainder_ns, 1.0)
