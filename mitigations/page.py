"""The catalogue as a page of the documentation, made from the cards."""

from __future__ import annotations

from collections.abc import Iterator

from speedprof.mitigations import card, taxonomy, trainers
from speedprof.mitigations.catalogue import CATALOGUE, FOLDERS
from speedprof.mitigations.mitigation import ACTIONS, COMPONENTS, Mitigation

HEAD = """\
# The catalogue of remedies

Made from the remedies' own cards by `make catalogue`; `speedprof explain` shows the same. How
gains are predicted and what is not advised is told in [remedies](remedies.md).

*Safety*: **exact** keeps every number; **reseeded** keeps the distribution and draws other random
numbers; **rounding** keeps the maths and rounds otherwise; **changes_training** needs a check of
the quality. Published figures were measured by others, elsewhere: what a remedy is worth to a run
is predicted from that run.
"""


def render() -> str:
    """Return the page in Markdown."""
    return "\n".join([HEAD, *_grid(), *(line for folder in FOLDERS for line in _folder(folder))])


def _grid() -> Iterator[str]:
    yield "## The taxonomy\n"
    yield "Remedies that change the training, by what they do (rows) to what (columns).\n"
    yield "| | " + " | ".join(f"{name}: {taxonomy.MEANING[name]}" for name in COMPONENTS) + " |"
    yield "|---" * (len(COMPONENTS) + 1) + "|"
    cells = taxonomy.grid(CATALOGUE)
    for action in ACTIONS:
        row = [_links(cells[action, component]) for component in COMPONENTS]
        yield f"| **{action}**: {taxonomy.MEANING[action]} | " + " | ".join(row) + " |"
    yield "\nRemedies that keep the training as it is, by the phase that they treat first.\n"
    yield "| phase | remedies |\n|---|---|"
    for phase, remedies in taxonomy.system(CATALOGUE).items():
        yield f"| {phase} | {_links(remedies)} |"
    yield ""


def _folder(folder: object) -> Iterator[str]:
    yield f"## {(folder.__doc__ or '').strip()}\n"
    for one in getattr(folder, "REMEDIES", ()):
        yield from _remedy(one)


def _remedy(one: Mitigation) -> Iterator[str]:
    told = card.lines(one.card)
    yield f"### {one.name}\n"
    yield one.card.strip().splitlines()[0] + "\n"
    yield f"- Treats: {treated(one)}"
    for label in (*card.LABELS, card.AGAINST):
        if label in told:
            yield f"- {label}: {told[label]}"
    if one.after:
        yield f"- After: {', '.join(one.after)}"
    if one.conflicts:
        yield f"- Not together with: {', '.join(one.conflicts)}"
    for loop, pattern in trainers.patterns(one.name).items():
        yield f"- In {loop}: `{pattern}`"
    yield ""


def treated(one: Mitigation) -> str:
    """Return the bottlenecks that it treats: "host: launch; compute"."""
    treated = [phase if cause is None else f"{phase}: {cause}" for phase, cause in one.treats]
    return "; ".join(treated) or f"no bottleneck, but {taxonomy.MENDED}"


def _links(remedies: list[Mitigation]) -> str:
    return ", ".join(f"[{one.name}](#{one.name})" for one in remedies) or "–"
