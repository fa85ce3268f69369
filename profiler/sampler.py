"""How busy the machine is while the training runs: looked at from outside, a few times a second.

Bounded: after every 2,000 looks the pause between them doubles, so that a month's training makes a
file of a few megabytes. Loads are fractions of the cores that the run may use, by affinity and
cgroup.
"""

from __future__ import annotations

import os
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from speedprof.profiler import node
from speedprof.profiler.gpu import Gpus
from speedprof.profiler.run_folder import safe_name

PAUSE_S = 0.25
LOOKS_PER_LEVEL = 2_000
TREE_LOOK_SHARE = (
    0.02  # of the time may go into looking for new processes: all of /proc is read for it
)
LOOPBACK = "lo"


@dataclass
class Counters:
    """Sums since the start; None where they cannot be seen."""

    at: float
    busy_s: float  # CPU time of everything on our cores
    nice_s: float | None  # of it, of programs that give way to ours; None: cannot be told
    tree_s: float  # CPU time of the run's processes
    read_bytes: int | None
    write_bytes: int | None
    sent_bytes: int | None
    received_bytes: int | None


class Tree:
    """The processes of the run: a process and what came from it."""

    def __init__(self, root: int) -> None:
        self._root = root
        self._known: dict[int, Any] = {}  # psutil.Process
        self._ended_s = 0.0  # CPU time of processes that are gone, as last seen
        self._ended_io = [0, 0]
        self._cpu: dict[int, float] = {}
        self._io: dict[int, tuple[int, int]] = {}
        self._io_seen = False
        self._next_search = 0.0

    def look(self) -> tuple[float, int, tuple[int, int] | None]:
        """Return CPU seconds and resident bytes of all, and bytes (read, written) of storage."""
        self._search()
        memory = 0
        for pid, process in list(self._known.items()):
            memory += self._look_at(pid, process)
        io = [self._ended_io[i] + sum(one[i] for one in self._io.values()) for i in (0, 1)]
        cpu = self._ended_s + sum(self._cpu.values())
        return cpu, memory, (io[0], io[1]) if self._io_seen else None

    def _look_at(self, pid: int, process: Any) -> int:
        """Note a process's CPU time and traffic; return its resident bytes."""
        import psutil

        try:
            with process.oneshot():
                times = process.cpu_times()
                memory: int = process.memory_info().rss
            self._cpu[pid] = times.user + times.system
            self._look_at_io(pid, process)
        except psutil.NoSuchProcess:
            self._forget(pid)
            return 0
        except psutil.AccessDenied:
            return 0  # somebody else's, by sudo
        return memory

    def _search(self) -> None:
        import psutil

        begin = time.monotonic()
        if begin < self._next_search:
            return
        try:
            root = self._known.get(self._root) or psutil.Process(self._root)
            found = [root, *root.children(recursive=True)]
        except psutil.NoSuchProcess:
            return
        for process in found:
            self._known.setdefault(process.pid, process)
        now = time.monotonic()
        self._next_search = now + max(2 * PAUSE_S, (now - begin) / TREE_LOOK_SHARE)

    def _look_at_io(self, pid: int, process: Any) -> None:
        import psutil

        try:
            io = process.io_counters()
        except (psutil.AccessDenied, NotImplementedError, OSError):
            return
        self._io[pid] = (io.read_bytes, io.write_bytes)
        self._io_seen = True

    def _forget(self, pid: int) -> None:
        self._known.pop(pid, None)
        self._ended_s += self._cpu.pop(pid, 0.0)
        for i, value in enumerate(self._io.pop(pid, (0, 0))):
            self._ended_io[i] += value


