"""What this node lends to a run: cores and memory, as affinity and cgroups allow."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
UNLIMITED = 1 << 60  # bytes; cgroup v1 says "no limit" by a number near 2^63


@dataclass(frozen=True)
class Limits:
    """What the run may use of the node."""

    cpus: frozenset[int]  # cores by number that the scheduler may use
    quota: float | None  # cores' worth of time that the cgroup allows, None: no limit
    memory_bytes: int | None  # of the node or of the cgroup, the smaller

    @property
    def cores(self) -> float:
        """Return how many cores' worth of time the run can have."""
        return len(self.cpus) if self.quota is None else min(self.quota, len(self.cpus))


def limits(total_memory: int | None, *, root: Path = CGROUPS, own: Path | None = None) -> Limits:
    """Read what applies to this process; `own` is /proc/self/cgroup unless it is named."""
    folders = _cgroup_folders(root, own or Path("/proc/self/cgroup"))
    quotas = [quota for folder in folders if (quota := _quota(folder)) is not None]
    memory = [bytes_ for folder in folders if (bytes_ := _memory(folder)) is not None]
    if total_memory is not None:
        memory.append(total_memory)
    return Limits(
        cpus=frozenset(os.sched_getaffinity(0)),
        quota=min(quotas, default=None),
        memory_bytes=min(memory, default=None),
    )


def memory_left(*, root: Path = CGROUPS, own: Path | None = None) -> int | None:
    """Return the bytes that our cgroups still allow; None where none of them sets a limit."""
    folders = _cgroup_folders(root, own or Path("/proc/self/cgroup"))
    return min((left for one in folders if (left := _left(one)) is not None), default=None)


def sentence(limits: Limits, present: int | None) -> str | None:
    """Say in words what holds the run back from the node's cores, None where nothing does."""
    if limits.quota is not None and limits.quota < len(limits.cpus):
        return (
            f"its cgroup allows {limits.quota:g} cores' worth of time on {len(limits.cpus)} cores"
        )
    if present is not None and len(limits.cpus) < present:
        return f"its CPU affinity allows {len(limits.cpus)} of {present} cores"
    return None


def processor_name(cpuinfo: Path = Path("/proc/cpuinfo")) -> str | None:
    """Return the processor's name, None where the kernel does not tell it."""
    try:
        lines = cpuinfo.read_text("utf-8", errors="replace").splitlines()
    except OSError:
        return None
    named = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else os.uname().machine


def cpu_seconds_of_cgroup(root: Path = CGROUPS, own: Path | None = None) -> float | None:
    """Return the CPU time that our cgroup has used, None where it cannot be read."""
    for folder in _cgroup_folders(root, own or Path("/proc/self/cgroup")):
        for line in (_read(folder / "cpu.stat") or "").splitlines():
            if line.startswith("usage_usec "):
                return int(line.split()[1]) / 1e6
        used = _read(folder / "cpuacct.usage")
        if used is not None and used.isdigit():
            return int(used) / 1e9
    return None


def _cgroup_folders(root: Path, own: Path) -> list[Path]:
    """Return our cgroup's folders, innermost first: version 2's, version 1's `cpu` and `memory`.

    Inside a container the path that the kernel tells may not exist; the mount itself is ours then.
    """
    found = []
    for line in (_read(own) or "0::/").splitlines():
        _, controllers, path = line.split(":", 2)
        named = set(controllers.split(","))
        if controllers and not named & {"cpu", "cpuacct", "memory"}:
            continue
        mounts = (
            [root]
            if not controllers
            else [root / controllers, *(root / one for one in sorted(named))]
        )
        for mount in mounts:
            inner = mount / path.lstrip("/")
            below = [inner, *inner.parents]
            found += [
                folder for folder in below if folder.is_relative_to(mount) and folder.is_dir()
            ]
    return list(dict.fromkeys(found))


def _quota(folder: Path) -> float | None:
    allowed = (_read(folder / "cpu.max") or "").split()
    if len(allowed) != 2:
        allowed = [
            _read(folder / "cpu.cfs_quota_us") or "-1",
            _read(folder / "cpu.cfs_period_us") or "0",
        ]
    if not all(part.isdigit() for part in allowed) or int(allowed[1]) == 0:
        return None  # "max" or -1
    return int(allowed[0]) / int(allowed[1])


def _memory(folder: Path) -> int | None:
    allowed = _read(folder / "memory.max") or _read(folder / "memory.limit_in_bytes") or ""
    if not allowed.isdigit() or int(allowed) >= UNLIMITED:
        return None
    return int(allowed)


def _left(folder: Path) -> int | None:
    """Return what a limit leaves; what files take of it is given back as it is needed."""
    allowed = _memory(folder)
    used = _read(folder / "memory.current") or _read(folder / "memory.usage_in_bytes") or ""
    if allowed is None or not used.isdigit():
        return None
    lines = (_read(folder / "memory.stat") or "").splitlines()
    told = dict(line.split()[:2] for line in lines)
    files = told.get("total_inactive_file", told.get("inactive_file", "0"))
    return max(allowed - int(used) + int(files), 0)


def _read(path: Path) -> str | None:
    try:
        return path.read_text("ascii", errors="replace").strip()
    except OSError:
        return None
