"""The rows of the tuner's scoreboard, and the page that shows them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from scoreboard import conditions, rounded

REACHED = 0.85  # of the speed that the best fix by hand gives


@dataclass(frozen=True, kw_only=True)
class Ratio:
    """Old step / new step with its 95 % interval; above 1 is faster."""

    ratio: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.ratio:.2f} [{self.low:.2f}, {self.high:.2f}]"

    @property
    def harmful(self) -> bool:
        """Tell whether the new one is slower beyond noise."""
        return self.high < 1.0


@dataclass(frozen=True, kw_only=True)
class Kept:
    """A remedy of the plan, and what it gains in it; `own` is that of a plan without it."""

    remedy: str
    own: Ratio


@dataclass(frozen=True, kw_only=True)
class Refused:
    """A remedy that tune did not keep, and why."""

    remedy: str
    why: str


@dataclass(frozen=True, kw_only=True)
class Fixed:
    """A fix by hand, and what it gains."""

    words: str
    gain: Ratio


@dataclass(frozen=True, kw_only=True)
class Row:
    """One script: what tune kept, and fresh runs as it is, under the plan, and fixed by hand."""

    script: str
    fixes: tuple[Fixed, ...] = ()  # the fastest first
    plan: Ratio | None = None  # None: nothing was kept
    reached: Ratio | None = None  # step fixed by hand / step under the plan
    kept: tuple[Kept, ...] = ()
    refused: tuple[Refused, ...] = ()
    ended: str = ""
    minutes: float = 0.0
    before_ms: float = 0.0
    failed: str = ""

    @property
    def harmful(self) -> tuple[str, ...]:
        return tuple(one.remedy for one in self.kept if one.own.harmful)

    @property
    def enough(self) -> bool:
        return self.reached is not None and round(self.reached.ratio, 2) >= REACHED

    def plain(self) -> dict[str, Any]:
        """Return it for JSON, with what is concluded."""
        told = {"harmful": list(self.harmful), "enough": self.enough}
        return rounded({**asdict(self), **told})

    def __str__(self) -> str:
        if self.failed or self.reached is None:
            return f"{self.script:24} FAILED: {self.failed}"
        names = ", ".join(one.remedy for one in self.kept) or "nothing kept"
        verdict = "" if self.enough else "  TOO LITTLE"
        bad = f"  HARMFUL: {', '.join(self.harmful)}" if self.harmful else ""
        return (
            f"{self.script:24} plan {self.plan or 1.0}  by hand {self.fixes[0].gain}  reached "
            f"{100 * self.reached.ratio:.0f} %{verdict}{bad}  ({names}; {self.minutes:.1f} min)"
        )


def from_plain(told: Mapping[str, Any]) -> Row:
    """Return the row that `plain` was made of."""
    fields = {name: told[name] for name in Row.__dataclass_fields__ if name in told}
    fields["plan"], fields["reached"] = _ratio(told["plan"]), _ratio(told["reached"])
    fields["fixes"] = tuple(
        Fixed(words=one["words"], gain=Ratio(**one["gain"])) for one in told["fixes"]
    )
    fields["kept"] = tuple(
        Kept(remedy=one["remedy"], own=Ratio(**one["own"])) for one in told["kept"]
    )
    fields["refused"] = tuple(Refused(**one) for one in told["refused"])
    return Row(**fields)


def _ratio(told: Mapping[str, float] | None) -> Ratio | None:
    return None if told is None else Ratio(**told)


def summary(rows: Sequence[Row]) -> str:
    """Say which bars are met."""
    measured = [row for row in rows if row.reached is not None]
    enough = [row.script for row in measured if row.enough]
    harmful = [f"{name} ({row.script})" for row in measured for name in row.harmful]
    less = [f"{row.script} ({_percent(row)})" for row in measured if not row.enough]
    failed = [row.script for row in rows if row.failed]
    reach = (
        f"{len(enough)} of {len(measured)} scripts reach {100 * REACHED:.0f} % of the best fix; "
        f"less: {', '.join(less) or 'none'}"
    )
    told = [
        reach,
        f"harmful remedies kept: {', '.join(harmful) or 'none'}",
    ]
    return "\n".join([*told, f"failed: {', '.join(failed)}"] if failed else told)


HEAD = """\
# Scoreboard of tune

