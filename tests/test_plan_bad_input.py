"""Plans that are wrong, and scripts that a plan cannot change: one sentence, nothing lost."""

from __future__ import annotations

import json
import multiprocessing
from pathlib import Path
from typing import Any

import pytest

from speedprof.mitigations.plan_files import understand
from speedprof.profiler.errors import SpeedprofError
from speedprof.tests.launching import only_run, script, speedprof

MARK = "import pathlib\npathlib.Path('ran').touch()\n"
LIBRARY = """\
import torch
from torch.utils.data import DataLoader

def train(data, **options):
    loader = DataLoader(data, batch_size=2, **options)
    model = torch.nn.Linear(1, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-6)
    for batch in loader:
        optimizer.zero_grad()
        model(batch).square().mean().backward()
        optimizer.step()
    print(loader.num_workers)
"""
SCRIPT = """\
import torch
from library import train

if __name__ == "__main__":
    train([torch.full((1,), float(number)) for number in range(60)]{options})
"""
WRONG = [
    ("loader-worker=2", "did you mean loader-workers"),
    ("loader-workers=two", "num_workers of loader-workers must be a whole number, not 'two'"),
    ("loader-workers,in-process-loading", "do not go together; choose one"),
    ("larger-batch", "`speedprof explain larger-batch` tells how to do it"),
    ("fast.toml", "cannot read the plan fast.toml (No such file or directory)"),
    (",", "--apply names no remedy"),
]


@pytest.mark.parametrize(("plan", "words"), WRONG)
def test_a_wrong_plan_is_told_before_the_script_begins(
    plan: str, words: str, tmp_path: Path
) -> None:
    name = script(tmp_path, MARK)
    done = speedprof("run", "--apply", plan, name, cwd=tmp_path)
    told = done.stderr.decode()
    assert done.returncode == 2
    assert told.startswith("speedprof: ")
    assert told.count("\n") == 1
    assert words in told
    assert [path.name for path in tmp_path.iterdir()] == ["script.py"]


@pytest.mark.parametrize(
    "content",
    [
        b"\xff\xfe",
        b"format = 1\n[remedies.tf32]\nprecision = 3\n",
        b"format = 1\n[remedies.tf32]\n[remedies.tf32]\n",
        b"format = 9\n[remedies.tf32]\n",
        b"",
    ],
    ids=["no text", "wrong type", "twice", "newer", "empty"],
)
def test_a_wrong_file_is_told_before_the_script_begins(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "plan.toml").write_bytes(content)
    name = script(tmp_path, MARK)
    for command in (("run", "--apply", "plan.toml", name), ("apply", "--plan", "plan.toml")):
        done = speedprof(*command, cwd=tmp_path)
        told = done.stderr.decode()
        assert done.returncode == 2
        assert told.startswith("speedprof: plan.toml")
        assert told.count("\n") == 1
    assert not (tmp_path / "ran").exists()


def test_a_long_line_is_a_line_and_no_name_of_a_file() -> None:
    line = ",".join(["pin-memory", " " * 300, "no-such"])
    with pytest.raises(SpeedprofError, match="no remedy that can be applied is called 'no-such'"):
        understand(line)


def run(folder: Path, options: str, plan: str) -> tuple[str, dict[str, Any]]:
    """Return what the script prints, and the report."""
    script(folder, LIBRARY, "library.py")
    name = script(folder, SCRIPT.format(options=options))
    done = speedprof("run", "--warmup", "2", "--apply", plan, name, cwd=folder)
    assert done.returncode == 0, done.stderr.decode()
    report = json.loads((only_run(folder) / "report.json").read_text())
    return done.stdout.decode().strip(), {one["name"]: one for one in report["applied"]}


@pytest.mark.slow
def test_a_loader_that_a_library_builds_is_changed_like_any(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    workers, applied = run(tmp_path, "", "loader-workers=1")
    assert (workers, applied["loader-workers"]["effects"]) == ("1", 1)


@pytest.mark.slow
def test_an_argument_that_goes_to_a_library_is_the_scripts_own(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    workers, applied = run(tmp_path, ", num_workers=0", "loader-workers,pin-memory")
    assert workers == "0"
    assert applied["loader-workers"]["notes"] == [
        "the script gives num_workers of a DataLoader itself; name it in the plan to change it"
    ]
    assert applied["pin-memory"]["effects"] == applied["loader-workers"]["effects"] == 0


def test_transforms_that_are_lambdas_train_on_without_spawned_workers(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    torch = pytest.importorskip("torch")
    from torch.utils.data import DataLoader

    from speedprof import apply

    class Doubled(torch.utils.data.Dataset):  # type: ignore[misc, name-defined]
        transform = staticmethod(lambda value: 2 * value)

        def __init__(self) -> None:
            self.target = lambda value: value

        def __len__(self) -> int:
            return 4

        def __getitem__(self, index: int) -> Any:
            return self.target(self.transform(torch.tensor([float(index)])))

    with apply("loader-workers=1"):
        assert DataLoader(Doubled(), 2).num_workers == 1  # forked workers inherit them
    monkeypatch.setattr(multiprocessing, "get_start_method", lambda **_: "spawn")
    with apply("loader-workers=1"):
        loader = DataLoader(Doubled(), 2)
        assert loader.num_workers == 0
        assert torch.cat(list(loader)).flatten().tolist() == [0, 2, 4, 6]
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith(
        "speedprof: loader-workers had no effect (a DataLoader stays without workers: Doubled "
        "cannot be pickled ("
    )


def test_more_workers_than_cores_are_said(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("torch")
    from torch.utils.data import DataLoader

    from speedprof import apply
    from speedprof.profiler.machine_name import cores_here

    many = cores_here() + 7
    with apply(f"loader-workers={many}") as plan, pytest.warns(UserWarning, match="max"):
        assert DataLoader([0, 1], 2).num_workers == many  # type: ignore[arg-type]
    assert plan.applied[0].notes == [
        f"{many} workers were asked for; this machine has cores for {cores_here()}"
    ]
    capsys.readouterr()
