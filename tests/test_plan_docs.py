"""What the pages say of every remedy that speedprof applies by itself."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from speedprof.mitigations.applied.automatic import AUTOMATIC
from speedprof.mitigations.rewrite.rewriting import REWRITINGS

DOCS = Path(__file__).parent.parent / "docs"


def named(page: str, section: str) -> set[str]:
    """Return the names in code marks that a page's section has, without their values."""
    text = (DOCS / page).read_text("utf-8")
    _, found, rest = text.partition(f"\n## {section}\n")
    assert found, f"{page} has no section {section!r}"
    words = re.findall(r"`([^`]+)`", rest.partition("\n## ")[0])
    return {word.partition("=")[0] for word in words}


def rows(page: str, section: str) -> set[str]:
    """Return the names in the first column of the section's table."""
    text = (DOCS / page).read_text("utf-8").partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    cells = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `")]
    return {word.partition("=")[0] for cell in cells for word in re.findall(r"`([^`]+)`", cell)}


@pytest.mark.parametrize("name", AUTOMATIC)
def test_what_a_remedy_changes_in_the_process_stands_in_the_page(name: str) -> None:
    assert name in rows("changes.md", "With `--apply`")


def test_no_remedy_stands_there_twice() -> None:
    lines = (DOCS / "changes.md").read_text("utf-8").splitlines()
    cells = [line.split("|")[1] for line in lines if line.startswith("| `")]
    names = [word.partition("=")[0] for cell in cells for word in re.findall(r"`([^`]+)`", cell)]
    found = [name for name in names if name in AUTOMATIC]
    assert len(found) == len(set(found))


def test_the_page_lists_nothing_that_is_not_applied() -> None:
    assert rows("changes.md", "With `--apply`") <= set(AUTOMATIC)


@pytest.mark.parametrize("name", AUTOMATIC)
def test_a_remedy_is_written_out_or_as_a_call(name: str) -> None:
    written = rows("apply.md", "What is written")
    called = named("apply.md", "What is written as a call")
    assert (name in written) == (name in REWRITINGS)
    assert (name in called) == (name not in REWRITINGS)


def test_every_route_stands_in_the_first_page() -> None:
    text = (DOCS / "getting-started.md").read_text("utf-8")
    for route in (
        "speedprof run --apply loader-workers=2,tf32 train.py",
        "speedprof run --apply plan.toml train.py",
        'speedprof.apply("plan.toml")',
        "speedprof apply --write",
        "speedprof tune train.py",
        "speedprof run --apply dali-loading train.py",
    ):
        assert route in text
