"""`speedprof.apply()`: a script puts a plan in force itself, measured or not."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader

import speedprof
from speedprof import SpeedprofError, apply
from speedprof.mitigations.applied import in_script
from speedprof.tests import in_process, launching
from speedprof.tests.launching import bare, only_run, script

ORIGINAL = DataLoader.__init__
TRAIN = """\
import sys
{first}
import torch
{second}

def main():
    torch.manual_seed(0)
    data = [torch.full((4,), float(number)) for number in range(240)]
    loader = torch.utils.data.DataLoader(data, batch_size=4)
    model = torch.nn.Linear(4, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-6)
    for batch in loader:
        optimizer.zero_grad()
        loss = model(batch).square().mean()
        loss.backward()
        optimizer.step()
    print(loader.num_workers, optimizer.defaults["fused"], loss.item())

if __name__ == "__main__":
    main()
"""
APPLY = "import speedprof; speedprof.apply({plan!r})"
LINE = "loader-workers=1,fused-optimizer,pin-memory"
IN_FORCE = (
    r"\d+ changes were in force: loader-workers, fused-optimizer; pin-memory had no effect "
    r"\(there is no GPU here, so nothing is pinned\)"
)
IN_BLOCK = re.compile(r"\d changes? w\w+ in force: loader-workers")


@pytest.fixture(autouse=True)
def nothing_is_in_force() -> Iterator[None]:
    assert in_script._in_force == []
    yield
    for one in reversed(list(in_script._in_force)):
        one.undo()


def training(plan: str = LINE, *, first: bool = False) -> str:
    call = APPLY.format(plan=plan)
    return TRAIN.format(first=call if first else "", second="" if first else call)


def workers() -> int:
    return DataLoader(range(4)).num_workers  # type: ignore[arg-type]


def test_importing_speedprof_imports_nothing_of_it() -> None:
    done = bare(
        sys.executable,
        "-c",
        "import speedprof, sys; print([m for m in sys.modules if m.startswith('speedprof.')])",
        cwd=Path.cwd(),
    )
    assert done.stdout == b"[]\n"
    assert set(speedprof.__all__) == {"SpeedprofError", "__version__", "apply", "step"}
    with pytest.raises(AttributeError, match="no attribute 'undo'"):
        speedprof.undo  # type: ignore[attr-defined]  # noqa: B018


@pytest.mark.slow
@pytest.mark.parametrize("first", [True, False], ids=["before torch", "after torch"])
def test_a_script_is_changed_and_told_at_its_end_what_came_of_it(
    first: bool, tmp_path: Path
) -> None:
    name = script(tmp_path, training(first=first))
    done = bare(sys.executable, name, cwd=tmp_path)
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout.decode().startswith("1 True ")
    assert re.fullmatch(f"speedprof: {IN_FORCE}\n", done.stderr.decode())


@pytest.mark.slow
def test_a_training_by_a_plan_of_exact_remedies_has_the_same_losses(tmp_path: Path) -> None:
    name = script(tmp_path, training("loader-workers=1"))
    plain = script(tmp_path, TRAIN.format(first="", second=""), "plain.py")
    with_plan = bare(sys.executable, name, cwd=tmp_path).stdout.split()
    without = bare(sys.executable, plain, cwd=tmp_path).stdout.split()
    assert (with_plan[0], without[0]) == (b"1", b"0")
    assert with_plan[2] == without[2]


@pytest.mark.slow
def test_under_a_run_it_stands_in_the_record_and_the_report(tmp_path: Path) -> None:
    name = script(tmp_path, training())
    done = launching.speedprof("run", "--warmup", "2", name, cwd=tmp_path)
    said = " ".join(done.stderr.decode().split())
    assert done.returncode == 0, said
    assert done.stdout.decode().startswith("1 True ")
    assert not re.search(f"speedprof: {IN_FORCE}", said)  # the report says it
    assert re.search(IN_FORCE, said)
    report = json.loads((only_run(tmp_path) / "report.json").read_text())
    assert [one["name"] for one in report["applied"]] == [
        "loader-workers",
        "pin-memory",
        "fused-optimizer",
    ]
    assert any("fused-optimizer: fused=True" in text for text in report["changes"])
    assert not any("somebody else" in note for note in report.get("notes", []))


@pytest.mark.slow
@pytest.mark.parametrize("option", ["--steps", "--stop-after"])
def test_measuring_may_end_before_the_plan_does(option: str, tmp_path: Path) -> None:
    name = script(tmp_path, training())
    done = launching.speedprof("run", "--warmup", "2", option, "20", name, cwd=tmp_path)
    said = " ".join(done.stderr.decode().split())
    assert done.returncode == 0, said
    assert "somebody else" not in said
    assert "in force: loader-workers" in said


@pytest.mark.slow
def test_the_command_line_wins_over_the_script(tmp_path: Path) -> None:
    name = script(tmp_path, training("loader-workers=1,tf32"))
    done = launching.speedprof(
        "run", "--warmup", "2", "--apply", "in-process-loading", name, cwd=tmp_path
    )
    said = " ".join(done.stderr.decode().split())
    assert done.returncode == 0, said
    assert done.stdout.decode().startswith("0 None ")
    assert (
        "speedprof.apply() leaves loader-workers out: --apply put in-process-loading in force"
        in said
    )
    assert "were in force: in-process-loading, tf32" in said


def test_a_block_takes_back_what_it_changed(capsys: pytest.CaptureFixture[str]) -> None:
    with apply("loader-workers=2") as plan:
        assert workers() == 2
        assert IN_BLOCK.fullmatch(str(plan))
    assert workers() == 0
    assert vars(DataLoader)["__init__"] is ORIGINAL
    assert capsys.readouterr().err == f"speedprof: {plan}\n"
    assert IN_BLOCK.fullmatch(str(plan))


def test_a_block_that_fails_takes_back_what_it_changed() -> None:
    with pytest.raises(ZeroDivisionError), apply("loader-workers=2"):
        1 / 0  # noqa: B018
    assert workers() == 0


def test_blocks_lie_in_each_other(capsys: pytest.CaptureFixture[str]) -> None:
    with apply("loader-workers=1") as outer:
        with apply("pin-memory"):
            assert workers() == 1
            with pytest.raises(SpeedprofError, match="first: the plan with pin-memory"):
                outer.undo()
        assert workers() == 1
    assert vars(DataLoader)["__init__"] is ORIGINAL
    assert len(capsys.readouterr().err.splitlines()) == 2


def test_what_is_in_force_already_stays_as_it_is() -> None:
    first = apply("loader-workers=2,tf32")
    again = apply("tf32,loader-workers=2")
    assert (again.applied, str(again)) == ([], "")
    with pytest.raises(SpeedprofError) as told:
        apply("loader-workers=3")
    assert str(told.value) == (
        "speedprof.apply(): loader-workers is in force already, with other values; take that back "
        "first (`undo()` of what the first call returned)"
    )
    with pytest.raises(SpeedprofError, match="does not go together with loader-workers, which is"):
        apply("fewer-threads,in-process-loading")
    assert torch.get_float32_matmul_precision() == "high"
    again.undo()
    first.undo()
    first.undo()
    assert torch.get_float32_matmul_precision() == "highest"


def test_a_faulty_plan_is_told_in_a_sentence_and_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "plan.toml"
    path.write_text("format = 1\n[remedies.loader-workers]\nnum_workers = 'many'\n")
    for plan, words in (
        ("loader-worker", "did you mean loader-workers"),
        ("loader-workers=many", r"^speedprof.apply\(\): num_workers of loader-workers must be a"),
        ("", r"^speedprof.apply\(\) names no remedy"),
        ("tf32,tf32", r"^speedprof.apply\(\) names a remedy twice"),
        (str(path), "num_workers of loader-workers must be a whole number, not 'many'"),
        (path, "num_workers of loader-workers must be a whole number, not 'many'"),
        (tmp_path / "none.toml", "cannot read the plan"),
        (tmp_path, "cannot read the plan"),
    ):
        with pytest.raises(SpeedprofError, match=words) as told:
            apply(plan)
        assert "\n" not in str(told.value)
    assert in_script._in_force == []
    assert vars(DataLoader)["__init__"] is ORIGINAL


@pytest.mark.slow
def test_a_faulty_plan_ends_the_script_before_it_trains(tmp_path: Path) -> None:
    done = bare(sys.executable, script(tmp_path, training("tf33", first=True)), cwd=tmp_path)
    assert done.returncode == 1
    assert done.stdout == b""
    last = done.stderr.decode().splitlines()[-1]
    assert last.startswith("speedprof.profiler.errors.SpeedprofError: no remedy that can be ")
    assert last.endswith("did you mean tf32?")


def test_a_plan_from_another_machine_is_said_to_be_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "plan.toml"
    path.write_text('format = 1\nmachine = "a Cray-1"\n[remedies.loader-workers]\n')
    with apply(path):
        assert workers() == 2
    assert "the plan was proved on a Cray-1, not on this machine (" in capsys.readouterr().err


def test_a_block_in_a_measured_process_stands_in_its_record(tmp_path: Path) -> None:
    with in_process.measuring(tmp_path, windows=False):
        with apply("loader-workers=2"):
            loader = DataLoader(range(40), 4)  # type: ignore[arg-type]
            weight = torch.ones(1, requires_grad=True)
            optimizer = torch.optim.SGD([weight], lr=0.1)
            for batch in loader:
                (weight * batch.float()).sum().backward()
                optimizer.step()
        assert workers() == 0
    (fact,) = in_process.facts(tmp_path, "applied")
    assert (fact["name"], fact["effects"]) == ("loader-workers", 1)
    changes = [one["text"] for one in in_process.facts(tmp_path, "change")]
    assert sum("loader-workers: num_workers=2" in text for text in changes) == 1
    assert vars(DataLoader)["__init__"] is ORIGINAL


def test_a_plan_that_outlives_the_measuring_leaves_no_probe_behind(tmp_path: Path) -> None:
    with in_process.measuring(tmp_path, windows=False):
        plan = apply("loader-workers=2")
        assert workers() == 2
    assert workers() == 2
    assert vars(DataLoader)["__init__"] is not ORIGINAL
    plan.undo()
    assert vars(DataLoader)["__init__"] is ORIGINAL


def test_only_the_first_rank_tells(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RANK", "1")
    with apply("loader-workers=2"):
        assert workers() == 2
    assert capsys.readouterr().err == ""


@pytest.mark.slow
def test_a_child_says_nothing_of_its_parents_plan(tmp_path: Path) -> None:
    forking = training("loader-workers=1") + "    import os\n    if os.fork(): os.wait()\n"
    done = bare(sys.executable, script(tmp_path, forking), cwd=tmp_path)
    assert done.returncode == 0, done.stderr.decode()
    assert done.stderr.decode().count("in force") == 1


def test_workers_that_import_the_script_again_say_nothing(tmp_path: Path) -> None:
    first = APPLY.format(plan="fused-optimizer")
    spawning = TRAIN.replace("batch_size=4)", "batch_size=4, num_workers=2, **SPAWN)")
    text = spawning.format(first=first, second="SPAWN = {'multiprocessing_context': 'spawn'}")
    done = bare(sys.executable, script(tmp_path, text), cwd=tmp_path)
    assert done.returncode == 0, done.stderr.decode()
    assert done.stderr.decode().count("speedprof:") == 1


def test_probes_lie_above_a_plan_that_comes_later(tmp_path: Path) -> None:
    with in_process.measuring(tmp_path, windows=False) as session:
        before = DataLoader(range(8), 4)  # type: ignore[arg-type]
        probe = DataLoader.__init__.__code__
        with apply("loader-workers=1"):
            assert DataLoader.__init__.__code__ is probe
            loader = DataLoader(range(8), 4)  # type: ignore[arg-type]
            weight = torch.ones(1, requires_grad=True)
            optimizer = torch.optim.SGD([weight], lr=0.1)
            for one in (before, loader):
                for batch in one:
                    (weight * batch.float()).sum().backward()
                    optimizer.step()
            assert session.patches.are_on_top()
        assert DataLoader.__init__.__code__ is probe
    built = in_process.facts(tmp_path, "loader")
    assert [one["num_workers"] for one in built] == [0, 1]
    for one in built:  # by this file, and not by the remedy
        assert str(one["where"]).partition(":")[0].endswith("test_api_apply.py")
    uses = {one["number"]: one["batches"] for one in in_process.facts(tmp_path, "loader_use")}
    assert list(uses.values()) == [2, 2]


def test_a_plan_lies_above_probes_that_somebody_patched_over(tmp_path: Path) -> None:
    with in_process.measuring(tmp_path, windows=False) as session:
        probe = DataLoader.__init__

        def theirs(loader: object, *arguments: object, **keywords: object) -> None:
            probe(loader, *arguments, **keywords)  # type: ignore[arg-type]

        DataLoader.__init__ = theirs  # type: ignore[assignment, method-assign]
        with apply("loader-workers=1"):
            assert workers() == 1
            assert not session.patches.are_on_top()
        assert vars(DataLoader)["__init__"] is theirs
        DataLoader.__init__ = probe  # type: ignore[method-assign]
    assert vars(DataLoader)["__init__"] is ORIGINAL


@pytest.mark.slow
def test_the_training_environment_needs_nothing_of_ours(tmp_path: Path) -> None:
    (tmp_path / "plan.toml").write_text(
        'format = 1\nmachine = "a Cray-1"\n[remedies.loader-workers]\nnum_workers = 1\n'
    )
    hidden = (
        "import sys\nfor name in ('tomllib', 'tomli', 'msgspec', 'numpy', 'psutil', 'click'):\n"
    )
    name = script(tmp_path, f"{hidden}    sys.modules[name] = None\n{training('plan.toml')}")
    done = bare(sys.executable, name, cwd=tmp_path)
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout.decode().startswith("1 ")
    assert "in force: loader-workers; the plan was proved on a Cray-1" in done.stderr.decode()
