"""The catalogue by places, by filters and as a page."""

from __future__ import annotations

from pathlib import Path

import pytest

from speedprof.mitigations import page, taxonomy
from speedprof.mitigations.catalogue import CATALOGUE
from speedprof.mitigations.mitigation import ACTIONS, COMPONENTS

DOCS = Path(page.__file__).parents[1] / "docs"


def test_each_remedy_stands_in_one_place() -> None:
    cells = [one.name for cell in taxonomy.grid(CATALOGUE).values() for one in cell]
    system = [one.name for phase in taxonomy.system(CATALOGUE).values() for one in phase]
    assert sorted(cells + system) == sorted(one.name for one in CATALOGUE)


def test_the_grid_has_all_cells_in_order() -> None:
    cells = list(taxonomy.grid(CATALOGUE))
    assert cells == [(action, component) for action in ACTIONS for component in COMPONENTS]


@pytest.mark.parametrize(
    ("filters", "found", "missing"),
    [
        ({"bottleneck": ("data_loading", "storage")}, "nearer-storage", "in-process-loading"),
        ({"bottleneck": ("data_loading", None)}, "in-process-loading", "tf32"),
        ({"action": "system"}, "pin-memory", "larger-batch"),
        ({"action": "replace"}, "larger-batch", "pin-memory"),
        ({"component": "optimization"}, "bf16-gradients", "pin-memory"),
        ({"safety": "exact"}, "pin-memory", "tf32"),
        ({"safety": "rounding", "bottleneck": ("compute", None)}, "tf32", "smaller-batches"),
    ],
)
def test_filters_keep_what_fits_all_of_them(
    filters: dict[str, object], found: str, missing: str
) -> None:
    names = [one.name for one in taxonomy.select(CATALOGUE, **filters)]  # type: ignore[arg-type]
    assert found in names
    assert missing not in names


def test_the_documentation_is_what_the_cards_say() -> None:
    written = (DOCS / "catalogue.md").read_text(encoding="utf-8")
    assert written == page.render(), "run `make catalogue`"


def test_every_link_of_the_page_leads_to_a_remedy() -> None:
    text = page.render()
    for one in CATALOGUE:
        assert f"[{one.name}](#{one.name})" in text
        assert f"\n### {one.name}\n" in text
