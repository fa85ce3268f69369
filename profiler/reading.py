"""The files of a run folder as values: what is whole is used, the rest is counted."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
import numpy as np

from speedprof.profiler import reduced
from speedprof.profiler.errors import SpeedprofError
from speedprof.profiler.record import COLUMN, FACT, FORMAT, STEP_COLUMNS, STEPS, frames
from speedprof.profiler.reduced import ReducedWindow

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

Fact = TypeVar("Fact", bound=msgspec.Struct)
WIDTH = len(STEP_COLUMNS)
LONGEST_ROW = 10**18  # ns, thirty years: a longer one is damage


def no_rows() -> NDArray[np.int64]:
    return np.zeros((0, WIDTH), np.int64)


@dataclass(slots=True)
class Record:
    """What one training process wrote."""

    path: Path
    facts: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    rows: NDArray[np.int64] = field(default_factory=no_rows)
    damage: list[str] = field(default_factory=list)

    def all(self, name: str, kind: type[Fact]) -> list[Fact]:
        """Return the facts of one name that are what they should be; others are counted."""
        found = [converted(plain, kind) for plain in self.facts.get(name, ())]
        lost = sum(fact is None for fact in found)
        if lost:
            self.damage.append(f"{lost} facts ({name}) in {self.path.name} were not understood")
            self.facts[name] = [p for p, f in zip(self.facts[name], found, strict=True) if f]
        return [fact for fact in found if fact is not None]

    def last(self, name: str, kind: type[Fact]) -> Fact | None:
        return next(reversed(self.all(name, kind)), None)

    def forget_rows(self) -> None:
        self.rows = no_rows()

    def column(self, name: str) -> NDArray[np.int64]:
        column: NDArray[np.int64] = self.rows[:, COLUMN[name]]
        return column


def json_object(path: Path) -> dict[str, Any] | None:
    """Return a JSON file's object, None where there is none that is whole."""
    try:
        return _object(path.read_bytes())
    except OSError:
        return None


def json_lines(path: Path) -> tuple[list[dict[str, Any]], int]:
    """Return a file's JSON objects, one a line, and how many lines were none."""
    try:
        lines = path.read_bytes().splitlines()
    except OSError:
        return [], 0
    found = [_object(line) for line in lines if line.strip()]
    objects = [plain for plain in found if plain is not None]
    return objects, len(found) - len(objects)


def _object(text: bytes) -> dict[str, Any] | None:
    try:
        plain = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return plain if isinstance(plain, dict) else None


def converted(plain: dict[str, Any], kind: type[Fact]) -> Fact | None:
    """Return a plain object as a fact, None where it is none."""
    try:
        return msgspec.convert(plain, kind, strict=False)
    except msgspec.ValidationError:
        return None


def refuse_newer(written: object, known: int, *, what: str) -> None:
    """Raise SpeedprofError where a newer speedprof wrote this."""
    if isinstance(written, int) and written > known:
        raise SpeedprofError(
            f"{what} was recorded by a newer speedprof (format {written}, this one reads up to "
            f"{known}); update it with `pip install -U speedprof`"
        )


def read_record(path: Path) -> Record:
    """Read one process's record; raise SpeedprofError where a newer speedprof wrote it."""
    record = Record(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        record.damage.append(f"{path.name} could not be read ({error.strerror})")
        return record
    blocks, skipped = [], 0
    for kind, payload, passed_over in frames(data):
        skipped += passed_over
        if kind == FACT:
            _take_fact(record, payload)
        elif kind == STEPS:
            blocks.append(payload)
    for process in record.facts.get("process", ()):
        refuse_newer(process.get("format"), FORMAT, what=path.name)
    record.rows = _rows(record, blocks)
    if skipped:
        record.damage.append(f"{path.name} is damaged: {skipped} bytes of it were passed over")
    return record


def _take_fact(record: Record, payload: bytes) -> None:
    plain = _object(payload.decode("utf-8", "replace").encode())
    if plain is not None and isinstance(plain.get("fact"), str):
        record.facts.setdefault(plain["fact"], []).append(plain)
    else:
        record.damage.append(f"a fact in {record.path.name} was not understood")


def _rows(record: Record, blocks: list[bytes]) -> NDArray[np.int64]:
    whole = b"".join(block[: len(block) // (8 * WIDTH) * 8 * WIDTH] for block in blocks)
    rows = np.frombuffer(whole, "<i8").reshape(-1, WIDTH).astype(np.int64)
    real = _real(rows)
    lost = len(rows) - int(real.sum())
    lost += sum(len(block) % (8 * WIDTH) != 0 for block in blocks)
    if lost:
        record.damage.append(f"{lost} step rows in {record.path.name} make no sense")
    rows = rows if real.all() else rows[real]
    start = rows[:, COLUMN["start"]]
    return rows if (np.diff(start) >= 0).all() else rows[np.argsort(start, kind="stable")]


def _real(rows: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return which rows can be measurements."""
    real: NDArray[np.bool_] = (rows[:, COLUMN["count"]] > 0) & (rows[:, COLUMN["wall"]] > 0)
    if rows.min(initial=0) >= -1 and rows.max(initial=0) < LONGEST_ROW:
        return real  # no number is out of place: as a rule, and seen at once
    measures = rows[:, COLUMN["count"] : COLUMN["flags"]]
    real &= (measures.min(axis=1, initial=0) >= -1) & (
        measures.max(axis=1, initial=0) < LONGEST_ROW
    )
    return real


class _Owner(msgspec.Struct, frozen=True):
    host: str
    pid: int


def window_owner(path: Path) -> tuple[str, int] | None:
    """Return the host and process of a reduced window; None where the file does not say."""
    try:
        owner = msgspec.json.decode(path.read_bytes(), type=_Owner)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        return None
    return owner.host, owner.pid


def read_window(path: Path) -> ReducedWindow | None:
    """Read a reduced window; None where the file is damaged or another version's."""
    try:
        window = msgspec.json.decode(path.read_bytes(), type=ReducedWindow)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        return None
    whole = window.format == reduced.FORMAT and len(window.boundaries) == len(window.cube) + 1
    return window if whole else None
