"""Let gloo's threads come to rest before the interpreter goes.

A thread of torch's gloo backend that lets go of its last all-reduce while Python finalizes is
ended in a destructor, and the process aborts: "terminate called without an active exception"
(github.com/pytorch/pytorch/issues/190489). It is a matter of microseconds that become
milliseconds where cores are busy: 13 of 140 short runs without speedprof aborted on two cores
with five such trainings at once (torch 2.15). Under speedprof it would be laid at its door.
"""

from __future__ import annotations

import os
import time

NAME = "pt_gloo_runloop"  # torch/csrc/distributed/c10d/ProcessGroupGloo.cpp
TASKS = "/proc/self/task"
LOOK_S = 0.001
LOOKS = 3  # in a row that must find it asleep: between two it may have waited for the interpreter
LONGEST_S = 2.0


def let_rest(longest_s: float = LONGEST_S) -> bool:
    """Wait, without the interpreter's lock, until no thread of gloo's has work in hand.

    Returns whether that was seen; also where there is no such thread, or no Linux to ask.
    """
    threads = _threads()
    until = time.monotonic() + longest_s
    quiet = 0
    while threads and quiet < LOOKS:
        if time.monotonic() > until:
            return False
        time.sleep(LOOK_S)
        quiet = 0 if any(_is_running(thread) for thread in threads) else quiet + 1
    return True


def _threads() -> list[str]:
    try:
        return [one for one in os.listdir(TASKS) if _read(one, "comm").strip() == NAME]
    except OSError:
        return []  # no such kernel interface


def _is_running(thread: str) -> bool:
    return _read(thread, "stat").rpartition(")")[2].split()[:1] == ["R"]


def _read(thread: str, name: str) -> str:
    try:
        with open(f"{TASKS}/{thread}/{name}") as file:
            return file.read()
    except OSError:
        return ""  # the thread has ended
