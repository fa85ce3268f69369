"""The same collective on every rank: what of it is transfer, and whom the others waited for."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from itertools import zip_longest
from typing import TYPE_CHECKING

import numpy as np

from speedprof.profiler.intervals import spans

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from speedprof.profiler.reduced import Collective


@dataclass(frozen=True, slots=True, kw_only=True)
class Matched:
    """Collectives of some steps over all ranks; ms per step and rank."""

    transfer_ms: float
    waiting_ms: float
    late_rank: int | None  # that caused most of the waiting; None where nobody waited
    late_rank_share: float | None


def match(collectives: Mapping[int, Sequence[Collective]]) -> Matched | None:
    """Match the collectives that ranks recorded in the same steps; None where two ranks did not.

    By name and order, counted from the end of the step: ranks may begin a step with different
    calls, and recording may begin within one. Transfer is the least time that a rank spent in a
    collective: it came last and did not wait. The others' time beyond that is waiting, and is
    charged to that rank. This needs no common clock. Collectives that run at once count once.
    """
    groups = _groups(collectives)
    steps = {(rank, c.step) for group in groups for rank, c in group.items()}
    if not steps:
        return None
    transfer: dict[int, list[tuple[int, int]]] = defaultdict(list)
    whole: dict[int, list[tuple[int, int]]] = defaultdict(list)
    caused: dict[int, int] = defaultdict(int)
    for group in groups:
        length = {rank: c.end - c.start for rank, c in group.items()}
        last = min(length, key=lambda rank: length[rank])
        for rank, c in group.items():
            whole[rank].append((c.start, c.end))
            transfer[rank].append((c.end - length[last], c.end))
        caused[last] += sum(length.values()) - length[last] * len(length)
    moving = sum(_union(of_rank) for of_rank in transfer.values()) / len(steps) / 1e6
    total = sum(_union(of_rank) for of_rank in whole.values()) / len(steps) / 1e6
    charged = sum(caused.values())
    late = max(caused, key=lambda rank: caused[rank]) if charged else None
    return Matched(
        transfer_ms=moving,
        waiting_ms=max(0.0, total - moving),
        late_rank=late,
        late_rank_share=None if late is None else caused[late] / charged,
    )


def _groups(collectives: Mapping[int, Sequence[Collective]]) -> list[dict[int, Collective]]:
    """Return each matched collective by rank."""
    sequences: dict[tuple[int, str], dict[int, list[Collective]]] = defaultdict(dict)
    for rank, listed in collectives.items():
        for c in listed:
            sequences[c.step, c.name].setdefault(rank, []).append(c)
    groups = []
    for by_rank in sequences.values():
        from_end = zip_longest(*(reversed(listed) for listed in by_rank.values()))
        for found in from_end:
            group = {r: c for r, c in zip(by_rank, found, strict=True) if c is not None}
            if len(group) > 1:
                groups.append(group)
    return groups


def _union(listed: list[tuple[int, int]]) -> int:
    both = np.array(listed, np.int64)
    return spans(both[:, 0], both[:, 1]).total()


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
