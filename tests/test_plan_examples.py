"""What the examples' page says to type works, in short."""

from __future__ import annotations

import importlib.util
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from speedprof.mitigations.plan_files import read
from speedprof.tests.launching import COMMAND, bare, environment

EXAMPLES = Path(__file__).parent.parent / "examples"
PAGE = (EXAMPLES / "README.md").read_text("utf-8")
SHORT = {  # options that make each example a matter of seconds; the last one given wins
    "imagefolder.py": ["--files", "48", "--image-size", "64", "--epochs", "12"],
    "charlm.py": ["--steps", "24", "--batch-size", "4", "--layers", "1"],
    "ddp.py": ["--steps", "24", "--vocabulary", "1000", "--width", "32"],
}


def blocks(kind: str) -> list[str]:
    return re.findall(rf"```{kind}\n(.*?)```", PAGE, re.DOTALL)


COMMANDS = [block.splitlines() for block in blocks("sh")]


def short(command: str) -> list[str]:
    """Return the words behind `speedprof`, with fewer and smaller steps."""
    words = shlex.split(command)
    assert words[0] == "speedprof"
    words = words[1:]
    if "--budget" in words:
        words[words.index("--budget") + 1] = "0.5"
        words[1:1] = ["--steps", "12"]
    if "torchrun" in words:
        where = words.index("torchrun")
        words[where : where + 1] = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    for name, options in SHORT.items():
        if any(word.endswith(name) for word in words):
            words += options
    if "tune" in words and any(word.endswith("imagefolder.py") for word in words):
        words += ["--epochs", "40"]  # steps enough for a trial in which many are traced
    return words


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("plans/*.toml")), ids=lambda path: path.stem)
def test_every_plan_is_one_and_stands_in_the_page(path: Path) -> None:
    assert read(path).remedies
    assert f"`plans/{path.name}`" in PAGE
    assert f"examples/plans/{path.name}" in PAGE.partition("## Measure")[2]


def test_every_example_stands_in_the_page() -> None:
    for path in EXAMPLES.glob("*.py"):
        assert f"`{path.name}`" in PAGE


@pytest.mark.slow
@pytest.mark.parametrize("commands", COMMANDS, ids=lambda lines: lines[-1].split()[1])
def test_what_the_page_says_to_type_works(commands: list[str], tmp_path: Path) -> None:
    pytest.importorskip("torchvision")
    shutil.copytree(EXAMPLES, tmp_path / "examples")
    for command in commands:
        needs_dali = "dali" in command or "images.toml" in command
        if needs_dali and importlib.util.find_spec("nvidia.dali") is None:
            continue
        done = subprocess.run(
            [*COMMAND, *short(command)],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=300,
            env=environment(),
            check=False,
        )
        said = done.stderr
        assert done.returncode == 0, said
        assert "Traceback" not in said
        if "--apply" in command:
            assert "in force:" in " ".join(said.split()), said


@pytest.mark.slow
@pytest.mark.parametrize("block", blocks("python"))
def test_the_lines_for_a_script_work(block: str, tmp_path: Path) -> None:
    pytest.importorskip("torchvision")
    shutil.copytree(EXAMPLES, tmp_path / "examples")
    (tmp_path / "script.py").write_text(block, "utf-8")
    done = bare(sys.executable, "script.py", *SHORT["imagefolder.py"], cwd=tmp_path)
    said = done.stderr.decode()
    assert done.returncode == 0, said
    assert "in force: loader-workers, fused-optimizer" in said