class Sampler:
    """Writes `machine-<host>.jsonl` in a thread of the launcher until it is stopped."""

    def __init__(
        self, folder: Path, root: int, *, started_at: float, pause_s: float = PAUSE_S
    ) -> None:
        """Watch the process `root` and its descendants; `started_at` is Unix seconds."""
        self.failed: OSError | None = None  # why sampling ended early
        self._path = folder / f"machine-{safe_name(os.uname().nodename)}.jsonl"
        self._tree = Tree(root)
        self._started_at = started_at
        self._pause_s = pause_s
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="speedprof-sampler", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Take no more looks and wait for the one in progress."""
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        gpus = Gpus()
        try:
            with self._path.open("wb") as file:
                self._watch(file, gpus)
        except OSError as error:
            self.failed = error
        finally:
            gpus.close()

    def _watch(self, file: IO[bytes], gpus: Gpus) -> None:
        import msgspec
        import psutil

        limits = node.limits(psutil.virtual_memory().total)
        encode = msgspec.json.Encoder().encode
        file.write(encode(_machine(limits, gpus)) + b"\n")
        file.flush()
        before = self._count(limits)[0]
        pause, looks = self._pause_s, 0
        while not self._stopping.wait(pause):
            now, memory = self._count(limits)
            file.write(encode(self._sample(before, now, memory, limits, gpus)) + b"\n")
            file.flush()
            before, looks = now, looks + 1
            if looks % LOOKS_PER_LEVEL == 0:
                pause *= 2

    def _count(self, limits: node.Limits) -> tuple[Counters, int]:
        import psutil

        tree_s, memory, io = self._tree.look()
        traffic = psutil.net_io_counters(pernic=True)
        outside = [one for name, one in traffic.items() if name != LOOPBACK]
        counters = Counters(
            at=time.time(),
            busy_s=_busy_s(limits),
            nice_s=_nice_s(limits),
            tree_s=tree_s,
            read_bytes=None if io is None else io[0],
            write_bytes=None if io is None else io[1],
            sent_bytes=sum(one.bytes_sent for one in outside) if traffic else None,
            received_bytes=sum(one.bytes_recv for one in outside) if traffic else None,
        )
        return counters, memory

    def _sample(
        self, before: Counters, now: Counters, memory: int, limits: node.Limits, gpus: Gpus
    ) -> dict[str, object]:
        """Return a look with the fields of `run.Sample`."""
        import psutil

        seconds = max(now.at - before.at, 1e-3)
        core_s = seconds * limits.cores
        tree = min(1.0, max(0.0, now.tree_s - before.tree_s) / core_s)
        return {
            "at_s": round(now.at - self._started_at, 3),
            "cpu": round(max(tree, min(1.0, (now.busy_s - before.busy_s) / core_s)), 4),
            "tree_cpu": round(tree, 4),
            "nice_cpu": _share(before.nice_s, now.nice_s, core_s),
            "memory_bytes": memory,
            "available_bytes": psutil.virtual_memory().available,
            "read_bytes_per_s": _rate(before.read_bytes, now.read_bytes, seconds),
            "write_bytes_per_s": _rate(before.write_bytes, now.write_bytes, seconds),
            "sent_bytes_per_s": _rate(before.sent_bytes, now.sent_bytes, seconds),
            "received_bytes_per_s": _rate(before.received_bytes, now.received_bytes, seconds),
            "gpus": gpus.sample(),
        }


def _machine(limits: node.Limits, gpus: Gpus) -> dict[str, object]:
    """Return what stays the same, with the fields of `run.Machine`."""
    import psutil

    return {
        "node": os.uname().nodename,
        "cpu": node.processor_name(),
        "cores": max(1, int(limits.cores)),
        "memory_bytes": limits.memory_bytes,
        "gpus": gpus.names,
        "start_limit": node.sentence(limits, psutil.cpu_count()),
    }


def _busy_s(limits: node.Limits) -> float:
    """Return CPU seconds spent on our cores: by our cgroup if it has a quota, else by anybody."""
    import psutil

    if limits.quota is not None:
        used = node.cpu_seconds_of_cgroup()
        if used is not None:
            return used
    each = psutil.cpu_times(percpu=True)
    ours = [one for number, one in enumerate(each) if number in limits.cpus] or each
    return sum(
        sum(one[:8]) - one.idle - one.iowait for one in ours
    )  # guest time is in user already


def _nice_s(limits: node.Limits) -> float | None:
    """Return CPU seconds of niced programs on our cores, which give way to one that is not.

    None where that cannot be told: a cgroup has no such counter, and of our own niced processes
    nobody knows which of the seconds are theirs.
    """
    import psutil

    if limits.quota is not None or os.getpriority(os.PRIO_PROCESS, 0) > 0:
        return None
    each = psutil.cpu_times(percpu=True)
    ours = [one for number, one in enumerate(each) if number in limits.cpus] or each
    return sum(getattr(one, "nice", 0.0) for one in ours)


def _share(before: float | None, now: float | None, whole: float) -> float | None:
    if before is None or now is None:
        return None
    return round(min(1.0, max(0.0, now - before) / whole), 4)


def _rate(before: int | None, now: int | None, seconds: float) -> float | None:
    """Return units per second; a counter that fell has lost a process, which is no traffic."""
    if before is None or now is None:
        return None
    return round(max(0, now - before) / seconds, 1)
