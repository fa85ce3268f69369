"""Start the user's script once more, as a trial: apart from the terminal, with a time limit."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from speedprof import __version__
from speedprof.profiler import child, launcher, run_folder, script_file
from speedprof.profiler.errors import SpeedprofError
from speedprof.profiler.prepared_files import Prepared
from speedprof.profiler.progress import Followers
from speedprof.profiler.sampler import Sampler
from speedprof.profiler.trials import protection

OUTPUT = "output.txt"  # what the script said, in the trial's folder
SCRATCH = "scratch"
LOOK_EVERY_S = 0.1
GRACE_S = 10.0  # after SIGTERM, for launchers such as torchrun to end their workers
TAIL = 4096  # bytes of output that a reason is looked for in


@dataclass(frozen=True, kw_only=True)
class Ended:
    """A trial that is over."""

    folder: Path
    exit_status: int
    wall_s: float
    problem: str | None  # why the script did not end well, one sentence


def run(
    order: launcher.Order,
    folder: Path,
    *,
    limit_s: float,
    tell: Callable[[int], None],
    prepared: Prepared | None = None,
) -> Ended:
    """Run one trial to its end, or its limit; `tell` hears how many steps it has made.

    What earlier trials `prepared` it finds; the first one's is kept where it ends well.
    `folder` is the trial's own, and new. Raises SpeedprofError where the script cannot be started,
    OSError where the folder cannot be written, KeyboardInterrupt after the trial was ended.
    """
    started_at = time.time()
    folder.mkdir()
    run_folder.write_start(
        folder,
        [launcher.readable(part) for part in order.target.command],
        name=order.name or order.target.name,
        started_at=started_at,
        options=launcher.options(order),
        version=__version__,
        script=script_file.fact(order.target.command, run_folder.working_directory()),
    )
    temporary = tempfile.mkdtemp(prefix="speedprof-")
    scratch = folder / SCRATCH
    scratch.mkdir()
    try:
        if prepared is not None:
            prepared.lay(scratch)
        environment = launcher.environment(order, folder)
        environment |= protection.variables(str(scratch), temporary, environment)
        process = _start(order, folder, environment)
        problem = _follow(process, folder, limit_s, tell)
        problem = problem or _failure(folder, process.returncode)
        if prepared is not None and problem is None:
            prepared.keep(scratch, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(scratch, ignore_errors=True)
    return Ended(
        folder=folder,
        exit_status=process.returncode,
        wall_s=time.time() - started_at,
        problem=problem,
    )


def _follow(
    process: subprocess.Popen[bytes], folder: Path, limit_s: float, tell: Callable[[int], None]
) -> str | None:
    """Wait for the trial's end; return why it was ended sooner, None where it was not."""
    followers = Followers(folder)
    sampler = Sampler(folder, process.pid, started_at=time.time())
    sampler.start()
    begin = time.monotonic()
    problem = None
    try:
        while process.poll() is None:
            time.sleep(LOOK_EVERY_S)
            seen = followers.look()
            tell(seen.steps if seen is not None else 0)
            if time.monotonic() - begin > limit_s:
                problem = f"it was ended at its limit of {limit_s:.0f} s"
                _end(process)
    finally:
        _end(process)
        sampler.stop()
        _write_end(folder, process.returncode, time.monotonic() - begin, problem)
    return problem


def _start(
    order: launcher.Order, folder: Path, environment: dict[str, str]
) -> subprocess.Popen[bytes]:
    with (folder / OUTPUT).open("wb") as output:
        try:
            return subprocess.Popen(
                order.target.command,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is ours: the trial is ended, not asked
                preexec_fn=child.birth(os.getpid(), set()),  # noqa: PLW1509 - a prctl alone
            )
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            why = error.strerror if isinstance(error, OSError) else str(error)
            raise SpeedprofError(
                f"cannot start {order.target.command[0]}: {why}; check that it runs by itself"
            ) from error


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a trial with all that came of it, if it still runs."""
    if process.poll() is not None:
        return
    import psutil

    try:
        tree = psutil.Process(process.pid).children(recursive=True)
    except psutil.Error:
        tree = []
    process.terminate()
    try:
        process.wait(GRACE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for left in tree:
        with contextlib.suppress(psutil.Error):  # gone by itself
            left.kill()


def _write_end(folder: Path, status: int, wall_s: float, problem: str | None) -> None:
    run_folder.write(
        folder / run_folder.END,
        {
            "exit_status": status,
            "wall_s": round(wall_s, 3),
            "stopped_by_us": status == 0 or problem is not None,
            "notes": [] if problem is None else [problem],
        },
    )


def _failure(folder: Path, status: int) -> str | None:
    """Say how the script failed, with the last line that it wrote."""
    if status == 0:
        return None
    how = f"exit status {status}" if status > 0 else f"signal {signal.Signals(-status).name}"
    last = last_line(folder / OUTPUT)
    return f"the script failed ({how}){f': {last}' if last else ''}; see {OUTPUT} in {folder.name}"


def last_line(path: Path) -> str:
    """Return the last line of a file that is not empty; "" where there is none."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - TAIL))
            lines = file.read().decode("utf-8", "replace").split("\n")
    except OSError:
        return ""
    return next((line.strip()[:200] for line in reversed(lines) if line.strip()), "")
