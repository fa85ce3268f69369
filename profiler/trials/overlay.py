"""A folder in front of the user's files: what a trial writes goes there, and is read there.

Every process of a trial shares the folder, so that what one rank saves another finds. The user's
own files are read where they are, and never written, moved or deleted. Functions of `posix` are
called directly: those of `os` are the ones that lead here.
"""

from __future__ import annotations

import contextlib
import errno
import os
import posix
import shutil
import stat
from collections.abc import Iterator
from typing import Any

FILES = "files"  # in the scratch folder: the user's paths, from the root on
LARGEST_COPY = 64 << 20  # bytes; a larger file that is opened for changes is a data set, not a log
BLOCK = 1 << 20


class Overlay:
    """The scratch folder of one trial, seen from one of its processes."""

    def __init__(self, scratch: str, free: tuple[str, ...]) -> None:
        """`free`: folders in which the script may write as it always does."""
        self._files = os.path.join(os.path.abspath(scratch), FILES)
        self._free = tuple(
            folder.rstrip("/") + "/" for folder in (*free, os.path.abspath(scratch)) if folder
        )
        self._gone: set[str] = set()  # of the user's, deleted as far as this process can tell

    # -- names

    def protects(self, path: Any) -> str | None:
        """Return the absolute path of a file that is not to be touched; None for any other."""
        if isinstance(path, int):
            return None
        try:
            full = os.path.abspath(os.fsdecode(path))
        except (TypeError, ValueError, FileNotFoundError):
            return None  # no path at all, or no working directory: as the original says
        return None if f"{full}/".startswith(self._free) else full

    def place(self, full: str) -> str:
        """Return where a protected path lies in the scratch folder."""
        return self._files + full

    def gone(self, full: str) -> bool:
        """Whether the script has deleted it, or a folder above it."""
        return bool(self._gone) and any(
            full == one or full.startswith(f"{one}/") for one in self._gone
        )

    def exists(self, full: str) -> bool:
        """Whether the script would find something there."""
        return _mode(self.place(full)) is not None or (
            _mode(full) is not None and not self.gone(full)
        )

    # -- looking

    def reading(self, path: Any) -> Any:
        """Return where to read a path: in the scratch folder if the trial wrote it."""
        full = self.protects(path)
        if full is None:
            return path
        place = self.place(full)
        if _mode(place) is not None:
            return place
        if self.gone(full):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        return path

    def names(self, full: str) -> tuple[bool, list[str]]:
        """Return whether the user's folder is to be listed, and the names in the trial's."""
        place = self.place(full)
        ours = posix.listdir(place) if _is_folder(place) else []
        return not self.gone(full) and (_is_folder(full) or not _is_folder(place)), ours

    # -- changing

    def writing(self, path: Any, *, keep: bool = False) -> Any:
        """Return where to write a path instead; `keep`: what is there stays and is added to.

        A path that cannot be written by anybody comes back as it is, and fails as it would.
        """
        full = self.protects(path)
        if full is None or not self.exists(os.path.dirname(full)):
            return path
        mode = None if self.gone(full) else _mode(full)
        if mode is not None and not stat.S_ISREG(mode) and not stat.S_ISLNK(mode):
            return path  # a folder, a device, a pipe: nothing is overwritten
        place = self.place(full)
        self._make_parent(place)
        if keep and mode is not None and _mode(place) is None:
            _copy(full, place)
        return place

    def too_large(self, path: Any) -> bool:
        """Whether a file is too large to be copied before it is changed."""
        full = self.protects(path)
        if full is None or _mode(self.place(full)) is not None:
            return False
        try:
            return posix.stat(full).st_size > LARGEST_COPY
        except OSError:
            return False

    def make_folder(self, full: str, path: Any) -> None:
        """Stand in for mkdir."""
        if self.exists(full):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path)
        if not self.exists(os.path.dirname(full)):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        self._make_parent(self.place(full))
        posix.mkdir(self.place(full))

    def remove(self, full: str, path: Any) -> None:
        """Stand in for the deletion of a file, a folder, or all that is in it."""
        if not self.exists(full):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        self._delete(self.place(full))
        if _mode(full) is not None:
            self._gone.add(full)

    def move(self, source: Any, target: Any) -> tuple[Any, Any] | None:
        """Return what to rename to what instead; None where there is nothing to do.

        The user's own file is copied; a folder of the user's stays where it is.
        """
        full = self.protects(source)
        to = self.writing(target)
        if full is None:
            return source, to
        if not self.exists(full):
            return source, target  # fails as it would
        place = self.place(full)
        if _mode(place) is None:
            self._gone.add(full)
            if _is_folder(full):
                return None
            self._make_parent(place)
            _copy(full, place)
        elif _mode(full) is not None:
            self._gone.add(full)
        if isinstance(to, str) and _is_folder(place) and _is_folder(to):
            self._delete(to)
        return place, to

    def _delete(self, place: str) -> None:
        mode = _mode(place)
        if mode is None:
            return
        if not stat.S_ISDIR(mode):
            posix.unlink(place)
            return
        for name in posix.listdir(place):
            self._delete(f"{place}/{name}")
        posix.rmdir(place)

    def _make_parent(self, place: str) -> None:
        missing = []
        folder = os.path.dirname(place)
        while _mode(folder) is None:
            missing.append(folder)
            folder = os.path.dirname(folder)
        for folder in reversed(missing):
            with contextlib.suppress(FileExistsError):  # another rank was faster
                posix.mkdir(folder)


class Listing:
    """What `os.scandir` returns: the entries of both folders, each name once."""

    def __init__(self, *parts: Any) -> None:
        self._parts = parts
        self._entries = self._each()

    def _each(self) -> Iterator[Any]:
        seen = set()
        for part in self._parts:
            for entry in part:
                if entry.name not in seen:
                    seen.add(entry.name)
                    yield entry

    def __iter__(self) -> Listing:
        return self

    def __next__(self) -> Any:
        return next(self._entries)

    def __enter__(self) -> Listing:  # noqa: PYI034 - typing.Self is newer than Python 3.10
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def close(self) -> None:
        for part in self._parts:
            part.close()


def _mode(path: str) -> int | None:
    try:
        return posix.lstat(path).st_mode
    except OSError:
        return None


def _is_folder(path: str) -> bool:
    try:
        return stat.S_ISDIR(posix.stat(path).st_mode)
    except OSError:
        return False


def _copy(source: str, target: str) -> None:
    """Copy a file, past all patches; a large one is left out: it is only added to."""
    reader = posix.open(source, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if posix.fstat(reader).st_size > LARGEST_COPY:
            return
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        writer = posix.open(target, flags, 0o644)
        try:
            while block := posix.read(reader, BLOCK):
                posix.write(writer, block)
        finally:
            posix.close(writer)
    finally:
        posix.close(reader)
    shutil.copymode(source, target)
