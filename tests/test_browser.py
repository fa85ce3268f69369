"""The page in a real browser: quiet, alone, within the window, and reachable by keyboard."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from views_traces import VIEWS

from speedprof.reports import to_html

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chrome")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine"),
    # playwright leaves its own event loop's transports to the garbage collector
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
EVERY_PAGE = pytest.mark.parametrize("name", VIEWS)
PHONE, DESK = (360, 740), (1440, 900)
TOO_WIDE = """() => [...document.querySelectorAll("body *")].filter(e => {
  if (e.closest(".scroll, .hidden, .skip, svg") && !e.matches(".scroll, svg")) return false;
  const r = e.getBoundingClientRect();
  return r.width > 0 && (r.right > innerWidth + 0.5 || r.left < -0.5) && !e.matches(".scroll *");
}).map(e => e.tagName + "." + e.getAttribute("class"))"""
SEEN = """() => {
  const e = document.activeElement;
  if (e === document.body) return null;
  const r = e.getBoundingClientRect();
  const style = getComputedStyle(e);
  return [[...document.querySelectorAll("*")].indexOf(e),
          r.width > 0 && r.bottom > 0 && r.top < innerHeight,
          style.outlineStyle !== "none" || e.matches(".skip")];
}"""
INTERACTIVE = """() => [...document.querySelectorAll("a[href], summary, [tabindex='0']")]
  .filter(e => e.checkVisibility() && e.getClientRects().length)
  .map(e => [...document.querySelectorAll("*")].indexOf(e))"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as started:
        opened = started.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pages")
    made = {}
    for name, view in VIEWS.items():
        made[name] = folder / f"{name}.html"
        made[name].write_text(to_html.render(view()), encoding="utf-8")
    return made


class Tab:
    """A page opened from a file, with everything that it said, asked for or broke."""

    def __init__(self, browser: Browser, path: Path, **context: Any) -> None:
        self.context = browser.new_context(**context)
        self.page: Page = self.context.new_page()
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("dialog", lambda dialog: self.complaints.append(dialog.message))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(path.as_uri())


def opened(browser: Browser, path: Path, size: tuple[int, int], scheme: str = "light") -> Tab:
    viewport = {"width": size[0], "height": size[1]}
    return Tab(browser, path, viewport=viewport, color_scheme=scheme)


@EVERY_PAGE
@pytest.mark.parametrize("size", [PHONE, DESK], ids=["360", "1440"])
def test_a_page_is_quiet_asks_for_nothing_and_fits(
    browser: Browser, pages: dict[str, Path], name: str, size: tuple[int, int]
) -> None:
    tab = opened(browser, pages[name], size)
    assert tab.complaints == []
    assert [url for url in tab.requests if not url.startswith("data:")] == [pages[name].as_uri()]
    assert tab.page.evaluate("document.documentElement.scrollWidth") <= size[0]
    assert tab.page.evaluate(TOO_WIDE) == []
    tab.context.close()


def test_with_everything_unfolded_a_page_still_fits(
    browser: Browser, pages: dict[str, Path]
) -> None:
    tab = opened(browser, pages["large"], PHONE)
    tab.page.evaluate("document.querySelectorAll('details').forEach(e => e.open = true)")
    assert tab.page.evaluate("document.documentElement.scrollWidth") <= PHONE[0]
    assert tab.page.evaluate(TOO_WIDE) == []
    tab.context.close()


def test_hostile_names_run_nothing_and_are_read_as_they_are(
    browser: Browser, pages: dict[str, Path]
) -> None:
    tab = opened(browser, pages["hostile_names"], DESK)
    assert tab.complaints == []
    assert tab.page.evaluate("document.scripts.length") == 0
    assert "</script><script>alert(1)</script>" in tab.page.inner_text("h1")
    assert "\\x1b[31mred" in tab.page.inner_text("h1")
    tab.context.close()


