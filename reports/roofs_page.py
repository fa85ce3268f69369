"""A machine's roofs as files of their own: a page, or the picture alone.

Both bring their colours along, by day and by night, and load nothing.
"""

from __future__ import annotations

import re
from importlib import resources
from typing import TYPE_CHECKING

from speedprof.profiler.errors import SpeedprofError
from speedprof.reports import roofs_picture, roofs_rows, wording
from speedprof.reports.escape import visible

if TYPE_CHECKING:
    from speedprof.profiler.roofs.roofs import Roofs
    from speedprof.reports.parts import Figure

_COLOURS = re.compile(r"^:root \{.*?^\}|^@media screen.*?^\}", re.DOTALL | re.MULTILINE)
_ROLES = re.compile(r"^\.(?:fill|stroke|on)-.*$", re.MULTILINE)


def svg(roofs: Roofs) -> str:
    """Return the picture as a file; raises SpeedprofError where there is nothing to draw."""
    style = _page_style()
    needed = "\n".join([*_COLOURS.findall(style), *_ROLES.findall(style)])
    ground = "svg { background: var(--paper); font-family: var(--sans); }"
    opened = _figure(roofs).svg.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1)
    first = opened.index(">") + 1
    return f"{opened[:first]}<style>{needed}\n{ground}</style>{opened[first:]}\n"


def html(roofs: Roofs) -> str:
    """Return a page with the picture and its table; raises SpeedprofError as `svg` does."""
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    figure, style = _figure(roofs), _page_style()
    environment = Environment(
        autoescape=True,
        finalize=lambda value: visible(value) if type(value) is str else value,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    page = environment.from_string(_read("roofs.html")).render(
        figure=figure,
        svg=Markup(figure.svg),  # noqa: S704 - made and escaped here
        style=Markup(style),  # noqa: S704 - ours
        machine=roofs_rows.machine_line(roofs),
        measured=roofs_rows.measured_line(roofs),
        remarks=roofs_rows.remarks(roofs),
        missing=roofs_rows.missing(roofs),
        dash=wording.DASH,
    )
    return page.lstrip() + "\n"


def _figure(roofs: Roofs) -> Figure:
    figure = roofs_picture.draw(roofs)
    if figure is None:
        raise SpeedprofError("no roof was measured, so there is nothing to draw")
    return figure


def _page_style() -> str:
    return _read("page.css")


def _read(name: str) -> str:
    return resources.files("speedprof.reports").joinpath(name).read_text("utf-8")