Each script below was given to `speedprof tune` as it is, with a few minutes; nothing was told of
it. Then it ran in fresh processes, in turn: as it is, under the plan that tune left
(`speedprof run --apply plan.toml`), changed by hand, and under the plan without each of its
remedies. *Plan* and *by hand* are gains, the step as it is over the step then, with 95 % intervals
that hold the spread within runs and from run to run; *reached* is the speed under the plan as a
part of that of the best fix by hand.

The scripts are planted bottlenecks of the tests, made longer; those that stall train a network of
convolutions beside the stall, as on the [advisor's scoreboard](scoreboard.md). The fixes by hand
are written down in [tuning_scripts.py](../benchmarks/tuning_scripts.py): they keep samples, model,
steps and log, are nothing less safe than what tune may try (another rounding, another random
order), and go on when the planted stall is gone. Where several are written down all are measured,
and the fastest counts. A remedy that tune kept is harmful where the plan is faster without it, the
whole interval below 1.

This page is made by `python benchmarks/tuning.py --out benchmarks/results --page
docs/tuning-scoreboard.md`.
"""


def page(content: Mapping[str, Any]) -> str:
    """Return the results as a Markdown page."""
    rows = [from_plain(told) for told in content["rows"]]
    where, busy = conditions(content["machine"])
    given = content["threads"]
    threads = f" OMP_NUM_THREADS was {given}." if given else ""
    told = "\n".join(f"- {line}" for line in summary(rows).splitlines())
    measured = [row for row in rows if row.reached is not None]
    measured_on = (
        f"{where}; {content['budget']:g} minutes for each "
        f"tuning, {content['rounds']} rounds of fresh runs.{threads}{busy}"
    )
    return "\n".join(
        [
            HEAD,
            measured_on,
            "",
            told,
            "",
            "| script | ms a step | plan | by hand | reached | fixed by hand with | minutes |",
            "|---|---|---|---|---|---|---|",
            *(_line(row) for row in measured),
            "",
            *_kept(measured),
            "",
            *_refused(measured),
            "",
        ]
    )


def _line(row: Row) -> str:
    best = row.fixes[0]
    reached = _percent(row) if row.enough else f"**{_percent(row)}**"
    cells = (
        row.script, f"{row.before_ms:.3g}", str(row.plan or "nothing kept"), str(best.gain),
        reached, best.words, f"{row.minutes:.1f}",
    )  # fmt: skip
    return f"| {' | '.join(cells)} |"


def _percent(row: Row) -> str:
    if row.reached is None:
        return ""
    low, high = 100 * row.reached.low, 100 * row.reached.high
    return f"{100 * row.reached.ratio:.0f} % [{low:.0f}, {high:.0f}]"


def _kept(rows: Sequence[Row]) -> list[str]:
    """List what was kept and what it gains in its plan, measured by leaving it out."""
    lines = ["What was kept, and what it gains beside the rest of its plan:", ""]
    for row in rows:
        told = ", ".join(
            f"{one.remedy} {one.own}{' **harmful**' if one.own.harmful else ''}"
            for one in row.kept
        )
        lines.append(f"- {row.script}: {told or 'nothing'}")
    return lines


def _refused(rows: Sequence[Row]) -> list[str]:
    lines = ["What was not kept, and why:", ""]
    for row in rows:
        told = "; ".join(f"{one.remedy} ({one.why})" for one in row.refused)
        lines.append(f"- {row.script}: {f'{told}; ' if told else ''}ended because {row.ended}")
    return lines
