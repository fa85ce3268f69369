"""The page: one file, safe with any name, and readable without seeing its pictures."""

from __future__ import annotations

import base64
import hashlib
import re
import subprocess
import sys
from dataclasses import replace
from functools import cache
from itertools import pairwise

import msgspec
import pytest
from pages import Element, all_of, parse
from views import balanced, loader_bound, no_steps, nothing_measured, run, unfinished
from views_large import hostile_names, large, ranks_with_a_straggler
from views_traces import VIEWS, recorded, recorded_ranks

from speedprof.reports import to_html
from speedprof.reports.view import View

EVERY_PAGE = pytest.mark.parametrize("name", VIEWS)
LARGEST = 1_500_000  # bytes
# what a page may hold: no script, no form, nothing that loads
TAGS = {
    "html",
    "head",
    "meta",
    "title",
    "link",
    "style",
    "body",
    "a",
    "header",
    "footer",
    "nav",
    "main",
    "section",
    "div",
    "p",
    "span",
    "strong",
    "code",
    "pre",
    "h1",
    "h2",
    "h3",
    "ol",
    "ul",
    "li",
    "dl",
    "dt",
    "dd",
    "table",
    "caption",
    "thead",
    "tbody",
    "tr",
    "th",
    "td",
    "figure",
    "figcaption",
    "details",
    "summary",
    "svg",
    "desc",
    "defs",
    "g",
    "path",
    "rect",
    "line",
    "text",
    "tspan",
    "use",
    "clippath",
}


@cache
def page(name: str) -> str:
    return to_html.render(VIEWS[name]())


def elements_of(view: View) -> list[Element]:
    return parse(to_html.render(view))


def titles(elements: list[Element]) -> list[str]:
    return [heading.text for heading in all_of(elements, "h2")]


@EVERY_PAGE
def test_a_page_holds_only_what_it_may(name: str) -> None:
    for element in parse(page(name)):
        assert element.tag in TAGS
        for attribute, value in element.attributes.items():
            assert not attribute.startswith("on")
            assert attribute != "style"
            if attribute in ("href", "src", "xlink:href"):
                assert value.startswith("#") or value == "data:,"


@EVERY_PAGE
def test_the_policy_allows_the_style_sheet_by_its_hash_and_nothing_else(name: str) -> None:
    elements = parse(page(name))
    (style,) = all_of(elements, "style")
    digest = base64.b64encode(hashlib.sha256(style.text.encode()).digest()).decode()
    policy = next(
        meta.attributes["content"] for meta in all_of(elements, "meta")
        if meta.attributes.get("http-equiv") == "Content-Security-Policy"
    )  # fmt: skip
    assert f"style-src 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none';")
    assert "unsafe" not in policy


@EVERY_PAGE
def test_ids_are_unique_and_every_reference_leads_somewhere(name: str) -> None:
    elements = parse(page(name))
    ids = [element.attributes["id"] for element in elements if "id" in element.attributes]
    assert len(ids) == len(set(ids))
    for element in elements:
        wanted = element.attributes.get("aria-labelledby", "").split()
        if element.attributes.get("href", "").startswith("#"):
            wanted.append(element.attributes["href"][1:])
        wanted += re.findall(r"url\(#([^)]*)\)", element.attributes.get("clip-path", ""))
        assert set(wanted) <= set(ids)


@EVERY_PAGE
def test_headings_go_down_one_level_at_a_time(name: str) -> None:
    levels = [int(e.tag[1]) for e in parse(page(name)) if re.fullmatch("h[1-6]", e.tag)]
    assert levels.count(1) == 1
    assert levels[0] == 1
    for before, after in pairwise(levels):
        assert after <= before + 1


@EVERY_PAGE
def test_every_picture_is_told_in_words_and_numbers(name: str) -> None:
    elements = parse(page(name))
    for figure in all_of(elements, "figure"):
        below = [element for element in elements if _below(element, figure)]
        (picture,) = [svg for svg in all_of(below, "svg") if svg.attributes.get("role") == "img"]
        assert [child.tag for child in picture.children[:2]] == ["title", "desc"]
        assert all(child.text.strip() for child in picture.children[:2])
        assert all_of(below, "details")
        assert len(all_of(below, "tr")) > 1
    for svg in all_of(elements, "svg"):
        named = "aria-label" in svg.attributes or "aria-labelledby" in svg.attributes
        assert svg.attributes.get("aria-hidden") == "true" or named