def test_a_script_would_not_run_even_if_one_got_in(
    browser: Browser, pages: dict[str, Path], tmp_path: Path
) -> None:
    planted = tmp_path / "planted.html"
    text = pages["balanced"].read_text("utf-8")
    planted.write_text(text.replace("<main>", "<main><script>document.title='gone'</script>"))
    tab = opened(browser, planted, DESK)
    assert tab.page.title() == "train · speedprof"
    assert tab.complaints
    tab.context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_day_and_night_look_different_and_each_is_drawn(
    browser: Browser, pages: dict[str, Path], tmp_path: Path, scheme: str
) -> None:
    tab = opened(browser, pages["gpu_with_copies"], DESK, scheme)
    style = "getComputedStyle(document.querySelector('{}')).{}"
    paper = tab.page.evaluate(style.format("body", "backgroundColor"))
    compute = tab.page.evaluate(style.format("figure .fill-phase-compute", "fill"))
    expected = {
        "light": ("rgb(255, 255, 255)", "rgb(55, 146, 253)"),
        "dark": ("rgb(20, 23, 28)", "rgb(54, 111, 221)"),
    }
    assert (paper, compute) == expected[scheme]
    picture = tmp_path / f"{scheme}.png"
    tab.page.screenshot(path=picture, full_page=True)
    assert picture.stat().st_size > 50_000
    tab.context.close()


@pytest.mark.parametrize("name", ["gpu_with_copies", "ranks_with_a_straggler", "nothing_measured"])
@pytest.mark.parametrize("size", [PHONE, DESK], ids=["360", "1440"])
def test_the_tab_key_reaches_everything_and_shows_where_it_is(
    browser: Browser, pages: dict[str, Path], name: str, size: tuple[int, int]
) -> None:
    tab = opened(browser, pages[name], size)
    wanted = set(tab.page.evaluate(INTERACTIVE))
    reached = set()
    for _ in range(len(wanted) + 5):
        tab.page.keyboard.press("Tab")
        seen = tab.page.evaluate(SEEN)
        if seen is None:
            break
        place, in_view, outlined = seen
        assert in_view
        assert outlined
        reached.add(place)
    assert reached == wanted
    tab.context.close()


def test_the_first_tab_stop_skips_to_the_verdict(browser: Browser, pages: dict[str, Path]) -> None:
    tab = opened(browser, pages["loader_bound"], DESK)
    tab.page.keyboard.press("Tab")
    assert tab.page.evaluate("document.activeElement.textContent") == "Skip to the verdict"
    tab.page.keyboard.press("Enter")
    assert tab.page.evaluate("document.activeElement.id") == "verdict"
    tab.context.close()


def test_a_table_unfolds_from_the_keyboard(browser: Browser, pages: dict[str, Path]) -> None:
    tab = opened(browser, pages["loader_bound"], DESK)
    tab.page.focus("figure summary")
    tab.page.keyboard.press("Enter")
    assert tab.page.is_visible("figure details table")
    tab.context.close()


@EVERY_PAGE
def test_a_screen_reader_finds_a_name_and_a_table_for_every_picture(
    browser: Browser, pages: dict[str, Path], name: str
) -> None:
    tab = opened(browser, pages[name], DESK)
    pictures = tab.page.get_by_role("img").all()
    figures = tab.page.locator("figure").count()
    assert len(pictures) >= figures
    for picture in pictures:
        label = picture.evaluate(
            "e => e.getAttribute('aria-label') || e.getAttribute('aria-labelledby').split(' ')"
            ".map(id => document.getElementById(id).textContent.trim()).join(' ')"
        )
        assert len(label) > 10
    assert tab.page.locator("figure:has(details table tbody tr)").count() == figures
    assert tab.page.get_by_role("main").count() == 1
    assert tab.page.get_by_role("navigation", name="Contents").count() == 1
    tab.context.close()


def test_a_page_prints_on_paper(browser: Browser, pages: dict[str, Path], tmp_path: Path) -> None:
    tab = opened(browser, pages["ranks_with_a_straggler"], DESK, "dark")
    tab.page.emulate_media(media="print", color_scheme="dark")
    paper = tab.page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert paper == "rgb(255, 255, 255)"
    assert not tab.page.is_visible("nav")
    assert tab.page.pdf(format="A4").startswith(b"%PDF")
    tab.context.close()
