"""Python's own ways to write, move and delete files, led through an overlay."""

from __future__ import annotations

import errno
import functools
import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from speedprof.profiler.patches import Patches
    from speedprof.profiler.trials.overlay import Overlay

REASON = "a trial's files go to its scratch folder"
CHANGES = ("w", "a", "x", "+")  # letters of open's mode
KEPT_BY_PATHLIB = (
    "open", "stat", "chmod", "mkdir", "unlink", "rmdir", "rename", "replace", "link", "symlink",
    "readlink", "listdir", "scandir",
)  # fmt: skip
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


def lead(overlay: Overlay, patches: Patches) -> None:
    """Make these changes; `patches` undoes them."""
    import builtins
    import io
    import shutil

    opened = _opening(overlay, builtins.open)
    for owner in (builtins, io):
        patches.replace(owner, "open", opened, reason=REASON)
    patches.replace(os, "open", _low_opening(overlay, os.open), reason=REASON)
    for name in ("stat", "lstat", "access", "readlink"):
        lead_argument(patches, os, name, 0, overlay.reading)
    for name in ("chmod", "utime", "truncate", "chown"):
        patches.replace(os, name, _touching(overlay, getattr(os, name)), reason=REASON)
    for name, instead in (
        ("remove", overlay.remove_file),
        ("unlink", overlay.remove_file),
        ("rmdir", overlay.remove_folder),
    ):
        led = _removing(overlay, getattr(os, name), instead)
        patches.replace(os, name, led, reason=REASON)
    patches.replace(shutil, "rmtree", _removing_all(overlay, shutil.rmtree), reason=REASON)
    patches.replace(os, "mkdir", _making(overlay, os.mkdir), reason=REASON)
    for name in ("rename", "replace"):
        patches.replace(os, name, _moving(overlay, getattr(os, name)), reason=REASON)
    patches.replace(os, "symlink", _linking(overlay, os.symlink), reason=REASON)
    patches.replace(os, "link", _copying(overlay, os.link), reason=REASON)
    patches.replace(os, "listdir", _listing(overlay, os.listdir), reason=REASON)
    patches.replace(os, "scandir", _scanning(overlay, os.scandir), reason=REASON)
    _lead_pathlib(patches)


def _lead_pathlib(patches: Patches) -> None:
    """Lead Python 3.10's pathlib, too, which has kept os's functions since it was imported."""
    import io
    import pathlib

    accessor = getattr(pathlib, "_NormalAccessor", None)
    for name in KEPT_BY_PATHLIB if accessor is not None else ():
        led = io.open if name == "open" else getattr(os, name)
        if name in vars(accessor):
            patches.replace(accessor, name, staticmethod(led), reason=REASON)


def _opening(overlay: Overlay, original: Any) -> Any:
    @functools.wraps(original)
    def open(file: Any, mode: str = "r", *rest: Any, **named: Any) -> Any:  # noqa: A001
        opener = named.get("opener") or (rest[5] if len(rest) > 5 else None)
        if opener is not None or isinstance(file, int) or not isinstance(mode, str):
            return original(file, mode, *rest, **named)
        if not any(letter in mode for letter in CHANGES):
            return original(overlay.reading(file), mode, *rest, **named)
        full = overlay.protects(file)
        if full is not None and "x" in mode and overlay.exists(full):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), file)
        if "r" in mode and overlay.too_large(file):
            return original(file, mode, *rest, **named)
        place = overlay.writing(file, keep="r" in mode or "a" in mode)
        return original(place, mode, *rest, **named)

    return open


def _low_opening(overlay: Overlay, original: Any) -> Any:
    @functools.wraps(original)
    def open(path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> Any:  # noqa: A001
        if dir_fd is not None:
            return original(path, flags, mode, dir_fd=dir_fd)
        if not flags & WRITES:
            return original(overlay.reading(path), flags, mode)
        full = overlay.protects(path)
        if full is not None and flags & os.O_EXCL and overlay.exists(full):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path)
        if not flags & os.O_TRUNC and overlay.too_large(path):
            return original(path, flags, mode)
        return original(overlay.writing(path, keep=not flags & os.O_TRUNC), flags, mode)

    return open


def lead_argument(
    patches: Patches, owner: Any, name: str, place: int, change: Callable[[Any], Any]
) -> None:
    """Replace a function by itself with one argument, by its place, being another path."""
    original = getattr(owner, name)

    @functools.wraps(original)
    def led(*arguments: Any, **named: Any) -> Any:
        if len(arguments) <= place or not isinstance(arguments[place], (str, bytes, os.PathLike)):
            return original(*_named_path(named, change, arguments), **named)
        if named.get("dir_fd") is not None or named.get("dst_dir_fd") is not None:
            return original(*arguments, **named)
        changed = change(arguments[place])
        return original(*arguments[:place], changed, *arguments[place + 1 :], **named)

    patches.replace(owner, name, led, reason=REASON)


