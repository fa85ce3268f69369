"""The inside of the communication phase: transfer, and waiting with whom it was for and why."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import numpy as np

from speedprof.profiler.labels import LABELS, PHASE_OF
from speedprof.profiler.matching import match
from speedprof.profiler.run import PHASES, Communication, Matching, RankWaiting, Straggler
from speedprof.profiler.waiting import Waiting, waiting

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from speedprof.profiler.collective_calls import Calls
    from speedprof.profiler.ranks import Trained

MOST_STRAGGLERS = 8
MOST_LISTED = 5  # stretches of missing ranks
WORTH_NAMING = 0.05  # of the waiting
EXPLAINS = 0.05  # of what a rank caused: most of it may have cost nobody anything


def communication(parts: Sequence[Trained], exposed_ms: float) -> Communication | None:
    """Return the inside of the communication phase; None with one process, or without windows.

    `exposed_ms`: the phase itself, in usual steps.
    """
    traced = [part for part in parts if part.windows]
    if not traced or (len(parts) == 1 and parts[0].world_size == 1 and not parts[0].calls.count):
        return None
    steps = sum(len(window.cube) for part in traced for window in part.windows)
    total = sum(window.collective_ns for part in traced for window in part.windows)
    size = sum(part.calls.bytes for part in traced)
    spent = Communication(
        total_ms=total / steps / 1e6,
        exposed_ms=exposed_ms,
        overlapped_ms=_overlapped(traced),
        collectives=sum(part.calls.count for part in traced) / steps,
        bytes=size / steps if size else None,
    )
    found = waited({part.rank.rank: part.calls for part in traced})
    if found is None:
        return spent
    return _with_waiting(spent, found, _phases_ms(parts))


def waited(calls: Mapping[int, Calls]) -> Waiting | None:
    """Match the ranks' collectives and sum them up; None where there is nothing to match."""
    matches = match(calls)
    return None if matches is None else waiting(matches)


def _with_waiting(
    spent: Communication, found: Waiting, phases_ms: Mapping[int, Mapping[str, float]]
) -> Communication:
    matching = matched(found, phases_ms)
    late = matching.stragglers[0] if matching.stragglers else None
    per_step = 1e6 * max(found.rank_steps, 1)
    return msgspec.structs.replace(
        spent,
        transfer_ms=found.transfer_union / per_step if found.rank_steps else None,
        waiting_ms=(
            max(0, found.whole_union - found.transfer_union) / per_step
            if found.rank_steps
            else None
        ),
        late_rank=late.rank if late else None,
        late_rank_share=late.share if late else None,
        late_rank_phase=late.phase if late else None,
        late_rank_label=late.label if late else None,
        matching=matching,
    )


def matched(found: Waiting, phases_ms: Mapping[int, Mapping[str, float]]) -> Matching:
    """Return what is shown of the matched collectives."""
    return Matching(
        collectives=found.collectives,
        unmatched=found.unmatched,
        steps=found.steps,
        transfer_ms=found.least / 1e6,
        waiting_ms=found.longest / 1e6,
        stragglers=stragglers(found, phases_ms),
        ranks=[
            RankWaiting(
                rank=rank,
                inside_ms=float(found.inside[at] / 1e6),
                waited_ms=float(found.waited[at] / 1e6),
                caused_ms=float(found.caused[at] / 1e6),
                clock_ms=float(found.ahead[at] / 1e6),
            )
            for at, rank in enumerate(found.ranks.tolist())
        ],
    )


def stragglers(found: Waiting, phases_ms: Mapping[int, Mapping[str, float]]) -> list[Straggler]:
    """Name the ranks that the others waited for, worst first, with what kept each of them.

    `phases_ms`, by rank, tells it where nothing was recorded of the time before collectives.
    """
    if not found.longest:
        return []
    named: list[Straggler] = []
    for at in np.argsort(-found.caused, kind="stable")[:MOST_STRAGGLERS].tolist():
        share = float(found.caused[at] / found.longest)
        if named and share < WORTH_NAMING:
            break
        rank = int(found.ranks[at])
        phase, label = _cause(found, at)
        if not found.explained[at]:
            phase = late_phase(phases_ms, rank)
        doing = (found.doing[at] / 1e6).tolist()
        named.append(
            Straggler(
                rank=rank,
                caused_ms=float(found.caused[at] / 1e6),
                share=share,
                phase=phase,
                label=label,
                doing_ms={name: ms for name, ms in zip(LABELS, doing, strict=True) if ms > 0},
                unseen_ms=float(found.unseen[at] / 1e6),
            )
        )
    return named


def _cause(found: Waiting, at: int) -> tuple[str | None, str | None]:
    """Return the phase, and of it the label, that explains most of what a rank caused.

    None where the rank was late for the most part already when its recording began, or where
    little is explained at all.
    """
    spent, unseen = found.doing[at], float(found.unseen[at])
    by_phase = {
        phase: sum(float(ns) for ns, of in zip(spent, PHASE_OF, strict=True) if of == phase)
        for phase in PHASES
    }
    phase = max(by_phase, key=lambda name: by_phase[name])
    told = sum(by_phase.values())
    if by_phase[phase] <= unseen or told + unseen < EXPLAINS * found.caused[at]:
        return None, None
    labels = [index for index, of in enumerate(PHASE_OF) if of == phase]
    return phase, LABELS[max(labels, key=lambda index: spent[index])]


def late_phase(phases_ms: Mapping[int, Mapping[str, float]], late: int) -> str | None:
    """Return the phase that the late rank spends more in than the median of the others.

    Communication is left out: there the others wait for it. None where it spends more in none.
    """
    others = [phases for rank, phases in phases_ms.items() if rank != late]
    if not others or late not in phases_ms:
        return None
    excess = {
        phase: spent - float(np.median([other[phase] for other in others]))
        for phase, spent in phases_ms[late].items()
        if phase != "communication"
    }
    most = max(excess, key=lambda phase: excess[phase])
    return most if excess[most] > 0 else None


def _phases_ms(parts: Sequence[Trained]) -> dict[int, dict[str, float]]:
    return {
        part.rank.rank: {name: phase.ms for name, phase in part.rank.phases.items()}
        for part in parts
        if part.rank.phases is not None
    }


def _overlapped(traced: Sequence[Trained]) -> float | None:
    """Return the collectives' time beside kernels that compute; None where no GPU was seen."""
    used = [step.overlap for part in traced for window in part.windows for step in window.use]
    return float(np.mean(used)) / 1e6 if used else None


def missing(world_size: int, seen: Sequence[int]) -> list[tuple[int, int]]:
    """Return the ranks that were not given, as pairs of first and last."""
    found: list[tuple[int, int]] = []
    following = 0
    for rank in sorted(seen):
        if rank > following:
            found.append((following, rank - 1))
        following = max(following, rank + 1)
    return [*found, (following, world_size - 1)] if following < world_size else found


def missing_sentence(world_size: int, seen: Sequence[int]) -> str | None:
    """Say in one sentence which ranks were not given; None where all were."""
    absent = missing(world_size, seen)
    if not absent:
        return None
    listed = ", ".join(f"{a}" if a == b else f"{a} to {b}" for a, b in absent[:MOST_LISTED])
    more = "" if len(absent) <= MOST_LISTED else " and more"
    were = "was" if len(seen) == 1 else "were"
    return (
        f"{len(seen)} of {world_size} ranks {were} given (not {listed}{more}), "
        "so what is called transfer may hold waiting for a rank that is missing"
    )
