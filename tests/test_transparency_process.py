"""What a script can see of its process, and every number that it trains, bare and measured."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from speedprof.tests.transparency import INJECTED, UNAWARE, Outcome, assert_same, both, write

pytestmark = pytest.mark.slow
pytest.importorskip("torch")

OURS = {"KINETO_LOG_LEVEL", "PYTHONPATH", "SPEEDPROF_OPTIONS", "SPEEDPROF_RUN"}


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what the script saw bare, and what it saw measured."""
    out = tmp_path_factory.mktemp("runs")
    outcomes = both(UNAWARE, ["train_numbers.py", "--steps", "3", "--out", "x"], out=out)
    _as_expected(outcomes[1])
    first, second = (json.loads(outcome.stdout) for outcome in outcomes)
    return first, second


def _as_expected(measured: Outcome) -> None:
    assert measured.status == 0, measured.stderr.decode()
    assert list(measured.folder.glob("rank-*.rec")), "nothing was measured, so nothing is proved"


@pytest.mark.parametrize(
    "number",
    ["weights", "losses", "optimizer", "torch random", "random", "settings", "checkpoint"],
)
def test_every_number_is_the_same_to_the_last_bit(
    seen: tuple[dict[str, Any], dict[str, Any]], number: str
) -> None:
    bare, measured = seen
    assert measured["numbers"][number] == bare["numbers"][number]


@pytest.mark.parametrize("moment", ["first", "after import", "last"])
def test_the_environment_differs_by_what_measuring_needs_alone(
    seen: tuple[dict[str, Any], dict[str, Any]], moment: str
) -> None:
    bare, measured = (dict(each[moment]["environment"]) for each in seen)
    assert measured.pop("PYTHONPATH") == INJECTED
    assert {name for name in measured if name not in bare} == OURS - {"PYTHONPATH"}
    assert {name: measured[name] for name in bare} == bare


@pytest.mark.parametrize("moment", ["first", "after import", "last"])
def test_the_process_looks_the_same(
    seen: tuple[dict[str, Any], dict[str, Any]], moment: str
) -> None:
    bare, measured = (dict(each[moment]) for each in seen)
    for each in (bare, measured):
        del each["environment"], each["modules"]
    if moment != "first":
        _allow_our_files(bare, measured)
    if moment == "last":
        _allow_kinetos_thread(bare, measured)
    assert measured == bare


def _allow_our_files(bare: dict[str, Any], measured: dict[str, Any]) -> None:
    """Allow the record, the loader's telemetry and what it reads of itself in /proc."""
    extra = Counter(measured.pop("descriptors")) - Counter(bare.pop("descriptors"))
    kinds = [re.sub(r".*/(rank-|worker-|schedstat$|io$).*", r"\1", name) for name in extra]
    assert set(kinds) <= {"rank-", "worker-", "schedstat", "io"}
    assert max(extra.values(), default=1) == 1


def _allow_kinetos_thread(bare: dict[str, Any], measured: dict[str, Any]) -> None:
    """Allow the thread that torch starts with a process's first profile and never ends.

    One less, too: a thread of the bare process may be on its way out, as that which fed a queue
    of multiprocessing is once the queue is closed.
    """
    extra = measured.pop("native threads") - bare.pop("native threads")
    assert abs(extra) <= 1
    for each in (bare, measured):
        each["threads"] = [name for name in each["threads"] if name != "QueueFeederThread"]


@pytest.mark.parametrize("moment", ["first", "after import", "last"])
def test_the_modules_differ_by_ours_and_pythons_own_alone(
    seen: tuple[dict[str, Any], dict[str, Any]], moment: str
) -> None:
    bare, measured = (set(each[moment]["modules"]) for each in seen)
    assert bare <= measured
    extra = {name.partition(".")[0] for name in measured - bare}
    assert extra <= ({"sitecustomize"} if moment == "first" else {"sitecustomize", "speedprof"})


def test_without_torch_nothing_is_imported_and_nothing_printed(tmp_path: Path) -> None:
    bare, measured = both(UNAWARE, ["look.py"], out=tmp_path)
    theirs, ours = (json.loads(outcome.stdout) for outcome in (bare, measured))
    assert ours.pop("environment") != theirs.pop("environment")
    assert set(ours.pop("modules")) - set(theirs.pop("modules")) <= {"sitecustomize"}
    assert ours == theirs
    assert measured.their_stderr == bare.stderr


def test_both_streams_pass_byte_by_byte(tmp_path: Path) -> None:
    script = write(
        tmp_path,
        "import sys; sys.stdout.buffer.write(b'a\\r\\n\\xff'); print('b', file=sys.stderr)",
    )
    bare, measured = both(tmp_path, [script.name])
    assert_same(bare, measured)
    assert (bare.stdout, bare.stderr) == (b"a\r\n\xff", b"b\n")