def _named_path(
    named: dict[str, Any], change: Callable[[Any], Any], arguments: tuple[Any, ...]
) -> tuple[Any, ...]:
    """Lead a path that was given by name: torch's `f`, `path` of most others."""
    for name in ("f", "path", "filename", "dst"):
        if isinstance(named.get(name), (str, bytes, os.PathLike)):
            named[name] = change(named[name])
    return arguments


def _touching(overlay: Overlay, original: Any) -> Any:
    @functools.wraps(original)
    def touch(path: Any, *rest: Any, **named: Any) -> Any:
        full = overlay.protects(path) if named.get("dir_fd") is None else None
        if full is None:
            return original(path, *rest, **named)
        place = overlay.reading(path)
        return original(place, *rest, **named) if place is not path else None

    return touch


def _removing(overlay: Overlay, original: Any, instead: Callable[[str, Any], None]) -> Any:
    @functools.wraps(original)
    def remove(path: Any, *, dir_fd: int | None = None) -> None:
        full = overlay.protects(path) if dir_fd is None else None
        if full is None:
            original(path, dir_fd=dir_fd)
            return
        instead(full, path)

    return remove


def _removing_all(overlay: Overlay, original: Any) -> Any:
    @functools.wraps(original)
    def rmtree(path: Any, *rest: Any, **named: Any) -> None:
        full = overlay.protects(path) if named.get("dir_fd") is None else None
        if full is None or not overlay.is_folder(full):
            original(path, *rest, **named)
            return
        overlay.remove_all(full, path)

    return rmtree


def _making(overlay: Overlay, original: Any) -> Any:
    @functools.wraps(original)
    def mkdir(path: Any, mode: int = 0o777, *, dir_fd: int | None = None) -> None:
        full = overlay.protects(path) if dir_fd is None else None
        if full is None:
            original(path, mode, dir_fd=dir_fd)
            return
        overlay.make_folder(full, path)

    return mkdir


def _moving(overlay: Overlay, original: Any) -> Any:
    @functools.wraps(original)
    def rename(src: Any, dst: Any, **named: Any) -> None:
        if any(value is not None for value in named.values()):
            original(src, dst, **named)
            return
        led = overlay.move(src, dst)
        if led is not None:
            original(*led)

    return rename


def _linking(overlay: Overlay, original: Any) -> Any:
    @functools.wraps(original)
    def symlink(src: Any, dst: Any, *rest: Any, **named: Any) -> None:
        if named.get("dir_fd") is not None:
            original(src, dst, *rest, **named)
            return
        original(*overlay.linking(src, dst), *rest)

    return symlink


def _copying(overlay: Overlay, original: Any) -> Any:
    @functools.wraps(original)
    def link(src: Any, dst: Any, **named: Any) -> None:
        protected = overlay.protects(src) or overlay.protects(dst)
        if protected is None or any(value is not None for value in named.values()):
            original(src, dst, **named)
            return
        overlay.copying(src, dst)

    return link


def _listing(overlay: Overlay, original: Any) -> Any:
    @functools.wraps(original)
    def listdir(path: Any = ".") -> Any:
        full = overlay.protects("." if path is None else path)
        if full is None:
            return original(path)
        if not overlay.is_folder(full):
            return original(overlay.listed(full)[0])  # fails as the script expects
        names = overlay.remaining(full)
        return [os.fsencode(name) for name in names] if isinstance(path, bytes) else names

    return listdir


def _scanning(overlay: Overlay, original: Any) -> Any:
    @functools.wraps(original)
    def scandir(path: Any = ".") -> Any:
        full = overlay.protects("." if path is None else path)
        if full is None:
            return original(path)
        folders = overlay.listed(full)
        if folders == (full,) and not overlay.deleting:
            return original(path)
        if not overlay.is_folder(full):
            return original(folders[0])
        # the trial's own entries first: they stand in front of the user's
        return Listing(
            [original(path if one == full else one) for one in reversed(folders)],
            set(overlay.remaining(full)),
        )

    return scandir


class Listing:
    """What `os.scandir` returns, of several folders: each name once, and none that is gone."""

    def __init__(self, parts: list[Any], kept: set[str]) -> None:
        self._parts, self._kept = parts, kept
        self._entries = self._each()

    def _each(self) -> Iterator[Any]:
        for part in self._parts:
            for entry in part:
                name = os.fsdecode(entry.name)
                if name in self._kept:
                    self._kept.remove(name)
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
