"""Which files of a run its remedies are written into."""

from __future__ import annotations

import hashlib
import os
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from speedprof.mitigations.rewrite import sources
from speedprof.mitigations.rewrite.sources import Source
from speedprof.profiler import reading, run_folder, script_file
from speedprof.profiler.errors import SpeedprofError
from speedprof.profiler.run import Run

NOTEBOOKS = (".ipynb", "ipykernel", "<ipython")
LIBRARIES = ("site-packages", "dist-packages", "/lib/python3")
MOST_FILES = 4  # a training is seldom spread over more


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A file to write into; the first of a run is its script, or holds its loop."""

    source: Source
    loader_line: int | None = None  # of the training loader, where it is built in this file


@dataclass(frozen=True, slots=True, kw_only=True)
class Targets:
    """The files of one run."""

    files: tuple[Target, ...]
    note: str | None = None  # which file was taken, where the run names none
    library: str | None = None  # where the training loader is built, if that is none of them


def targets(run: Run) -> Targets:
    """Return the files to write into.

    Raises SpeedprofError where there is none, or it is not what ran.
    """
    if run.kind == "trace":
        raise SpeedprofError("a recorded trace names no script; apply to a run of `speedprof run`")
    _refuse_notebook(run)
    script = script_file.path_of(run.command, run.cwd)
    paths = _paths(run, script)
    if not paths:
        raise SpeedprofError(
            f"which file trains was not seen in the run of `{_command(run)}`; run the script "
            "itself, as in `speedprof run train.py`"
        )
    built, line = _built(run)
    files = []
    for path in paths:
        source = sources.read(path)
        _refuse_changed(source, run)
        files.append(Target(source=source, loader_line=line if path == built else None))
    note = None
    if script is None:
        note = f"the run was `{_command(run)}`; its training loop is in {sources.shown(paths[0])}"
    library = (
        f"{sources.shown(built)}:{line}" if built is not None and built not in paths else None
    )
    return Targets(files=tuple(files), note=note, library=library)


def _paths(run: Run, script: Path | None) -> list[Path]:
    found = [script] if script is not None else []
    lines = (_place(run, one.where)[0] for one in run.lines if one.kind not in ("batches",))
    others = [*lines, _built(run)[0]] if script is None else [_built(run)[0], *lines]
    for path in others:
        if path is not None and path not in found and _is_users(path):
            found.append(path)
    return found[:MOST_FILES]


def _built(run: Run) -> tuple[Path | None, int | None]:
    """Return the file and line in which the training loader was built."""
    loader = run.training_loader()
    return _place(run, loader.where) if loader is not None and loader.where else (None, None)


def _place(run: Run, where: str) -> tuple[Path | None, int | None]:
    """Return the path and the line of "train.py:41"."""
    name, _, line = where.rpartition(":")
    if not name or not line.isdigit():
        return None, None
    script = script_file.path_of(run.command, run.cwd)
    for folder in (run.cwd, str(script.parent) if script is not None else ""):
        path = Path(os.path.normpath(os.path.join(folder, name)))
        if path.is_file():
            return path, int(line)
    return Path(os.path.normpath(os.path.join(run.cwd, name))), int(line)


def _is_users(path: Path) -> bool:
    text = str(path)
    return path.suffix in script_file.SOURCES and not any(part in text for part in LIBRARIES)


def _refuse_notebook(run: Run) -> None:
    loader = run.training_loader()
    places = [*run.command, *(one.where for one in run.lines), loader and loader.where]
    if any(word in (place or "") for place in places for word in NOTEBOOKS):
        raise SpeedprofError(
            "the training ran in a notebook, whose cells are not rewritten; `speedprof report` "
            "shows the lines to write"
        )


def _refuse_changed(source: Source, run: Run) -> None:
    """Refuse a file that is not what ran: lines and advice are about what it was."""
    recorded = recorded_script(run)
    if recorded is not None and recorded[0] == str(source.path):
        changed = hashlib.sha256(source.content).hexdigest() != recorded[1]
    else:
        changed = source.path.stat().st_mtime > run.started_at
    if changed:
        raise SpeedprofError(
            f"{sources.shown(source.path)} changed since this run; run it again, then apply to "
            "the new run"
        )


def recorded_script(run: Run) -> tuple[str, str] | None:
    """Return the path and the sha256 of the script, as the run's folder tells them."""
    start = reading.json_object(Path(run.folder) / run_folder.START) or {}
    script = start.get("script")
    texts = list(_texts(script))
    return (texts[0], texts[1]) if len(texts) == 2 else None


def _texts(script: object) -> Iterator[str]:
    for name in ("path", "sha256"):
        value = script.get(name) if isinstance(script, dict) else None
        if isinstance(value, str):
            yield value


def _command(run: Run) -> str:
    return shlex.join([os.path.basename(run.command[0]), *run.command[1:]]) if run.command else ""