@EVERY_PAGE
def test_what_scrolls_can_be_reached_and_has_a_name_of_its_own(name: str) -> None:
    regions = [e for e in parse(page(name)) if "scroll" in e.attributes.get("class", "").split()]
    for region in regions:
        assert region.attributes["tabindex"] == "0"
        assert region.attributes["role"] == "region"
        assert region.attributes["aria-label"]


@EVERY_PAGE
def test_pictures_take_their_colours_from_the_style_sheet(name: str) -> None:
    for element in parse(page(name)):
        if element.inside("svg"):
            assert element.attributes.get("fill", "none") == "none"
            assert element.attributes.get("stroke", "none") == "none"


def _below(element: Element, ancestor: Element) -> bool:
    parent = element.parent
    return parent is not None and (parent is ancestor or _below(parent, ancestor))


def test_the_verdict_and_three_remedies_come_before_anything_else() -> None:
    elements = elements_of(loader_bound())
    headings = [e.text for e in elements if e.tag in ("h1", "h2", "h3")]
    assert headings[:6] == [
        (
            "Data loading takes 61\u00a0% of each step:"
            " the training thread prepares the batches itself."
        ),
        "What to change first",
        "Prepare batches in worker processes",
        "Decode JPEG files at the size you need",
        "Store the images at training size",
        "The step",
    ]


def test_sections_come_in_the_order_of_the_contract() -> None:
    assert titles(elements_of(ranks_with_a_straggler())) == [
        "The remedy that fits",
        "The step",
        "Steps over time",
        "A traced step",
        "Where host time goes",
        "Loaders",
        "Compute",
        "Outside the step",
        "Communication and ranks",
        "The machines over time",
        "The machine against its roofs",
        "Findings",
        "All remedies",
        "What was not measured",
        "Changes and notes",
        "Environment",
    ]


def test_a_card_says_what_it_gains_and_how_safe_it_is() -> None:
    elements = elements_of(loader_bound())
    card = next(e for e in elements if e.attributes.get("class") == "card")
    words = " ".join(card.text.split())
    assert "1.4–2.1× faster" in words
    assert "41.2 ms → 19.6 ms to 29.4 ms a step" in words
    assert "Safety: other random draws" in words
    assert "by --apply loader-workers=2" in words
    assert "num_workers=2," in words
    assert "Composer and Plumber" in words


def test_sections_of_which_nothing_was_measured_are_left_out() -> None:
    assert titles(elements_of(nothing_measured())) == [
        "What was not measured",
        "Changes and notes",
        "Environment",
    ]
    assert "Steps over time" not in titles(elements_of(no_steps()))


def test_a_gap_is_listed_with_its_reason_and_shown_as_a_dash() -> None:
    elements = elements_of(loader_bound())
    gaps = next(e for e in elements if e.attributes.get("id") == "not-measured")
    assert "no CUDA device" in gaps.text
    phases = next(e for e in elements if e.attributes.get("class") == "phases")
    row = next(e for e in phases.children[-1].children if "host to device" in e.text)
    assert [cell.text for cell in row.children] == ["host to device", "–", "", "–"]


def test_a_balanced_step_offers_no_remedies() -> None:
    elements = elements_of(balanced())
    assert all_of(elements, "h1")[0].text.startswith("Nothing stands out")
    assert "All remedies" not in titles(elements)


def test_an_unfinished_run_says_so_beside_the_verdict() -> None:
    verdict = next(e for e in elements_of(unfinished()) if e.attributes.get("id") == "verdict")
    assert "The run did not finish" in verdict.text


def test_hostile_names_appear_as_text_only() -> None:
    text = to_html.render(hostile_names())
    text.encode("utf-8")
    assert "<script" not in text
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "&lt;script&gt;alert(1)" in text
    assert "\\xff" in text


def test_the_same_view_makes_the_same_page() -> None:
    assert to_html.render(loader_bound()) == page("loader_bound")


def test_a_large_run_stays_a_small_file() -> None:
    assert len(to_html.render(large()).encode()) < LARGEST


@pytest.mark.parametrize("count", [0, 1, 2])
def test_a_series_of_hardly_any_steps_is_no_error(count: int) -> None:
    whole = loader_bound().run.series
    assert whole is not None
    short = type(whole)(**{name: getattr(whole, name)[:count] for name in whole.__struct_fields__})
    elements = elements_of(replace(loader_bound(), run=run(series=short)))
    assert ("Steps over time" in titles(elements)) == (count > 1)


