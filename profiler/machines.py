"""The nodes of a run and how busy they were while it trained."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import numpy as np

from speedprof.profiler.reading import converted, json_lines
from speedprof.profiler.run import Machine, Sample

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

MOST_SAMPLES = 600


def machines(
    paths: Iterable[Path], training: dict[str, tuple[float, float]]
) -> tuple[list[Machine], int]:
    """Read each node's file; return the nodes and how many lines were damaged.

    `training` says from when to when each node trained (seconds since the run began); a node of
    another name is taken to have trained all the time.
    """
    found, damaged = [], 0
    for path in sorted(paths):
        lines, lost = json_lines(path)
        heads = [{**plain, "samples": []} for plain in lines if "node" in plain]
        head = converted(heads[0], Machine) if heads else None
        looks = [converted(plain, Sample) for plain in lines if "node" not in plain]
        samples = [look for look in looks if look is not None]
        damaged += lost + len(looks) - len(samples)
        if head is not None:
            found.append(_machine(head, samples, training.get(head.node)))
    return found, damaged


def _machine(head: Machine, samples: list[Sample], when: tuple[float, float] | None) -> Machine:
    low, high = when or (-np.inf, np.inf)
    during = [s for s in samples if low <= s.at_s <= high] or samples
    load = float(np.mean([s.cpu for s in during])) if during else None
    others = [max(0.0, s.cpu - s.tree_cpu - (s.nice_cpu or 0.0)) for s in during]
    return msgspec.structs.replace(
        head,
        samples=_thinned(samples),
        cpu_load=load,
        other_load=float(np.mean(others)) if during else None,
    )


def _thinned(samples: list[Sample]) -> list[Sample]:
    if len(samples) <= MOST_SAMPLES:
        return samples
    chosen = np.linspace(0, len(samples) - 1, MOST_SAMPLES).astype(int)
    return [samples[index] for index in chosen.tolist()]
