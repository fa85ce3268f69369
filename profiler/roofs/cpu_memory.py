"""Copy arrays far larger than the caches: by one thread, and by all of them.

Runs in the user's interpreter: the standard library and torch. Counted as STREAM's copy does,
bytes read plus bytes written (McCalpin 1995); that a processor may first read what it is about to
write is not counted.
"""

from __future__ import annotations

import glob

from speedprof.profiler.roofs.order import Absent
from speedprof.profiler.roofs.repeats import Plain, level, seconds

LEAST_BYTES, MOST_BYTES = 32 << 20, 2 << 30
USUAL_BYTES = 256 << 20
TIMES_THE_CACHE = 4  # as STREAM asks for
PART_OF_MEMORY = 8  # of what may be used, for one of two arrays
BUDGET_S = 1.5
_UNITS = {"K": 10, "M": 20, "G": 30}


def measure(threads: int, memory_bytes: int) -> Plain:
    """Return the fields of `roofs.Memory`; raises Absent where there is too little memory."""
    import torch

    size = min(max(USUAL_BYTES, TIMES_THE_CACHE * caches_bytes()), MOST_BYTES)
    size = min(size, memory_bytes // PART_OF_MEMORY)
    if size < LEAST_BYTES:
        raise Absent(f"only {memory_bytes >> 20} MB of memory are free")
    source = torch.ones(size // 4)
    target = torch.empty_like(source)

    def once() -> float:
        return 2 * size / seconds(lambda: target.copy_(source)) / 1e9

    found: Plain = {"bytes": size, "threads": threads}
    before = torch.get_num_threads()
    for name, count in (("one_thread_gb_per_s", 1), ("all_threads_gb_per_s", threads)):
        torch.set_num_threads(count)
        found[name] = level(once, budget_s=BUDGET_S)
    torch.set_num_threads(before)
    return found


def caches_bytes(folder: str = "/sys/devices/system/cpu") -> int:
    """Return the size of all last-level caches together, 0 where the kernel does not tell."""
    by_owner: dict[str, int] = {}
    for index in glob.glob(f"{folder}/cpu[0-9]*/cache/index3"):
        by_owner |= _cache(index)
    return sum(by_owner.values())


def _cache(folder: str) -> dict[str, int]:
    """Return who shares a cache and its size."""
    try:
        with open(f"{folder}/shared_cpu_list") as owner, open(f"{folder}/size") as size:
            return {owner.read().strip(): _bytes(size.read().strip())}
    except (OSError, ValueError):
        return {}


def _bytes(text: str) -> int:
    shift = _UNITS.get(text[-1:], 0)
    return int(text[:-1]) << shift if shift else int(text)
