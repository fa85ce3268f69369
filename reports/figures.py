"""From a matplotlib figure to inline SVG that takes its colours from the page.

Figures are drawn in ink codes, colours that stand for a role; `finished` turns each into a class,
so that one style sheet decides what a phase looks like, by day, by night and in print. No pyplot,
no global state: the settings live in a context, and the ids are salted with the figure's name.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import escape

from speedprof.profiler.run import PHASES
from speedprof.reports.escape import visible

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH = 920  # user units; the page scales it
INK = {  # role -> the colour that stands for it until the picture is finished
    **{f"phase-{name}": f"#0000{index + 1:02x}" for index, name in enumerate(PHASES)},
    "ink": "#000020",
    "muted": "#000021",
    "grid": "#000022",
    "accent": "#000023",
    "mark": "#000024",
    "second": "#000025",
    "soft": "#000027",
    "paper": "#000026",
}
_ROLES = {code: role for role, code in INK.items()}
_SETTINGS = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "text.usetex": False,
    "axes.formatter.use_mathtext": False,
    "axes.unicode_minus": True,
    "path.simplify": True,
    "path.simplify_threshold": 0.5,
}
_STYLE = re.compile(r' style="([^"]*)"')
_TITLE = re.compile(r"<\?xml.*?<svg[^>]*>|</svg>\s*$", re.DOTALL)
_METADATA = re.compile(r"<metadata>.*?</metadata>\s*|<style.*?</style>\s*", re.DOTALL)
_GROUP_ID = re.compile(r'<g id="[^"]*">')
_SPACE = re.compile(r"\s*\n\s*")
_EMPTY = re.compile(r"<g>\s*</g>|<defs>\s*</defs>")
_COORDINATES = re.compile(r' (?:d|x|y|transform|width|height)="[^"]*"')
_DIGITS = re.compile(r"(\.\d)\d+")
_ID = re.compile(r'(id="|url\(#|href="#)')


@contextmanager
def drawing(name: str) -> Iterator[None]:
    """Hold matplotlib's settings still, whatever the user's matplotlibrc says; put them back."""
    import matplotlib as mpl

    defaults = {
        key: value for key, value in mpl.rcParamsDefault.items() if key.split(".")[0] in _KEPT
    }
    with (
        mpl.rc_context({**defaults, **_SETTINGS, "svg.hashsalt": name}),
        warnings.catch_warnings(),
    ):
        warnings.filterwarnings("ignore", message="Glyph")  # the reader's browser has the font
        yield


_KEPT = {"axes", "figure", "font", "lines", "patch", "path", "svg", "text", "xtick", "ytick"}


def canvas(height: int) -> Figure:
    """Return an empty figure of the page's width, in user units."""
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH / 72, height / 72), dpi=72)
    FigureCanvasSVG(figure)
    figure.patch.set_visible(False)
    return figure


def axes(
    figure: Figure,
    *,
    left: float = 64,
    right: float = 12,
    top: float = 10,
    bottom: float = 34,
    height: float | None = None,
) -> Axes:
    """Add quiet axes with margins in user units.

    `height` is that of the frame, from `bottom` up.
    """
    whole = figure.get_figheight() * 72
    tall = whole - top - bottom if height is None else height
    made = figure.add_axes(
        (left / WIDTH, bottom / whole, (WIDTH - left - right) / WIDTH, tall / whole)
    )
    made.patch.set_visible(False)
    for side in ("top", "right", "left"):
        made.spines[side].set_visible(False)
    made.spines["bottom"].set_color(INK["grid"])
    made.tick_params(length=0, labelsize=12, labelcolor=INK["muted"], pad=6)
    made.grid(visible=True, axis="y", color=INK["grid"], linewidth=1)
    made.set_axisbelow(True)
    made.margins(x=0.005)
    return made


def finished(figure: Figure, *, name: str, title: str, description: str) -> str:
    """Return the drawing as an inline SVG element with a title and a description."""
    written = io.StringIO()
    figure.savefig(written, format="svg", metadata=dict.fromkeys(_UNDATED))
    body = _METADATA.sub("", _TITLE.sub("", written.getvalue()))
    body = _GROUP_ID.sub("<g>", _STYLE.sub(_as_classes, body))
    body = _EMPTY.sub("", _SPACE.sub(" ", body)).replace("xlink:href", "href")
    body = _ID.sub(lambda match: f"{match[1]}{name}-", body)
    body = _COORDINATES.sub(lambda match: _DIGITS.sub(r"\1", match[0]), body)
    height = round(figure.get_figheight() * 72)
    return (
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img"'
        f' aria-labelledby="{name}-title {name}-desc">'
        f'<title id="{name}-title">{escape(visible(title))}</title>'
        f'<desc id="{name}-desc">{escape(visible(description))}</desc>{body}</svg>'
    )


_UNDATED = ("Date", "Creator", "Format", "Type")


def _as_classes(match: re.Match[str]) -> str:
    """Turn a style attribute, which the page's policy forbids, into classes and attributes."""
    classes: list[str] = []
    attributes: list[str] = []
    for declaration in match[1].split(";"):
        key, _, value = (part.strip() for part in declaration.partition(":"))
        if key in ("fill", "stroke") and value in _ROLES:
            classes.append(f"{key}-{_ROLES[value]}")
        elif key in _DROPPED or not key:
            continue
        else:
            attributes.append(f'{key}="{value}"')
    named = f' class="{" ".join(classes)}"' if classes else ""
    return named + "".join(f" {attribute}" for attribute in attributes)


_DROPPED = {"font", "font-family", "font-style", "font-variant", "font-weight", "font-stretch"}


def shaped(values: list[float]) -> Any:
    """Return an array for matplotlib; imported late, numpy is heavy."""
    import numpy as np

    return np.asarray(values, dtype=float)


def unit(made: Axes, text: str) -> None:
    """Write what is measured above the axes' left end, where it reads without turning the head."""
    note(made, text, at=(0, 1), offset=(0, 8))


def note(
    made: Axes,
    text: str,
    *,
    at: tuple[float, float],
    offset: tuple[float, float],
    role: str = "muted",
    side: str = "left",
) -> None:
    """Write a line beside the axes; `at` is a fraction of them, `offset` user units."""
    made.annotate(
        text, at, xycoords="axes fraction", xytext=offset, textcoords="offset points",
        color=INK[role], fontsize=12, va="bottom", ha=side,
    )  # fmt: skip


def boxes(
    made: Axes,
    corners: list[tuple[float, float, float, float]],
    role: str,
    *,
    opacity: float | None = None,
) -> None:
    """Add rectangles (left, right, bottom, top) of one role as a single artist."""
    from matplotlib.collections import PolyCollection

    if not corners:
        return
    outlines = [[(a, c), (b, c), (b, d), (a, d)] for a, b, c, d in corners]
    made.add_collection(
        PolyCollection(outlines, facecolors=INK[role], linewidths=0, alpha=opacity)
    )
