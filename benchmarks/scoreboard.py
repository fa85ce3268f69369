"""The rows of the advisor's scoreboard, and the page that shows them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

WIDEST = 2.5  # high / low of a predicted range
BUSY = 2.0  # load average; the scoreboard alone keeps one core busy, sometimes two
IN_RANGE = 0.8  # of the measured gains


@dataclass(frozen=True, kw_only=True)
class Skipped:
    """A remedy that is advised before the one that was tried, and why it was not."""

    remedy: str
    why: str


@dataclass(frozen=True, kw_only=True)
class Row:
    """One script: what was advised, predicted and measured. Gains are old step / new step."""

    script: str
    remedy: str | None = None  # None: there was none to try
    place: int = 0  # in the advice, from 1
    how: str = ""  # it was applied
    predicted: tuple[float, float] | None = None
    model: str = ""
    measured: float | None = None
    interval: tuple[float, float] | None = None  # 95 %
    before_ms: float | None = None
    after_ms: float | None = None
    skipped: tuple[Skipped, ...] = ()
    failed: str = ""

    @property
    def width(self) -> float | None:
        return None if self.predicted is None else self.predicted[1] / self.predicted[0]

    @property
    def in_range(self) -> bool | None:
        """Tell whether the measured gain lies in the predicted range, to two decimals."""
        if self.measured is None or self.predicted is None:
            return None
        low, high = self.predicted
        return round(low, 2) <= round(self.measured, 2) <= round(high, 2)

    @property
    def slower(self) -> bool:
        """Tell whether the remedy made the script slower, the whole interval below 1."""
        return self.interval is not None and self.interval[1] < 1.0

    def plain(self) -> dict[str, Any]:
        """Return it for JSON, with what is concluded."""
        told = {"width": self.width, "in_range": self.in_range, "slower": self.slower}
        return rounded({**asdict(self), **told})

    def __str__(self) -> str:
        if self.failed:
            return f"{self.script:24} FAILED: {self.failed}"
        before = "".join(f"; not {one.remedy}: {one.why}" for one in self.skipped)
        if self.predicted is None or self.measured is None or self.interval is None:
            return f"{self.script:24} nothing to try{before}"
        verdict = "in range" if self.in_range else "OUT OF RANGE"
        return (
            f"{self.script:24} {self.remedy:22} predicted {span(self.predicted):11} "
            f"measured {self.measured:.2f} [{span(self.interval)}]  {verdict}"
            f"{', TOO WIDE' if (self.width or 0) > WIDEST else ''}"
            f"{', SLOWER' if self.slower else ''}{before}"
        )


def from_plain(told: dict[str, Any]) -> Row:
    """Return the row that `plain` was made of."""
    names = set(Row.__dataclass_fields__)
    fields = {name: value for name, value in told.items() if name in names}
    skipped = tuple(Skipped(**one) for one in told["skipped"])
    pairs = {name: told[name] and tuple(told[name]) for name in ("predicted", "interval")}
    return Row(**{**fields, **pairs, "skipped": skipped})


def span(pair: tuple[float, float]) -> str:
    return f"{pair[0]:.2f}-{pair[1]:.2f}"


def summary(rows: Sequence[Row]) -> str:
    """Say how many predictions came true, and which bars are met."""
    tried = [row for row in rows if row.measured is not None]
    right = sum(bool(row.in_range) for row in tried)
    wide = [row.script for row in tried if (row.width or 0.0) > WIDEST]
    slower = [row.script for row in tried if row.place == 1 and row.slower]
    failed = [row.script for row in rows if row.failed]
    enough = bool(tried) and right >= IN_RANGE * len(tried)
    asked = f"{100 * IN_RANGE:.0f} % asked: {'met' if enough else 'NOT met'}"
    told = [
        f"{right} of {len(tried)} measured gains in the predicted range ({asked})",
        f"ranges wider than {WIDEST}: {', '.join(wide) or 'none'}",
        f"slower with the remedy that was ranked first: {', '.join(slower) or 'none'}",
    ]
    return "\n".join([*told, f"failed: {', '.join(failed)}"] if failed else told)


HEAD = """\
# Scoreboard of the advisor

