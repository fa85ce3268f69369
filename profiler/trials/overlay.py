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

    @property
    def deleting(self) -> bool:
        """Whether the script has deleted anything of the user's."""
        return bool(self._gone)

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
            target = self._target(full)
            return place if target is None else self.reading(target)
        if self.gone(full):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        return path

    def listed(self, full: str) -> tuple[str, ...]:
        """Return the folders that make up one, the user's first; one at least.

        Where there is none, listing what is returned fails as the script expects.
        """
        place = self.place(full)
        mode = _mode(place)
        users = not self.gone(full) and _is_folder(full)
        if mode is None:
            return (place,) if self.gone(full) else (full,)
        return (full, place) if users and stat.S_ISDIR(mode) else (place,)

    def remaining(self, full: str) -> list[str]:
        """Return the names in a folder, without those that the script has deleted."""
        users, *ours = self.listed(full)
        kept = [name for name in posix.listdir(users) if self.exists(f"{full}/{name}")]
        return [*kept, *(name for one in ours for name in posix.listdir(one) if name not in kept)]

    def _target(self, full: str) -> str | None:
        """Return what a link that the trial made leads to, in the script's own terms."""
        place = self.place(full)
        mode = _mode(place)
        if mode is None or not stat.S_ISLNK(mode):
            return None
        target = posix.readlink(place).removeprefix(self._files)
        return os.path.normpath(os.path.join(os.path.dirname(full), target))

    # -- changing

    def linking(self, target: Any, path: Any) -> tuple[Any, Any]:
        """Return the arguments of symlink: a link to the user's is one to its place here."""
        full = self.protects(path)
        if full is None:
            return target, path
        text = os.fsdecode(target)
        to = self.protects(text) if os.path.isabs(text) else None
        if self.exists(full):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path)
        whole = os.path.normpath(os.path.join(os.path.dirname(full), text))
        if self.protects(whole) is not None and self.is_folder(whole):
            self._make_parent(f"{self.place(whole)}/")  # what is written through the link
        return text if to is None else self.place(to), self.writing(path)

    def copying(self, source: Any, path: Any) -> None:
        """Stand in for a hard link, through which the user's file could be changed."""
        full = self.protects(path)
        if full is not None and self.exists(full):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path)
        _copy(os.fspath(self.reading(source)), self.writing(path))

    def writing(self, path: Any, *, keep: bool = False) -> Any:
        """Return where to write a path instead; `keep`: what is there stays and is added to.

        What is returned for a protected path is never the user's file. Where the folder is
        missing, it is missing in the scratch folder, too.
        """
        full = self.protects(path)
        if full is None:
            return path
        target = self._target(full)
        if target is not None:
            return self.writing(target, keep=keep)
        if not self.is_folder(os.path.dirname(full)):
            return self.place(full)
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
        if full is None or _mode(self.place(full)) is not None or self.gone(full):
            return False
        try:
            return posix.stat(full).st_size > LARGEST_COPY
        except OSError:
            return False

    def make_folder(self, full: str, path: Any) -> None:
        """Stand in for mkdir."""
        if self.exists(full):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path)
        if not self.is_folder(os.path.dirname(full)):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        self._make_parent(self.place(full))
        posix.mkdir(self.place(full))

    def remove_file(self, full: str, path: Any) -> None:
        """Stand in for unlink."""
        if self.is_folder(full):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
        self.remove_all(full, path)

    def remove_folder(self, full: str, path: Any) -> None:
        """Stand in for rmdir."""
        if self.exists(full) and not self.is_folder(full):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
        if self.exists(full) and self.remaining(full):
            raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY), path)
        self.remove_all(full, path)

    def is_folder(self, full: str) -> bool:
        """Whether the script would find a folder there."""
        place = self.place(full)
        if _mode(place) is not None:
            return _is_folder(place)
        return not self.gone(full) and _is_folder(full)

    def remove_all(self, full: str, path: Any) -> None:
        """Stand in for the deletion of a file, or of a folder with all that is in it."""
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
            return self.place(full), to  # not there, as the script expects
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
