"""One line at the foot of the terminal while the training runs.

The terminal's last row is taken out of the scrolled region (DECSTBM, as apt does), so that
whatever the script prints scrolls above it. Every drawing is one write that saves and restores the
cursor. The row is given back at the end, when the job is stopped or put into the background, and
for good as soon as the script is seen to draw by itself.
"""

from __future__ import annotations

import os
import threading

from speedprof.profiler.progress import SHOWN, Followers, Progress

TERMINAL = 2  # stderr
PAUSE_S = 0.5
FEWEST_ROWS, FEWEST_COLUMNS = 8, 40
WORTH_SAYING = 0.05  # of the step
SAVE, RESTORE = "\x1b7", "\x1b8"
DIM, PLAIN, WIPE = "\x1b[2m", "\x1b[0m", "\x1b[2K"


def can_draw() -> bool:
    """Return whether stderr is a terminal that knows scrolling regions."""
    dumb = os.environ.get("TERM", "dumb") in ("dumb", "unknown", "")
    return not dumb and os.isatty(TERMINAL)


class Line:
    """The row, while it is ours. Any thread may call; every method is safe to call twice."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._size: os.terminal_size | None = None  # of the terminal while the row is ours

    def show(self, text: str) -> None:
        """Draw text in the last row, which is taken first; only in the foreground."""
        with self._lock:
            size = _size()
            if size is None:
                return
            if size != self._size:
                self._take(size)
            shown = text[: size.columns - 1]
            _write(f"{SAVE}\x1b[{size.lines};1H{WIPE}{DIM}{shown}{PLAIN}{RESTORE}")

    def give_back(self) -> None:
        """Wipe the row and let the whole terminal scroll again."""
        with self._lock:
            if self._size is None:
                return
            self._size = None
            if not _in_foreground():
                return  # the shell has the terminal and has put it right
            size = _size()
            wipe = f"\x1b[{size.lines};1H{WIPE}" if size else ""
            _write(f"{SAVE}\x1b[r{wipe}{RESTORE}")

    def _take(self, size: os.terminal_size) -> None:
        """Make room: an index (ESC D) scrolls a cursor in the last row and keeps its column."""
        last = size.lines - 1
        leave = ""
        if self._size is not None and self._size.lines != size.lines:
            leave = f"{SAVE}\x1b[r\x1b[{min(self._size.lines, size.lines)};1H{WIPE}{RESTORE}"
        self._size = size
        _write(f"{leave}\x1bD{SAVE}\x1b[1;{last}r{RESTORE}\x1b[1A")


class Live:
    """Looks at the records twice a second and says how far they are, in a thread."""

    def __init__(self, followers: Followers, *, line: Line | None = None) -> None:
        self._followers = followers
        self._line = line or Line()
        self._stopping = threading.Event()
        self._paused = False
        self._thread = threading.Thread(target=self._run, name="speedprof-live", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Give the row back; draw no more."""
        self._stopping.set()
        self._thread.join()
        self._line.give_back()

    def pause(self) -> None:
        """Give the row back until `resume`: the job is about to be stopped."""
        self._paused = True
        self._line.give_back()

    def resume(self) -> None:
        self._paused = False

    def _run(self) -> None:
        while not self._stopping.wait(PAUSE_S):
            progress = self._followers.look()
            if progress is None or self._paused:
                continue
            if progress.draws or progress.ended:
                self._line.give_back()
                if progress.draws:
                    return
                continue
            if progress.step_ms is not None:
                self._line.show(sentence(progress))


def sentence(progress: Progress) -> str:
    """Say in one line how far the training is and where its time goes so far."""
    parts = [f"step {progress.steps:,}"]
    if progress.step_ms is not None:
        parts.append(f"{progress.step_ms:,.3g} ms a step" if progress.step_ms < 1000 else
                     f"{progress.step_ms / 1000:,.3g} s a step")  # fmt: skip
    largest = sorted(progress.shares.items(), key=lambda item: -item[1])[:3]
    parts += [f"{SHOWN[name]} {share:.0%}" for name, share in largest if share >= WORTH_SAYING]
    return "speedprof: " + " · ".join(parts)


def _size() -> os.terminal_size | None:
    """Return the terminal's size, None where it is too small or not ours to draw on now."""
    if not _in_foreground():
        return None
    try:
        size = os.get_terminal_size(TERMINAL)
    except OSError:
        return None
    return size if size.lines >= FEWEST_ROWS and size.columns >= FEWEST_COLUMNS else None


def _in_foreground() -> bool:
    try:
        return os.tcgetpgrp(TERMINAL) == os.getpgrp()
    except OSError:
        return False


def _write(text: str) -> None:
    try:
        os.write(TERMINAL, text.encode())
    except OSError:
        return  # the terminal is gone; the training's own writes will tell
