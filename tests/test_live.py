"""The live line: at the foot of a terminal, never in the way of what the script prints."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import select
import struct
import sys
import termios
import time
from array import array
from collections.abc import Callable
from pathlib import Path

import pytest

from speedprof.profiler import live, progress, record
from speedprof.tests.launching import COMMAND, PATIENCE_S, environment, script

pyte = pytest.importorskip("pyte")

ROWS, COLUMNS = 24, 80
TRAINING = """
import os, sys, time
from array import array
from speedprof.profiler.record import COLUMN, STEP_COLUMNS, Writer
writer = Writer(os.path.join(os.environ["SPEEDPROF_RUN"], f"rank-host-{os.getpid()}.rec"))
for step in range(%(steps)d):
    row = [0] * len(STEP_COLUMNS)
    row[COLUMN["count"]], row[COLUMN["wall"]] = 1, 40_000_000
    row[COLUMN["input_wait"]], row[COLUMN["backward"]] = 30_000_000, 4_000_000
    writer.rows(array("q", row))
    %(each)s
    time.sleep(0.02)
%(last)s
"""


class _Terminal:
    """A terminal of 80 x 24 with `speedprof run SCRIPT` in its foreground."""

    def __init__(self, *arguments: str, cwd: Path, filled: int = 0) -> None:
        self.screen = pyte.Screen(COLUMNS, ROWS)
        self.raw = b""
        self._stream = pyte.ByteStream(self.screen)
        self._pid, self.descriptor = pty.fork()
        if self._pid == 0:
            os.chdir(cwd)
            os.write(1, b"before\r\n" * filled)
            os.execve(sys.executable, [*COMMAND, *arguments], environment(TERM="xterm"))
        self.resize(ROWS, COLUMNS)

    def resize(self, rows: int, columns: int) -> None:
        self.screen.resize(rows, columns)
        size = struct.pack("HHHH", rows, columns, 0, 0)
        fcntl.ioctl(self.descriptor, termios.TIOCSWINSZ, size)

    def watch(self, enough: Callable[[], bool]) -> None:
        """Show what comes until it is enough."""
        end = time.monotonic() + PATIENCE_S
        while not enough():
            assert time.monotonic() < end, "\n".join(self.screen.display)
            if select.select([self.descriptor], [], [], 0.05)[0]:
                self._show()

    def close(self) -> int:
        """Show the rest; return the exit status."""
        with contextlib.suppress(OSError):
            while True:
                self._show()
        return os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])

    def _show(self) -> None:
        gained = os.read(self.descriptor, 65536)
        self.raw += gained
        self._stream.feed(gained)

    @property
    def foot(self) -> str:
        return str(self.screen.display[-1]).rstrip()

    @property
    def lines(self) -> list[str]:
        return [str(line).rstrip() for line in self.screen.display]


def _training(folder: Path, *, steps: int = 60, each: str = "", last: str = "") -> str:
    return script(folder, TRAINING % {"steps": steps, "each": each, "last": last})


def test_the_line_says_how_far_it_is_and_where_time_goes(tmp_path: Path) -> None:
    terminal = _Terminal("run", _training(tmp_path, steps=80), cwd=tmp_path)
    terminal.watch(lambda: "speedprof: step" in terminal.foot)
    assert "40 ms a step · waiting for input 75% · backward 10%" in terminal.foot
    assert terminal.close() == 0


@pytest.mark.parametrize("filled", [0, 10, ROWS + 5])
def test_prints_of_the_script_are_whole_and_in_order(filled: int, tmp_path: Path) -> None:
    printing = "print(f'loss of {step} ' + 'x' * 40, flush=True)"
    name = _training(tmp_path, steps=90, each=printing)
    terminal = _Terminal("run", name, cwd=tmp_path, filled=filled)
    drawn = 0

    def done() -> bool:
        nonlocal drawn
        drawn += terminal.foot.startswith("speedprof: step")
        return b"loss of 89" in terminal.raw

    terminal.watch(done)
    assert drawn > 3
    printed = [line for line in terminal.lines if line.startswith("loss of")]
    last = int(printed[-1].split()[2])
    first = last - len(printed) + 1
    assert printed == [f"loss of {step} " + "x" * 40 for step in range(first, last + 1)]
    assert len(printed) >= ROWS - 3
    assert terminal.close() == 0


def test_a_line_that_the_script_has_not_ended_goes_on_where_it_was(tmp_path: Path) -> None:
    each = "print('.', end='', flush=True)"
    name = _training(tmp_path, steps=70, each=each, last="print('|')")
    terminal = _Terminal("run", name, cwd=tmp_path, filled=3)
    terminal.watch(lambda: b"|" in terminal.raw)
    assert b"speedprof: step" in terminal.raw
    assert "." * 70 + "|" in terminal.lines
    assert terminal.close() == 0


@pytest.mark.parametrize("end", ["", "raise SystemExit(3)", "os.kill(os.getpid(), 9)"])
def test_the_row_is_given_back_however_the_script_ends(end: str, tmp_path: Path) -> None:
    terminal = _Terminal("run", _training(tmp_path, last=end), cwd=tmp_path)
    terminal.watch(lambda: "speedprof: step" in terminal.foot)
    terminal.close()
    assert terminal.screen.margins in (None, (0, ROWS - 1))
    assert not any("speedprof: step" in line for line in terminal.lines)


def test_the_line_follows_a_terminal_that_changes_its_size(tmp_path: Path) -> None:
    name = _training(tmp_path, steps=200, each="print(step, flush=True)")
    terminal = _Terminal("run", name, cwd=tmp_path)
    terminal.watch(lambda: "speedprof: step" in terminal.foot)
    terminal.resize(12, 60)
    terminal.watch(lambda: "speedprof: step" in terminal.foot)
    assert len(terminal.lines) == 12
    assert terminal.close() == 0
    assert terminal.screen.margins in (None, (0, 11))


def test_a_script_that_draws_itself_has_the_terminal_for_itself(tmp_path: Path) -> None:
    each = "step or writer.fact('draws', {'modules': ['tqdm']})"
    terminal = _Terminal("run", _training(tmp_path, each=each), cwd=tmp_path)
    terminal.close()
    assert b"speedprof: step" not in terminal.raw
    assert b"\x1b[1;" not in terminal.raw


def test_a_quiet_run_draws_nothing(tmp_path: Path) -> None:
    terminal = _Terminal("run", "--quiet", _training(tmp_path), cwd=tmp_path)
    terminal.close()
    assert b"speedprof: step" not in terminal.raw


def test_the_sentence_holds_what_is_worth_saying() -> None:
    so_far = progress.Progress(
        steps=1234, step_ms=1500.0, shares={"input_wait": 0.04, "optimizer": 0.2, "copy": 0.06}
    )
    assert live.sentence(so_far) == (
        "speedprof: step 1,234 · 1.5 s a step · optimizer 20% · copying to the device 6%"
    )


def _rows(number: int, **values: int) -> array[int]:
    row = [values.get(name, 0) for name in record.STEP_COLUMNS]
    return array("q", row * number)


def test_a_record_is_followed_as_it_grows_and_through_damage(tmp_path: Path) -> None:
    path = tmp_path / "rank-h-1.rec"
    follower = progress.Follower(path)
    assert follower.look().steps == 0
    whole = record.frame(record.STEPS, _rows(3, count=1, wall=10).tobytes())
    path.write_bytes(whole + b"garbage" + whole[:-5])
    assert follower.look().steps == 3
    with path.open("ab") as file:
        file.write(whole[-5:])
    assert follower.look().steps == 6


def test_traced_steps_are_counted_but_not_timed(tmp_path: Path) -> None:
    writer = record.Writer(str(tmp_path / "rank-h-1.rec"))
    writer.rows(_rows(4, count=1, wall=10_000_000, backward=5_000_000))
    writer.rows(_rows(4, count=1, wall=90_000_000, flags=record.TRACED))
    writer.fact("end", {"steps": 8, "stopped": True})
    writer.close()
    followers = progress.Followers(tmp_path)
    seen = followers.look()
    assert seen is not None
    assert (seen.steps, seen.step_ms, seen.shares["backward"]) == (8, 10.0, 0.5)
    assert seen.ended
    assert followers.stopped()


def test_before_the_first_record_nothing_is_known(tmp_path: Path) -> None:
    assert progress.Followers(tmp_path).look() is None
    assert progress.Followers(tmp_path / "gone").look() is None
