"""Source files as they lie on disk: read in their own encoding, written beside a backup."""

from __future__ import annotations

import contextlib
import io
import os
import tempfile
import tokenize
from dataclasses import dataclass
from pathlib import Path

from speedprof.profiler.errors import SpeedprofError

WRITABLE = 0o222
BACKUP = ".orig"
MOST_BACKUPS = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A file's text, with its line ends, and what it takes to write it back."""

    path: Path  # as the user names it
    content: bytes
    text: str
    encoding: str  # "utf-8-sig": with a byte order mark

    def encoded(self, text: str) -> bytes:
        return text.encode(self.encoding)


def shown(path: Path) -> str:
    """Return a path as short as it can be from here."""
    try:
        return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)
    except OSError:  # the working directory is gone
        return str(path)


def read(path: Path) -> Source:
    """Return a source file; raises SpeedprofError where it is none that can be read."""
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise SpeedprofError(
            f"{shown(path)} is not there any more; apply where the run was made, or run it again"
        ) from error
    except OSError as error:
        raise SpeedprofError(
            f"cannot read {shown(path)}: {error.strerror}; check its rights"
        ) from error
    encoding = _encoding(path, content)
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise SpeedprofError(
            f"{shown(path)} is not {encoding} (byte {content[error.start]:#04x} in line {line}); "
            "save it as UTF-8, or name its encoding in the first line, as in `# coding: latin-1`"
        ) from error
    return Source(path=path, content=content, text=text, encoding=encoding)


def write(source: Source, text: str) -> Path:
    """Replace the file by a new text, all at once, and return the backup that was made before.

    Raises SpeedprofError, with nothing changed, where that cannot be.
    """
    real = Path(os.path.realpath(source.path))
    refuse_read_only(source.path)
    backup: Path | None = None
    try:
        if real.read_bytes() != source.content:
            raise SpeedprofError(f"{shown(source.path)} changed in this moment; try again")
        backup = _backup(real, source)
        _replace(real, source.encoded(text))
    except OSError as error:
        if backup is not None:
            with contextlib.suppress(OSError):
                backup.unlink()
        raise SpeedprofError(
            f"cannot write {shown(source.path)}: {error.strerror}; nothing was changed"
        ) from error
    return backup


def refuse_read_only(path: Path) -> None:
    """Raise SpeedprofError where a file is not to be written."""
    if not path.stat().st_mode & WRITABLE or not os.access(path, os.W_OK):
        raise SpeedprofError(
            f"{shown(path)} is read-only; allow writing to it, or keep the diff without --write"
        )


def _encoding(path: Path, content: bytes) -> str:
    """Return the encoding that Python reads a file with (PEP 263)."""
    try:
        return tokenize.detect_encoding(io.BytesIO(content).readline)[0]
    except SyntaxError as error:
        if "unknown encoding" in str(error):
            raise SpeedprofError(
                f"{shown(path)} names an encoding that Python does not know"
            ) from error
        return "utf-8"  # decoding says where it is not


def _backup(real: Path, source: Source) -> Path:
    """Copy the file beside itself, under a name that is free."""
    for number in range(MOST_BACKUPS):
        ending = BACKUP if number == 0 else f"{BACKUP}.{number}"
        backup = real.with_name(real.name + ending)
        try:
            descriptor = os.open(backup, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        except FileExistsError:
            continue
        with os.fdopen(descriptor, "wb") as file:
            file.write(source.content)
        backup.chmod(real.stat().st_mode & 0o7777)
        return backup
    raise SpeedprofError(
        f"{shown(source.path)} has {MOST_BACKUPS} backups; remove some of {real.name}*"
    )


def _replace(real: Path, content: bytes) -> None:
    state = real.stat()
    descriptor, name = tempfile.mkstemp(dir=real.parent, prefix=f".{real.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, state.st_mode & 0o7777)
        with contextlib.suppress(PermissionError):
            os.chown(name, state.st_uid, state.st_gid)
        os.replace(name, real)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(name)
        raise
