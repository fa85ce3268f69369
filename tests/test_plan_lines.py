"""Plans where Python has no reader of TOML: the same tables, or a sentence naming the line."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from hypothesis import given
from test_plan_files import remedies

from speedprof.mitigations import plan_files, plan_lines
from speedprof.mitigations.plan_files import PlanFile, read, write
from speedprof.profiler.errors import SpeedprofError

TOML = """\
# by hand
format = 1   # the first
made_by = "0.1 \\"beta\\" C:\\\\x # y"
machine = 'a\\b'

[ remedies . loader-workers ]
num_workers = +4
persistent_workers = true
[remedies.ddp-buckets]   # fine
bucket_cap_mb = 2.5e1
"""


@given(plan=remedies())
def test_a_written_plan_is_read_without_a_toml_reader(plan: PlanFile) -> None:
    tomllib = pytest.importorskip("tomllib" if sys.version_info >= (3, 11) else "tomli")
    text = write(plan)
    assert plan_lines.loads(text) == tomllib.loads(text)


@pytest.mark.parametrize("text", [TOML, TOML.replace("\n", "\r\n"), "", "\n# nothing\n"])
def test_a_plan_by_hand_is_read_without_a_toml_reader(text: str) -> None:
    tomllib = pytest.importorskip("tomllib" if sys.version_info >= (3, 11) else "tomli")
    assert plan_lines.loads(text) == tomllib.loads(text)


@pytest.mark.parametrize(
    "line",
    [
        "format",
        "format = ",
        "format = 01",
        "format = one",
        'name = "open',
        'name = "a\\q"',
        "names = [1, 2]",
        "[a.b",
        "[a]]",
        "[]",
        "format = 1 2",
        "format = 3",  # a second time
        "[format]",  # a value already
        "[format.table]",
    ],
)
def test_what_no_plan_holds_is_refused_by_its_line(line: str) -> None:
    with pytest.raises(ValueError, match="line 2 is none of a plan's"):
        plan_lines.loads(f"format = 1\n{line}\n")


def test_a_table_stands_once() -> None:
    with pytest.raises(ValueError, match="line 2"):
        plan_lines.loads("[remedies.tf32]\n[remedies.tf32]\n")


def test_a_plan_is_understood_where_no_reader_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, plan_files.READER, None)
    path = tmp_path / "plan.toml"
    path.write_text("format = 1\n[remedies.loader-workers]\nnum_workers = 3\n")
    assert read(path).entries() == [{"name": "loader-workers", "parameters": {"num_workers": 3}}]
    path.write_text("format = 1\nlist = [1]\n")
    with pytest.raises(SpeedprofError, match=r"is no TOML file \(line 2 .*`pip install tomli`"):
        read(path)
