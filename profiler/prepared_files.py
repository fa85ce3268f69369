"""What a script prepares before its first step, kept from one trial for those after it.

Scripts draw, unpack or tokenise their data where there is none yet. What a trial writes is deleted
after it, so each trial would do that again. What was written before the first step, and not
touched since, is laid before the next trial instead: it begins as a second start of the script
would. Logs and checkpoints, which are written later, never are.
"""

from __future__ import annotations

import os
import shutil
import stat
import time
from dataclasses import dataclass
from pathlib import Path

from speedprof.profiler import reading
from speedprof.profiler.record import COLUMN
from speedprof.profiler.trials.overlay import FILES

FOLDER = "prepared"  # beside the trials, while they go on
MOST_BYTES = 1 << 30  # copied before every trial; more takes as long as what it saves


@dataclass(kw_only=True)
class Prepared:
    """The files of one script, in a folder of our own that is made where it is needed."""

    folder: Path
    decided: bool = False  # whether there is something to keep was looked at

    @property
    def there(self) -> bool:
        """Whether trials find anything prepared."""
        return self.folder.exists()

    def lay(self, scratch: Path) -> None:
        """Lay what was prepared into a new trial's scratch folder, where there is room for it."""
        if self.there:
            try:
                shutil.copytree(self.folder, scratch / FILES)
            except OSError:
                self.forget()
                shutil.rmtree(scratch / FILES, ignore_errors=True)

    def keep(self, scratch: Path, trial: Path) -> None:
        """Keep what the first trial of all prepared; its scratch folder is used up.

        Nothing is kept where it is too large, or holds links, or cannot be moved.
        """
        if self.decided:
            return
        self.decided = True
        first_ns = first_step_ns(trial)
        files = scratch / FILES
        if first_ns is None or not files.is_dir():
            return
        try:
            kept = _written_before(files, first_ns)
            if kept is not None and 0 < sum(size for _, size in kept) <= MOST_BYTES:
                for path, _ in kept:
                    place = self.folder / path.relative_to(files)
                    place.parent.mkdir(parents=True, exist_ok=True)
                    path.rename(place)
        except OSError:
            self.forget()

    def forget(self) -> None:
        """Let each trial prepare for itself."""
        shutil.rmtree(self.folder, ignore_errors=True)


def first_step_ns(trial: Path) -> int | None:
    """Return when a run's first step began, in ns since 1970; None where there was none.

    The run was made on this machine since it was started: steps are timed by its monotonic clock.
    """
    records = [reading.read_record(path) for path in trial.glob("rank-*.rec")]
    starts = [int(one.rows[0, COLUMN["start"]]) for one in records if len(one.rows)]
    return min(starts) + time.time_ns() - time.monotonic_ns() if starts else None


def _written_before(folder: Path, moment_ns: int) -> list[tuple[Path, int]] | None:
    """Return files that were last changed before a moment with their bytes; None: there are links.

    By the time of the last change of any kind, which unpacking an archive does not set back.
    """
    found = []
    for parent, folders, names in os.walk(folder):
        for name in (*folders, *names):
            path = Path(parent) / name
            told = path.lstat()
            if stat.S_ISLNK(told.st_mode):
                return None
            if stat.S_ISREG(told.st_mode) and told.st_ctime_ns < moment_ns:
                found.append((path, told.st_size))
    return found
