"""The record survives damage, stays within its bound, and gives back what was written."""

from __future__ import annotations

import json
from array import array
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from speedprof.profiler import record
from speedprof.profiler.record import COLUMN, STEP_COLUMNS

LIMIT = 64 << 20


def row(start: int, wall: int) -> list[int]:
    values = [0] * len(STEP_COLUMNS)
    values[0], values[COLUMN["count"]], values[COLUMN["wall"]] = start, 1, wall
    return values


def test_frames_come_back_in_order(tmp_path: Path) -> None:
    writer = record.Writer(str(tmp_path / "rank.rec"))
    writer.fact("process", {"pid": 7})
    writer.rows(array("q", row(1, 2)))
    writer.close()
    (fact, steps) = record.frames((tmp_path / "rank.rec").read_bytes())
    assert json.loads(fact[1]) == {"fact": "process", "pid": 7}
    assert array("q", steps[1]).tolist() == row(1, 2)


def test_a_million_steps_stay_within_the_bound_and_lose_no_time() -> None:
    thinner = record.Thinner()
    kept = [k for step in range(1_000_000) if (k := thinner.add(row(step, 3))) is not None]
    rest = thinner.flush()
    kept += [rest] if rest else []
    assert len(kept) * len(STEP_COLUMNS) * 8 < LIMIT
    assert sum(k[COLUMN["count"]] for k in kept) == 1_000_000
    assert sum(k[COLUMN["wall"]] for k in kept) == 3_000_000
    assert [k[0] for k in kept] == sorted(k[0] for k in kept)


def test_a_sum_of_rows_is_measured_only_where_each_of_them_was() -> None:
    thinner = record.Thinner(rows_per_level=1)
    one, two, three = row(0, 1), row(1, 1), row(2, 1)
    two[COLUMN["device_wall"]], three[COLUMN["device_wall"]] = 5, record.NOT_MEASURED
    thinner.add(one)
    assert thinner.add(two) is None
    summed = thinner.add(three)
    assert summed is not None
    assert summed[COLUMN["device_wall"]] == record.NOT_MEASURED
    assert summed[COLUMN["count"]] == 2


@given(
    payloads=st.lists(st.binary(max_size=60), min_size=1, max_size=6),
    cut=st.integers(min_value=0, max_value=400),
    garbage=st.binary(max_size=20),
)
def test_damage_costs_only_what_it_touched(
    payloads: list[bytes], cut: int, garbage: bytes
) -> None:
    frames = [record.frame(record.FACT, payload) for payload in payloads]
    whole = b"".join(frames)
    cut = min(cut, len(whole))
    data = whole[:cut] + garbage
    found = [payload for kind, payload, _ in record.frames(data) if kind]
    intact, used = [], 0
    for payload, encoded in zip(payloads, frames, strict=True):
        used += len(encoded)
        if used <= cut:
            intact.append(payload)
    assert found[: len(intact)] == intact
    skipped = sum(passed for *_, passed in record.frames(data))
    assert skipped == len(data) - sum(len(record.frame(record.FACT, payload)) for payload in found)


def test_a_flipped_byte_loses_one_frame() -> None:
    frames = [record.frame(record.FACT, bytes([65 + n]) * 30) for n in range(3)]
    data = bytearray(b"".join(frames))
    data[len(frames[0]) + record.HEADER.size + 3] ^= 1
    assert [p[:1] for k, p, _ in record.frames(bytes(data)) if k] == [b"A", b"C"]
