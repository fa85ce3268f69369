"""The page: one file that needs no network and no script, and is safe with any names it shows.

A section appears where anything of it was measured and is left out otherwise; what could not be
measured is listed once, with the reason. The page's policy allows its own style sheet, by hash,
and nothing else.
"""

from __future__ import annotations

import base64
import hashlib
import re
import shlex
import time
from importlib import resources
from typing import TYPE_CHECKING

from speedprof.profiler.run import PHASES
from speedprof.reports import (
    plan_words,
    sections_applied,
    sections_gpu,
    sections_input,
    sections_machine,
    sections_plan,
    sections_roofs,
    sections_step,
    sections_tuning,
    sections_whatif,
    wording,
)
from speedprof.reports.cards import cards
from speedprof.reports.escape import block, visible
from speedprof.reports.parts import Section

if TYPE_CHECKING:
    from collections.abc import Callable

    from jinja2 import Environment
    from markupsafe import Markup

    from speedprof.profiler.run import Run
    from speedprof.reports.view import View

_UNIT = re.compile(r"(?<=\d) (?=%|m?s\b|[kMGT]?B\b|[kMGT]?B/s\b)")
_WORD = re.compile(r"[a-z]+[ ,]")
BEST = 3  # remedies beside the verdict
SECTIONS: tuple[Callable[[Run], Section | None], ...] = (
    sections_tuning.tuning,
    sections_applied.applied,
    sections_step.over_time,
    sections_step.traced,
    sections_gpu.use,
    sections_step.host,
    sections_input.loaders,
    sections_input.copies,
    sections_step.compute,
    sections_step.outside,
    sections_machine.ranks,
    sections_machine.machines,
    sections_whatif.section,
    sections_roofs.roofs,
)


def render(view: View) -> str:
    """Return the whole page; the text is plain UTF-8 whatever the names hold."""
    style = _read("page.css")
    made = (make(view.run) for make in SECTIONS)
    template = _environment().from_string(_read("page.html"))
    page = template.render(
        view=view,
        run=view.run,
        judgement=view.judgement,
        cards=cards(view),
        best=BEST,
        sections=[section for section in made if section is not None],
        gone=sections_gpu.ceilings(view),
        plan=sections_plan.plan(view),
        together=plan_words.sentence(view),
        environment=sections_machine.environment(view.run),
        command=shlex.join(view.run.command),
        started=time.strftime("%Y-%m-%d %H:%M", time.localtime(view.run.started_at)),
        unseen=wording.unseen_phases(view.run),
        phase_names=PHASES,
        style=_trusted(style),
        style_hash=_hash(style),
        words=wording,
    )
    return page.lstrip() + "\n"


def _read(name: str) -> str:
    return resources.files("speedprof.reports").joinpath(name).read_text("utf-8")


def _hash(style: str) -> str:
    return base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()


def _environment() -> Environment:
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        autoescape=True,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    environment.filters["code"] = _code
    environment.filters["prose"] = _prose
    environment.filters["svg"] = _trusted
    return environment


def _shown(value: object) -> object:
    """Show a missing value as a dash, and a string with nothing hidden in it."""
    if value is None:
        return wording.DASH
    return visible(value) if type(value) is str else value


def _code(text: str) -> Markup:
    from markupsafe import escape

    return escape(block(text))


def _prose(sentence: str) -> str:
    """Begin with a capital, unless with a name; keep a number and its unit on one line."""
    if _WORD.match(sentence):
        sentence = sentence[0].upper() + sentence[1:]
    return _UNIT.sub("\u00a0", sentence)


def _trusted(ours: str) -> Markup:
    """Pass on markup that this package made and escaped itself."""
    from markupsafe import Markup

    return Markup(ours)  # noqa: S704
