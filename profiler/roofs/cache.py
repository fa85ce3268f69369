"""Roofs on disk: one file for each machine, in the user's cache folder.

A file that is damaged, of another machine or of another format is told apart and never used. The
place follows the XDG base directory specification: XDG_CACHE_HOME, else ~/.cache.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

import msgspec

from speedprof.profiler import run_folder
from speedprof.profiler.roofs.roofs import FORMAT, Roofs

FILE = "roofs.json"  # in a run's folder


def folder() -> Path:
    """Return the cache folder; raises OSError where the user has no home."""
    named = os.environ.get("XDG_CACHE_HOME", "")
    home = named if os.path.isabs(named) else os.path.expanduser("~/.cache")
    if not os.path.isabs(home):
        raise FileNotFoundError(errno.ENOENT, "no home folder; set XDG_CACHE_HOME")
    return Path(home) / "speedprof" / "roofs"


def path(machine: str) -> Path:
    return folder() / f"{machine}.json"


def read(machine: str) -> tuple[Roofs | None, str | None]:
    """Return what is known of a machine, and why its file cannot be used."""
    try:
        place = path(machine)
    except FileNotFoundError:
        return None, None
    roofs, why = load(place)
    if roofs is not None and roofs.machine != machine:
        return None, f"the roofs in {place} are of another machine ({roofs.node}, {roofs.cpu})"
    return roofs, why


def load(place: Path) -> tuple[Roofs | None, str | None]:
    """Return the roofs in a file, and why there are none; a missing file needs no reason."""
    try:
        text = place.read_bytes()
    except FileNotFoundError:
        return None, None
    except OSError as error:
        return None, f"the roofs in {place} cannot be read ({error.strerror})"
    try:
        roofs = msgspec.json.decode(text, type=Roofs)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None, f"the roofs in {place} are damaged"
    if roofs.format != FORMAT:
        return None, f"the roofs in {place} were written by another version of speedprof"
    return roofs, None


def encoded(roofs: Roofs) -> str:
    return msgspec.json.format(msgspec.json.encode(roofs), indent=1).decode() + "\n"


def write(roofs: Roofs) -> Path:
    """Keep a machine's roofs, whole or not at all; raises OSError."""
    place = path(roofs.machine)
    place.parent.mkdir(parents=True, exist_ok=True)
    run_folder.write(place, encoded(roofs))
    return place


def hand_to(run: Path) -> None:
    """Copy this machine's roofs into a run's folder, if there are any; raises OSError."""
    if not folder().is_dir():
        return
    from speedprof.profiler.roofs.machine import this_machine

    roofs, _ = read(this_machine().id)
    if roofs is not None:
        run_folder.write(run / FILE, encoded(roofs))
