"""The measuring process, as its starter sees it: started, listened to, replaced when it dies.

A part that takes its process with it (out of memory, a crash in a library, a file system that
hangs) is absent with that reason, and a new process goes on with the parts after it.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

from speedprof.profiler.errors import SpeedprofError
from speedprof.profiler.roofs.collecting import Collection
from speedprof.profiler.roofs.load import Load
from speedprof.profiler.roofs.machine import Machine
from speedprof.profiler.roofs.order import Order
from speedprof.profiler.roofs.roofs import Roofs
from speedprof.profiler.roofs.scratch import scratch_folder

PROGRAM = Path(__file__).with_name("measuring.py")
IMPORT_S, PART_S = 180.0, 90.0  # until torch is there (a cold disk, a network), for one part
ENDING_S = 5.0

Answer = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What to measure, and with which interpreter."""

    python: str
    machine: Machine
    parts: tuple[str, ...]
    storage: Path
    known: Roofs | None = None  # kept where it is not measured anew


def measure(wish: Wish, told: Callable[[str], None]) -> Roofs:
    """Measure; `told` hears which part begins.

    Raises SpeedprofError where the interpreter cannot measure at all.
    """
    collection = Collection(wish.machine, wish.known, storage=wish.storage)
    with scratch_folder(wish.storage) as (scratch, refused):
        order = Order(
            parts=[part for part in wish.parts if part != "storage" or refused is None],
            scratch=scratch,
            cores=max(1, int(wish.machine.cores)),
            memory_bytes=_spare_memory(wish.machine),
            starter=os.getpid(),
            answers=-1,
        )
        while True:
            left = _Process(wish, order, collection, told).run()
            if not left:
                break
            order = replace(order, parts=left)
    if refused is not None and "storage" in wish.parts:
        collection.part("storage", {}, {"storage": refused})
    return collection.roofs()


def _spare_memory(machine: Machine) -> int:
    import psutil

    available: int = psutil.virtual_memory().available
    return min(available, machine.memory_bytes // 2)


class _Process:
    """One measuring process, from its start to its end."""

    def __init__(
        self, wish: Wish, order: Order, collection: Collection, told: Callable[[str], None]
    ) -> None:
        self._wish, self._order = wish, order
        self._collection, self._told = collection, told
        self._left = list(order.parts)
        self._part: str | None = None  # that is being measured
        self._began = False  # torch was imported
        self._hung = False
        self._load = Load(wish.machine.cpus)

    def run(self) -> list[str]:
        """Measure until the process ends; return the parts that it did not come to."""
        with tempfile.TemporaryFile() as said:
            answers, process = self._start(said)
            silent = False
            try:
                silent = self._listen(answers)
            finally:
                os.close(answers)
                _end(process, at_once=not silent)
            if not self._began:
                raise SpeedprofError(self._no_start(_last_line(said)))
            if self._left:
                why = self._death(process.returncode, _last_line(said))
                part = self._part or self._left[0]
                self._left.remove(part)
                self._collection.part(part, {}, {part: why})
        return self._left

    def _start(self, said: IO[bytes]) -> tuple[int, subprocess.Popen[bytes]]:
        answers, theirs = os.pipe()
        order = replace(self._order, answers=theirs)
        try:
            process = subprocess.Popen(
                [self._wish.python, str(PROGRAM), order.encoded()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=said,
                pass_fds=[theirs],
            )
        except OSError as error:
            os.close(answers)
            raise SpeedprofError(self._no_start(error.strerror or str(error))) from error
        finally:
            os.close(theirs)
        return answers, process

    def _listen(self, answers: int) -> bool:
        """Take answers as they come; return whether there will be no more."""
        for answer in _answers(answers, lambda: PART_S if self._began else IMPORT_S):
            if answer is None:
                self._hung = True
                return False
            self._take(answer)
        return True

    def _take(self, answer: Answer) -> None:
        if "versions" in answer:
            self._began = True
            self._collection.versions(answer["versions"])
        elif "begin" in answer:
            self._part = answer["begin"]
            self._told(answer["begin"])
            self._load.begin(answer["cpu_s"])
        else:
            part = answer["end"]
            other = self._load.end(answer["cpu_s"])
            self._collection.part(part, answer["found"], answer["absent"], other_cores=other)
            self._left.remove(part)
            self._part = None

    def _no_start(self, why: str) -> str:
        return (
            f"{self._wish.python} cannot measure ({why or 'it did not start'}); "
            "name the interpreter that trains with --python PATH"
        )

    def _death(self, status: int, why: str) -> str:
        if self._hung:
            return f"it took longer than {PART_S:.0f} s and was given up"
        if status < 0:
            return f"the measuring process was ended by {signal.Signals(-status).name}"
        return f"the measuring process failed: {why}"


def _answers(descriptor: int, limit_s: Callable[[], float]) -> Iterator[Answer | None]:
    """Yield answers as they come until the process ends; None where none comes in time."""
    held = b""
    while True:
        if not select.select([descriptor], [], [], limit_s())[0]:
            yield None
            return
        read = os.read(descriptor, 1 << 16)
        if not read:
            return
        *lines, held = (held + read).split(b"\n")
        yield from (json.loads(line) for line in lines)


def _end(process: subprocess.Popen[bytes], *, at_once: bool) -> None:
    """Wait for a process that is done; end one that is not, and let it tidy up."""
    if at_once:
        process.terminate()
    try:
        process.wait(ENDING_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _last_line(said: IO[bytes]) -> str:
    with contextlib.suppress(OSError):
        said.seek(0)
    lines = said.read().decode("utf-8", "replace").strip().splitlines()
    return lines[-1].strip() if lines else ""
