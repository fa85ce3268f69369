"""What the documents say exists."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import click
import pytest

from speedprof.commands import COMMANDS

ROOT = Path(__file__).parent.parent
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_is_documented(name: str) -> None:
    command: click.Command = importlib.import_module(f"speedprof.commands.{name}").command
    text = (ROOT / "docs" / "options.md").read_text(encoding="utf-8")
    _, _, section = text.partition(f"## speedprof {name}")
    section = section.partition("\n## ")[0]
    options = {
        name
        for option in command.params
        if isinstance(option, click.Option)
        for name in option.opts
        if name.startswith("--")
    }
    assert section
    assert {option for option in options if f"`{option}" not in section} == set()


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_and_named_files_exist(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)#]+)", text) if "://" not in link]
    named = re.findall(r"`((?:tests|benchmarks|examples|docs|profiler|reports)/[\w./]+)`", text)
    missing = [link for link in links if not (document.parent / link).exists()]
    missing += [name for name in named if not (ROOT / name).exists()]
    assert missing == []