Advice is worth what comes true of it. Each script below ran under `speedprof run`; the first
remedy of its report that can be applied on this machine was applied, by argument or by changing
the lines that the report names, and the script ran without and with it in turn. *Predicted* is the
range that the report gave, *measured* the ratio of the mean step times with its 95 % interval.
All of them compute on one thread.

What is predicted, and how, in short; each report says it with its own numbers:

- A stall that goes away: 1 / (1 - share), at least with the part that surely goes.
- Work that becomes rare or hides behind the rest: what is left of it, and the longer of the two.
- A loader with k workers on c cores: what its batches cost in CPU time and in waiting, what the
  rest of the step keeps busy, what handing over costs, and what the storage can give.
- Kernels that run faster: Amdahl's law by class of kernels, with the ratio of the machine's roofs
  where they were measured.
- Several remedies: one pipeline in which each acts on what the others leave, and hidden work comes
  to light. Gains are never added up.

The scripts are the [examples](../examples) and the planted bottlenecks of the tests. Those plant a
stall beside next to nothing; here the ones that stall train a network of convolutions beside it,
about 20 ms a step, as a training that asks for advice does. Some constants of the models were set
by what these scripts and this kind of machine showed: the board says that the models hold
together, not that they hold everywhere. This page is made by
`python benchmarks/advice.py --out benchmarks/results --page docs/scoreboard.md`.
"""


def page(content: dict[str, Any]) -> str:
    """Return the results as a Markdown page."""
    rows = [from_plain(told) for told in content["rows"]]
    where, busy = conditions(content["machine"])
    told = "\n".join(f"- {line}" for line in summary(rows).splitlines())
    return "\n".join(
        [
            HEAD,
            f"{where}; rounds: {content['rounds']}.{busy}",
            "",
            told,
            "",
            "| script | remedy | how | predicted | measured | |",
            "|---|---|---|---|---|---|",
            *(_line(row) for row in rows if row.measured is not None),
            "",
            *_passed(rows),
            "",
        ]
    )


def conditions(machine: Mapping[str, Any]) -> tuple[str, str]:
    """Say when and on what machine it was measured, and what ran beside it."""
    where = f"{machine['cpu']}, {machine['cores']} cores, torch {machine['torch']}"
    load = max(machine["load_average"])
    busy = f" Other programs ran beside it (load average {load:.1f})." if load > BUSY else ""
    return f"Measured on {machine['date'][:10]}: {where}", busy


def _line(row: Row) -> str:
    assert row.predicted is not None
    assert row.measured is not None
    assert row.interval is not None
    measured = f"{row.measured:.2f} [{row.interval[0]:.2f}, {row.interval[1]:.2f}]"
    verdict = "in range" if row.in_range else "**off**"
    cells = (row.script, row.remedy, row.how, span(row.predicted), measured, verdict)
    return f"| {' | '.join(str(cell) for cell in cells)} |"


def _passed(rows: Sequence[Row]) -> list[str]:
    """Say which remedies were advised first and not tried, and where there was none to try."""
    lines = [
        f"- {row.script}: {', '.join(f'{one.remedy} ({one.why})' for one in row.skipped)}"
        for row in rows
        if row.skipped
    ]
    none = [row.script for row in rows if row.remedy is None and not row.failed]
    if none:
        lines.append(f"- nothing to try: {', '.join(none)}")
    return ["Advised before, and not tried:", "", *lines] if lines else []


def rounded(value: Any) -> Any:
    """Return plain data with five digits of each number."""
    if isinstance(value, float):
        return float(f"{value:.5g}")
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    return [rounded(item) for item in value] if isinstance(value, list | tuple) else value
