"""The report in the terminal: about twenty lines, the verdict first."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from speedprof.profiler.run import PHASES
from speedprof.reports import measured, plan_words, sections_applied, wording
from speedprof.reports.escape import visible
from speedprof.reports.terminal import in_memory, safe

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from speedprof.advisor.finding import Finding
    from speedprof.mitigations.catalogue import Advice
    from speedprof.profiler.run import Phase
    from speedprof.reports.view import View

COLORS = {  # of the page's dark palette, so that a phase looks the same everywhere
    "data_loading": "#ffb605",
    "host_to_device": "#ef611a",
    "compute": "#366fdd",
    "communication": "#9e5c80",
    "host": "#aae8ca",
    "outside": "#9ca9bb",
}
NARROWEST, WIDEST = 40, 100  # columns: below, nothing fits; beyond, lines are hard to read
LABEL = 17  # columns of the phase names
LONGEST_CODE = 72
MOST = 3  # remedies and findings; the page has them all


def render(view: View, *, width: int = 80, color: bool = False, report: str | None = None) -> str:
    """Return the report as lines for a terminal; `report` is where the page lies."""
    console = in_memory(min(max(width, NARROWEST), WIDEST), color=color)
    _headline(console, view)
    if view.run.phases is not None:
        _bars(console, view.run.phases, wording.unseen_phases(view.run))
    _measured(console, view)
    _evidence(console, view)
    _remarks(console, view)
    _remedies(console, view)
    _footer(console, view, report)
    written: io.StringIO = console.file  # type: ignore[assignment]
    return "\n".join(line.rstrip() for line in written.getvalue().splitlines()) + "\n"


def _headline(console: Console, view: View) -> None:
    run = view.run
    console.rule(safe(f"speedprof · {run.name}", "dim"), style="dim", align="left")
    finding = view.judgement.verdict.finding
    style = "bold" if finding is None else f"bold {COLORS[finding.phase]}"
    console.print(safe(view.judgement.verdict.sentence, style))
    ending = wording.ending(run)
    if ending is not None:
        console.print(safe(f"Note: {ending}", "yellow"))
    console.print(safe(wording.step_line(run), "dim"))


def _bars(console: Console, phases: dict[str, Phase], unseen: frozenset[str]) -> None:
    """Draw the step from left to right, a line for each phase, so that it reads without colour."""
    room = console.width - LABEL - 26
    start = 0.0
    console.print()
    for name in PHASES:
        phase = phases[name]
        line = safe(f" {wording.PHASE_NAMES[name]}".ljust(LABEL))
        if name in unseen:
            line.append(f"{' ' * room} {wording.DASH:>4}", style="dim")
            console.print(line, no_wrap=True, overflow="crop")
            continue
        line.append(_bar(start, phase.share, room), style=COLORS[name])
        line.append(f" {wording.percent(phase.share):>4}", style="bold")
        line.append(f" {wording.spread(phase.low, phase.high):<6}", style="dim")
        line.append(f" {wording.ms(phase.ms):>11}")
        console.print(line, no_wrap=True, overflow="crop")
        start += phase.share


def _bar(start: float, share: float, room: int) -> str:
    if share <= 0:
        return " " * room
    first = round(start * room)
    last = round((start + share) * room)
    first = min(first, room - 1)
    drawn = "█" * (last - first) if last > first else "▏"
    return (" " * first + drawn).ljust(room, " ")


def _measured(console: Console, view: View) -> None:
    sentences = measured.sentences(view)
    if sentences:
        console.print()
    for sentence in sentences:
        _row(console, "", safe(sentence[0].upper() + sentence[1:]))
    for sentence in sections_applied.by_dali(view.run, MOST):
        _row(console, "", safe(sentence[0].upper() + sentence[1:], "dim"))


def _evidence(console: Console, view: View) -> None:
    roots = [finding for finding in view.judgement.findings if finding.symptom_of is None]
    if not roots:
        return
    console.print()
    for finding in roots[:MOST]:
        _row(console, wording.percent(finding.share), _finding(finding))


def _remarks(console: Console, view: View) -> None:
    """Say what is wrong with the training and costs no time, apart from what does."""
    if not view.judgement.remarks:
        return
    console.print()
    for remark in view.judgement.remarks[:MOST]:
        line = safe(remark.sentence[0].upper() + remark.sentence[1:])
        line.append_text(safe(f"  {remark.remedy} does it", "dim"))
        _row(console, "!", line)


def _finding(finding: Finding) -> Text:
    line = safe(finding.evidence)
    if finding.where is not None and finding.where not in finding.evidence:
        line.append("  ")
        line.append_text(safe(finding.where, "cyan"))
    return line


def _remedies(console: Console, view: View) -> None:
    if not view.advice:
        return
    console.print()
    for place, advice in enumerate(view.advice[:MOST], start=1):
        _row(console, f"{place}.", _remedy(advice))
    more = len(view.advice) - MOST
    if more > 0:
        _row(console, "", safe(f"and {more} more in the report", "dim"))
    together = plan_words.sentence(view)
    if together is not None:
        _row(console, "", safe(together))


def _remedy(advice: Advice) -> Text:
    mitigation, fit = advice.mitigation, advice.fit
    line = safe(mitigation.name, "bold")
    line.append("  ")
    line.append_text(safe(wording.gain(fit.gain), "green" if fit.gain else "dim"))
    facts = (wording.SAFETY_WORDS[mitigation.safety], wording.HOW_WORDS[mitigation.how])
    line.append_text(safe(f"  {' · '.join(facts)}", "dim"))
    code = _on_one_line(fit.by_hand)
    if code:
        line.append("\n")
        line.append_text(safe(_shortened(code), "cyan"))
    return line


def _on_one_line(code: str) -> str:
    """Return code without its comments, unless comments are all there is."""
    lines = [line.partition(" #")[0].strip() for line in code.splitlines()]
    kept = [line for line in lines if line and not line.startswith("#")] or code.split()
    return " ".join(kept).rstrip(",").replace("( ", "(").replace(", )", ")").replace(",)", ")")


def _shortened(code: str) -> str:
    code = visible(code)
    return code if len(code) <= LONGEST_CODE else code[: LONGEST_CODE - 1] + "…"


def _footer(console: Console, view: View, report: str | None) -> None:
    gaps = view.run.not_measured
    console.print()
    if gaps:
        reasons: dict[str, list[str]] = {}
        for gap in gaps:
            reasons.setdefault(_short(gap.why), []).append(gap.what.replace("_", " "))
        named = ", ".join(f"{', '.join(whats)} ({why})" for why, whats in reasons.items())
        console.print(safe(f"Not measured: {named}", "dim"))
    for note in view.run.notes[:MOST]:
        console.print(safe(f"Note: {note}", "dim"))
    if report is not None:
        console.print(safe("Report: ").append_text(safe(report, "cyan")), soft_wrap=True)


def _short(why: str) -> str:
    """Return the reason without the advice that may follow it; the page has both."""
    return why.partition(";")[0]


def _row(console: Console, label: str, content: Text) -> None:
    """Print text with a hanging indent behind a short label."""
    from rich.table import Table

    table = Table.grid(padding=(0, 1, 0, 0))
    table.add_column(width=5, justify="right", style="bold")
    table.add_column(ratio=1, overflow="fold")
    table.add_row(label, content)
    console.print(table)
