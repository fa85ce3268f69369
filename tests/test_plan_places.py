"""A plan from another machine, or for another torch, is used and said to be that."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import runs
from test_apply import applied, recorded

from speedprof.commands import apply as command
from speedprof.commands import tune
from speedprof.mitigations.plan_files import PlanFile, Remedy, read, write
from speedprof.profiler import launcher, machine_name, node, sampler
from speedprof.profiler.gpu import Gpus
from speedprof.profiler.machine_name import doubt, named
from speedprof.tests.launching import only_run, script, speedprof

HERE = "AMD EPYC 9575F, 2 cores"
THERE = "Intel Xeon, 64 cores, NVIDIA H100"
PROVES = ": `speedprof tune --plan` proves it here"
ON_BOTH = (
    f"the plan was proved on {THERE} with torch 2.11, not on this machine ({HERE} with torch "
    f"2.15){PROVES}"
)
LOOP = """\
import torch
model = torch.nn.Linear(4, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for _ in range(30):
    optimizer.zero_grad()
    model(torch.ones(2, 4)).sum().backward()
    optimizer.step()
"""


def plan(folder: Path, **told: str) -> str:
    made = PlanFile(remedies=(Remedy(name="fused-optimizer", parameters={}),), **told)
    (folder / "plan.toml").write_text(write(made))
    return "plan.toml"


@pytest.mark.parametrize(
    ("proved", "said"),
    [
        ({}, None),
        ({"machine": HERE}, None),
        ({"machine": HERE, "torch": "2.15.1"}, None),
        (
            {"machine": THERE},
            f"the plan was proved on {THERE}, not on this machine ({HERE}){PROVES}",
        ),
        (
            {"machine": HERE, "torch": "2.11.0"},
            f"the plan was proved with torch 2.11, not with torch 2.15{PROVES}",
        ),
        (
            {"machine": THERE, "torch": "2.11.0"},
            ON_BOTH,
        ),
    ],
)
def test_a_plan_from_elsewhere_is_told_in_one_sentence(
    proved: dict[str, str], said: str | None
) -> None:
    assert doubt(proved, here=HERE, torch="2.15.0+cpu") == said


def test_a_torch_that_is_not_known_yet_is_no_other() -> None:
    assert doubt({"torch": "2.11.0"}, here=HERE, torch=None) is None


def test_a_plan_and_its_run_call_the_machine_alike() -> None:
    run = runs.run(machines=[runs.machine(2, gpus=["NVIDIA H100"])])
    node = run.machines[0]
    assert tune._machine(run) == named(node.cpu, 2.7, node.gpus)
    assert named(None, 0.5, []) == "unknown CPU, 1 cores"


def test_a_runs_record_and_a_process_call_this_machine_alike() -> None:
    gpus = Gpus()
    told: dict[str, Any] = sampler._machine(node.limits(None), gpus)
    gpus.close()
    assert named(told["cpu"], told["cores"], told["gpus"]) == machine_name.here()


def test_gpus_are_told_by_the_kernel_where_no_driver_library_is(tmp_path: Path) -> None:
    for number, name in enumerate(("NVIDIA A100", "NVIDIA H100")):
        (tmp_path / f"0000:0{number}").mkdir()
        (tmp_path / f"0000:0{number}" / "information").write_text(f"Model: \t\t {name}\nIRQ: 1\n")
    assert machine_name._told_by_the_kernel(tmp_path) == ["NVIDIA A100", "NVIDIA H100"]
    assert machine_name._told_by_the_kernel(tmp_path / "none") == []


@pytest.mark.slow
def test_a_run_under_a_plan_from_elsewhere_says_so_first_and_in_its_report(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    train, made = script(tmp_path, LOOP), plan(tmp_path, machine=THERE, torch="1.9.0")
    done = speedprof("run", "--warmup", "2", "--apply", made, train, cwd=tmp_path)
    said = done.stderr.decode()
    assert done.returncode == 0, said
    assert said.startswith(f"speedprof: the plan was proved on {THERE}, not on this machine (")
    report = (only_run(tmp_path) / "report.html").read_text()
    assert f"the plan was proved on {THERE} with torch 1.9, not on this machine" in report
    assert "fused-optimizer" in report
    told = json.loads((only_run(tmp_path) / "report.json").read_text())
    (note,) = [note for note in told["notes"] if "was proved" in note]
    assert note.startswith(f"the plan was proved on {THERE} with torch 1.9, not on this machine (")


@pytest.mark.slow
def test_a_plan_from_here_says_nothing(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    train = script(tmp_path, LOOP)
    made = plan(tmp_path, machine=machine_name.here(), torch=str(torch.__version__))
    done = speedprof("run", "--warmup", "2", "--apply", made, train, cwd=tmp_path)
    assert done.returncode == 0
    assert b"was proved" not in done.stderr
    assert b" changes were in force: fused-optimizer" in done.stderr


def test_a_source_that_is_to_get_a_plan_from_elsewhere_is_told_so(tmp_path: Path) -> None:
    recorded(tmp_path)
    run = runs.run(machines=[runs.machine(2)])
    (tmp_path / "fast.toml").write_text(
        write(PlanFile(remedies=(Remedy(name="tf32", parameters={}),), machine=THERE))
    )
    said = command._doubt(str(tmp_path / "fast.toml"), run)
    assert said is not None
    assert f"on {THERE}, not on the machine of this run (" in said
    assert command._doubt(None, run) is None
    _, told = applied(tmp_path, "--plan", "fast.toml")  # this run recorded no machine
    assert "was proved" not in told


def test_the_training_process_is_told_where_the_plan_was_proved() -> None:
    order = launcher.Order(
        target=None,  # type: ignore[arg-type]
        parent=Path(),
        remedies=({"name": "tf32", "parameters": {}},),
        proved={"machine": THERE},
    )
    assert launcher.options(order)["proved"] == {"machine": THERE}


def test_a_plan_keeps_where_it_was_proved(tmp_path: Path) -> None:
    path = tmp_path / plan(tmp_path, machine=THERE, torch="2.15.0")
    assert read(path).proved() == {"machine": THERE, "torch": "2.15.0"}
