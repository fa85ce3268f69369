"""The report shows what each transform became, and how near; the figures are true."""

from __future__ import annotations

import json
from typing import Any

import pytest
import runs

torch = pytest.importorskip("torch")
pytest.importorskip("torchvision", reason="torchvision is not installed")
pytest.importorskip("nvidia.dali", reason="DALI is not installed")

from dali_cases import apart, applied, by_dali, by_torchvision  # noqa: E402
from torch.utils.data import DataLoader  # noqa: E402
from torchvision import transforms  # noqa: E402
from torchvision.datasets import ImageFolder  # noqa: E402

from speedprof.mitigations.applied.process import Process  # noqa: E402
from speedprof.mitigations.dali.translation import translate  # noqa: E402
from speedprof.profiler.run import InForce  # noqa: E402
from speedprof.reports import sections_applied, to_html, to_json, to_text, view  # noqa: E402

CHAIN = transforms.Compose([transforms.RandomResizedCrop(48), transforms.ToTensor()])
ALONE = "none has a time of its own"


def in_force(notes: list[str], effects: int = 1) -> Any:
    """Return the view of a run in which DALI was in force, with these notes."""
    one = InForce(name="dali-loading", parameters={}, effects=effects, notes=notes)
    return view.of(runs.run({"data_loading": 0.3}, applied=[one], loaders=[runs.loader()]))


def text(seen: Any) -> str:
    return " ".join(to_text.render(seen, width=80).split())


@pytest.fixture
def notes(root: Any, process: Process) -> list[str]:
    """Return what DALI noted of one loader that it took and one that it left."""
    one = applied(process)
    for transform in (CHAIN, transforms.Compose([transforms.Lambda(abs), CHAIN])):
        iter(DataLoader(ImageFolder(str(root), transform), 4, shuffle=True))
    return one.notes


def test_the_terminal_has_the_table_and_why_no_transform_has_a_time(notes: list[str]) -> None:
    said = text(in_force(notes))
    table = (
        "The loader of ImageFolder (18 samples) through DALI: RandomResizedCrop as a decoder or "
        "slice of that region, then resize (±1); ToTensor as crop_mirror_normalize; large JPEGs "
        "shrunk while they are decoded (±9)"
    )
    assert said.count(table) == 1
    assert said.count(ALONE) == 1
    assert "Lambda" not in said


def test_the_page_says_so_where_the_times_would_stand_and_the_json_with_the_remedy(
    notes: list[str],
) -> None:
    page = to_html.render(in_force(notes))
    section = page[page.index('<section id="loaders"') :].partition("</section>")[0]
    assert ALONE in section
    told = json.loads(to_json.render(in_force(notes)))["applied"][0]["notes"]
    assert ALONE in told[0]


def test_where_dali_made_nothing_nothing_is_said_of_it(notes: list[str]) -> None:
    for seen in (in_force(notes[1:]), in_force(notes, effects=0), in_force([])):
        assert sections_applied.by_dali(seen.run, 3) == []
        page = to_html.render(seen)
        section = page[page.index('<section id="loaders"') :].partition("</section>")[0]
        assert ALONE not in section


def test_many_loaders_are_a_line_each_up_to_three(notes: list[str]) -> None:
    many = [notes[0].replace("ImageFolder", f"Folder{number}") for number in range(5)]
    said = text(in_force(many))
    assert said.count("through DALI") == 3
    assert said.count(ALONE) == 1
    assert "2 more on the page" in said.lower()


NEAREST = transforms.InterpolationMode.NEAREST
CASES: dict[str, list[Any]] = {
    "±1": [transforms.Resize((96, 80))],
    "±25": [transforms.Resize((96, 80), NEAREST)],
    "±1.5": [transforms.CenterCrop(96), transforms.Grayscale(3)],
    "±9": [transforms.CenterCrop(96), transforms.ColorJitter(hue=(0.1, 0.1))],
    "±5, more where one clips black or white": [
        transforms.CenterCrop(96),
        transforms.ColorJitter((0.9, 0.9), (0.8, 0.8)),
    ],
    "±20": [
        transforms.CenterCrop(96),
        transforms.RandomRotation((30, 30), transforms.InterpolationMode.BILINEAR),
    ],
    "": [transforms.CenterCrop(96), transforms.RandomInvert(1.0)],
}


@pytest.mark.parametrize("near", CASES)
def test_values_are_as_near_as_the_table_says(near: str, paths: list[str]) -> None:
    chain = transforms.Compose([*CASES[near], transforms.ToTensor()])
    assert translate(chain).rows[len(CASES[near]) - 1].near == near
    found = apart(by_dali(chain, paths), by_torchvision(chain, paths))
    levels = float(near.partition(",")[0].lstrip("±") or 0)
    assert float(found[int(0.99 * len(found))]) <= levels + 0.01