def test_a_run_that_lasted_no_time_is_no_error() -> None:
    still = loader_bound().run.series
    assert still is not None
    still = msgspec.structs.replace(still, wall_ms=[0.0] * 312, input_wait_ms=[0.0] * 312)
    assert "Steps over time" in titles(elements_of(replace(loader_bound(), run=run(series=still))))


def test_drawing_leaves_matplotlib_as_it_was() -> None:
    import matplotlib as mpl

    before = dict(mpl.rcParams)
    to_html.render(loader_bound())
    assert dict(mpl.rcParams) == before


def test_the_readers_matplotlib_settings_change_nothing() -> None:
    import matplotlib as mpl

    odd = {"text.usetex": True, "axes.grid": False, "lines.linewidth": 9, "svg.fonttype": "path"}
    with mpl.rc_context(odd):
        assert to_html.render(loader_bound()) == page("loader_bound")


def test_pictures_are_made_without_pyplot_and_reports_without_torch() -> None:
    program = (
        "import sys; sys.path[:0] = ['tests']; from views import loader_bound\n"
        "from speedprof.reports import to_html, to_json, to_text\n"
        "assert 'matplotlib' not in sys.modules and 'numpy' not in sys.modules\n"
        "to_html.render(loader_bound()); to_text.render(loader_bound())\n"
        "print('matplotlib.pyplot' in sys.modules, 'torch' in sys.modules)"
    )
    root = to_html.__file__.rsplit("/", 2)[0]
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr) == ("False False\n", "")


def _luminance(color: str) -> float:
    if len(color) == 4:
        color = "#" + "".join(2 * digit for digit in color[1:])
    channels = [int(color[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _contrast(one: str, other: str) -> float:
    """Return the contrast ratio of WCAG 2.2."""
    dark, light = sorted((_luminance(one), _luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def _palettes() -> dict[str, dict[str, str]]:
    style = all_of(parse(page("balanced")), "style")[0].text
    blocks = re.findall(r":root \{(.*?)\}", style, re.DOTALL)[:2]
    found = [dict(re.findall(r"--([\w-]+): (#[0-9a-f]{3,6});", block)) for block in blocks]
    return dict(zip(("light", "dark"), found, strict=True))


@pytest.mark.parametrize("mode", ["light", "dark"])
def test_text_and_pictures_have_contrast_in_both_modes(mode: str) -> None:
    from speedprof.profiler.run import PHASES

    palette = _palettes()[mode]
    for ground in ("paper", "raised"):
        for ink in ("ink", "muted", "gain", "link", "warn", "accent", "second", "mark"):
            assert _contrast(palette[ink], palette[ground]) >= 4.5  # WCAG 1.4.3 AA
    for phase in PHASES:
        assert _contrast(palette[phase], palette["paper"]) >= 3  # WCAG 1.4.11
        assert _contrast(palette[f"on-{phase}"], palette[phase]) >= 4.5


def test_the_terminal_uses_the_pages_colours() -> None:
    from speedprof.reports.to_text import COLORS

    dark = _palettes()["dark"]
    differing = {name for name, color in COLORS.items() if dark[name] != color}
    assert differing == set()


def test_a_recorded_trace_is_no_command_and_was_not_altered() -> None:
    text = to_html.render(recorded())
    assert "The command that was run" not in text
    assert "resnet50.json.gz" in text
    assert "speedprof had no part in the training" in text


def test_the_step_without_each_stall_stands_beside_the_phases() -> None:
    elements = elements_of(recorded())
    tables = [caption.text for caption in all_of(elements, "caption")]
    assert tables.index("One step without a stall") == 1 + tables.index(
        "Six phases, exclusive; together they are the step"
    )
    assert "What the GPU did" in titles(elements)


def test_late_ranks_are_listed_with_what_kept_them() -> None:
    cells = [cell.text for cell in all_of(elements_of(recorded_ranks()), "td")]
    assert "kept by host: allocator" in cells
    assert "it came late into the recorded steps" in cells


def test_flops_come_with_the_source_of_their_roof() -> None:
    text = to_html.render(recorded())
    assert "NVIDIA V100 data sheet" in text
    assert "Kinds of work with known FLOPs" in text


def test_stalls_are_shaded_through_all_lanes_of_the_timeline_and_computing_is_not() -> None:
    shaded = re.findall(
        r'class="fill-phase-(\w+)" fill-opacity="0.16"', to_html.render(recorded())
    )
    assert set(shaded) == {"data_loading", "host_to_device"}
