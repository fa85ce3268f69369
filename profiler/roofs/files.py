"""Read files that the page cache does not hold: one large file and many small ones.

Runs in the user's interpreter: the standard library alone. What was written is forced to storage
(fsync) and dropped from the page cache (posix_fadvise, POSIX_FADV_DONTNEED) before every pass. A
cache below that, of the disk or of a hypervisor, cannot be dropped from here.
"""

from __future__ import annotations

import os
import shutil
import time
from concurrent.futures import ThreadPoolExecutor

from speedprof.profiler.roofs.order import Absent
from speedprof.profiler.roofs.repeats import Plain, level

LARGE_BYTES, LEAST_FREE = 256 << 20, 64 << 20
SMALL_BYTES, SMALL_FILES = 110_000, 256  # a picture of ImageNet has 110 kB on average
READERS = 8
BLOCK = 4 << 20
WRITE_S, PASS_S, LEVEL_S = 3.0, 0.8, 1.6
SYNC_EVERY = 32 << 20


def measure(folder: str) -> Plain:
    """Return the fields of `roofs.Storage` but for the places.

    Raises Absent where there is no room, and OSError.
    """
    room = shutil.disk_usage(folder).free
    if room < LEAST_FREE:
        raise Absent(
            f"only {room >> 20} MB are free in {os.path.dirname(folder)}, the test wants "
            f"{LEAST_FREE >> 20} MB; make room, or name another folder with --storage DIR"
        )
    large = os.path.join(folder, "large")
    size = _write(large, min(LARGE_BYTES, room // 2))
    found: Plain = {"large_bytes": size, "small_bytes": SMALL_BYTES, "readers": READERS}
    found["cold"] = coldness(large, size)
    with ThreadPoolExecutor(READERS) as pool:
        found["sequential_gb_per_s"] = level(lambda: _one(large, size), budget_s=LEVEL_S)
        found["parallel_gb_per_s"] = level(lambda: _several(pool, large, size), budget_s=LEVEL_S)
        os.unlink(large)
        names = _write_small(folder)
        found["small_files"] = len(names)
        found["small_files_per_s"] = level(lambda: _each(names), budget_s=LEVEL_S)
        found["parallel_files_per_s"] = level(lambda: _shared(pool, names), budget_s=LEVEL_S)
    return found


def _write(path: str, size: int) -> int:
    """Write so many random bytes, fewer where that takes long; return how many."""
    end, written = time.monotonic() + WRITE_S, 0
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        while written < size and (written < BLOCK or time.monotonic() < end):
            written += os.write(descriptor, os.urandom(min(BLOCK, size - written)))
            if written % SYNC_EVERY < BLOCK:
                os.fdatasync(descriptor)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return written


def _write_small(folder: str) -> list[str]:
    end = time.monotonic() + WRITE_S
    names: list[str] = []
    for number in range(SMALL_FILES):
        if number >= READERS and time.monotonic() > end:
            break
        names.append(os.path.join(folder, f"small-{number}"))
        _write(names[-1], SMALL_BYTES)
    return names


def _drop(descriptor: int) -> None:
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)


def coldness(path: str, size: int) -> float | None:
    """Drop a file from the page cache; return the part of it that is gone, None if unknowable.

    The kernel tells which pages of a mapping are in memory (mincore) without reading any.
    """
    import ctypes
    import mmap

    pages = (ctypes.c_ubyte * -(-size // mmap.PAGESIZE))()
    with open(path, "rb") as file:
        _drop(file.fileno())
        with mmap.mmap(file.fileno(), size, access=mmap.ACCESS_COPY) as mapped:
            first = ctypes.c_char.from_buffer(mapped)
            address = ctypes.c_void_p(ctypes.addressof(first))
            failed = ctypes.CDLL(None).mincore(address, ctypes.c_size_t(size), pages)
            del first  # or the mapping could not be closed
    return None if failed else 1 - sum(page & 1 for page in pages) / len(pages)


def _one(path: str, size: int) -> float:
    """Return GB/s of one reader."""
    _forget(path)
    begin = time.perf_counter()
    amount = _read_part(path, 0, size)
    return amount / max(time.perf_counter() - begin, 1e-9) / 1e9


def _several(pool: ThreadPoolExecutor, path: str, size: int) -> float:
    """Return GB/s of all readers together, each with a part of the file."""
    _forget(path)
    part = -(-size // READERS)
    begin = time.perf_counter()
    done = [pool.submit(_read_part, path, at, min(at + part, size)) for at in range(0, size, part)]
    amount = sum(one.result() for one in done)
    return amount / max(time.perf_counter() - begin, 1e-9) / 1e9


def _forget(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        _drop(descriptor)
    finally:
        os.close(descriptor)


def _read_part(path: str, start: int, end: int) -> int:
    """Read a part of a file, no longer than a pass may take; return how many bytes."""
    limit = time.perf_counter() + PASS_S
    block, at = bytearray(BLOCK), start
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_SEQUENTIAL)
        while at < end and time.perf_counter() < limit:
            count = os.preadv(descriptor, [memoryview(block)[: end - at]], at)
            if count == 0:
                break
            at += count
    finally:
        os.close(descriptor)
    return at - start


def _each(names: list[str]) -> float:
    """Return files per second, one after the other."""
    for name in names:
        _forget(name)
    begin = time.perf_counter()
    count = _files(names)
    return count / max(time.perf_counter() - begin, 1e-9)


def _shared(pool: ThreadPoolExecutor, names: list[str]) -> float:
    """Return files per second of all readers together."""
    for name in names:
        _forget(name)
    begin = time.perf_counter()
    done = [pool.submit(_files, names[reader::READERS]) for reader in range(READERS)]
    count = sum(one.result() for one in done)
    return count / max(time.perf_counter() - begin, 1e-9)


def _files(names: list[str]) -> int:
    """Read files whole, no longer than a pass may take; return how many."""
    limit = time.perf_counter() + PASS_S
    count = 0
    for name in names:
        with open(name, "rb", buffering=0) as file:
            file.readall()
        count += 1
        if time.perf_counter() > limit:
            break
    return count
