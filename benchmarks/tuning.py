"""Does tune find what a person would? Its plans for planted scripts, against fixes by hand.

    python benchmarks/tuning.py --out benchmarks/results       # half an hour on two cores
    python benchmarks/tuning.py --out /tmp/results --quick --only storage
    python benchmarks/tuning.py --out benchmarks/results --page docs/tuning-scoreboard.md --no-runs

Each script of tuning_scripts.py is tuned once; then fresh runs of it take turns, forth and back:
as it is, under the plan, fixed by hand, and under the plan without each of its remedies. Threads
are as torch chooses them (or OMP_NUM_THREADS): leaving workers a core is to be found, too.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pairs
import remedied
import tools
from tuning_scoreboard import Fixed, Kept, Ratio, Refused, Row, page, summary
from tuning_scripts import PLANTED, Planted

SCRIPTS = Path(__file__).parent.parent / "tests" / "scripts"
BUDGET_MIN, QUICK_MIN = 2.0, 1.0
ROUNDS = 3
WARMUP = 25  # steps of fresh runs: what compiles, and what is kept in the first epoch, is over
TIMEOUT_S = 300
OURS = (sys.executable, "-m", "speedprof")


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One way to run a script."""

    name: str
    changes: tuple[remedied.Change, ...] = ()
    plan: Path | None = None


@dataclass(frozen=True, kw_only=True)
class Tuned:
    """What tune left behind."""

    told: dict[str, Any]  # its tune.json
    plan: Path | None
    minutes: float

    @property
    def remedies(self) -> list[dict[str, Any]]:
        return list(self.told["plan"])


def started(planted: Planted, path: Path) -> list[str]:
    """Return the command that starts a copy of a script."""
    spread = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    ranks = [*spread, "--nproc-per-node", str(planted.ranks)]
    return [*(ranks if planted.ranks > 1 else [sys.executable]), str(path)]


def run(command: list[str], folder: Path, *, timeout_s: float) -> str:
    """Run a command to its end and return what it said on stdout.

    Raises tools.CommandError where it does not end well, subprocess.TimeoutExpired where it takes
    too long.
    """
    folder.mkdir(parents=True)
    done = subprocess.run(
        command, capture_output=True, text=True, errors="replace", stdin=subprocess.DEVNULL,
        timeout=timeout_s, cwd=folder, check=False,
    )  # fmt: skip
    if done.returncode:
        tail = (done.stdout + done.stderr)[-2_000:]
        raise tools.CommandError(f"{' '.join(command)} ended with {done.returncode}:\n{tail}")
    return done.stdout


def tuned(planted: Planted, folder: Path, budget_min: float) -> Tuned:
    """Tune a copy of the script."""
    path = remedied.copied(
        SCRIPTS / f"{planted.script}.py", planted.changes, {}, folder / "script"
    )
    options = ["--json", "--budget", f"{budget_min:g}", "--out", str(folder / "runs")]
    began = time.monotonic()
    said = run(
        [*OURS, "tune", *options, "--", *started(planted, path)],
        folder / "output",
        timeout_s=60 * budget_min + TIMEOUT_S,
    )
    minutes = (time.monotonic() - began) / 60
    plan = next(iter((folder / "runs").glob("tune-*/plan.toml")), None)
    return Tuned(told=json.loads(said), plan=plan, minutes=minutes)


def steps_of(planted: Planted, arm: Arm, folder: Path) -> Any:
    """Run one arm once; return its measured steps."""
    from speedprof.profiler import comparison

    changes = (*planted.changes, *arm.changes)
    path = remedied.copied(SCRIPTS / f"{planted.script}.py", changes, {}, folder / "script")
    length = ["--warmup", str(WARMUP), "--stop-after", str(planted.steps)]
    options = ["--quiet", "--no-windows", *length, "--out", str(folder / "runs")]
    plan = ["--apply", str(arm.plan)] if arm.plan is not None else []
    command = [*OURS, "run", *options, *plan, "--", *started(planted, path)]
    run(command, folder / "output", timeout_s=TIMEOUT_S)
    (found,) = {one.parent for one in (folder / "runs").glob("*/run.json")}
    return comparison.steps_of(found)


def arms(planted: Planted, found: Tuned, folder: Path) -> list[Arm]:
    """Return all ways to run a script; those without a remedy where the plan has several."""
    ways = [Arm(name="as it is")]
    ways += [Arm(name=f"fix {n}", changes=one.changes) for n, one in enumerate(planted.fixes)]
    if found.plan is None:
        return ways
    ways.append(Arm(name="plan", plan=found.plan))
    names = [one["name"] for one in found.remedies]
    if len(names) > 1:
        ways += [
            Arm(name=f"without {name}", plan=without(found.plan, name, folder)) for name in names
        ]
    return ways


def without(plan: Path, name: str, folder: Path) -> Path:
    """Write the plan without one of its remedies; return the file."""
    from dataclasses import replace

    from speedprof.mitigations import plan_files

    whole = plan_files.read(plan)
    rest = tuple(one for one in whole.remedies if one.name != name)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"without-{name}.toml"
    path.write_text(plan_files.write(replace(whole, remedies=rest)), encoding="utf-8")
    return path


def measured(planted: Planted, folder: Path, *, budget_min: float, rounds: int) -> Row:
    """Tune one script and measure what came of it."""
    found = tuned(planted, folder / "tune", budget_min)
    ways = {arm.name: arm for arm in arms(planted, found, folder / "plans")}
    steps: dict[str, list[Any]] = {name: [] for name in ways}
    for number, name in pairs.interleaved(list(ways), rounds):
        at = folder / f"{name.replace(' ', '-')}-{number}"
        steps[name].append(steps_of(planted, ways[name], at))
    return row(planted, found, steps)


def row(planted: Planted, found: Tuned, steps: dict[str, list[Any]]) -> Row:
    """Say what fresh runs tell of a plan and of the fixes by hand."""
    bare = steps["as it is"]
    fixes = [
        Fixed(words=one.words, gain=gain(bare, steps[f"fix {number}"]))
        for number, one in enumerate(planted.fixes)
    ]
    best = max(range(len(fixes)), key=lambda number: fixes[number].gain.ratio)
    under = steps.get("plan", bare)
    return Row(
        script=planted.script,
        fixes=tuple(sorted(fixes, key=lambda one: -one.gain.ratio)),
        plan=gain(bare, under) if "plan" in steps else None,
        reached=gain(steps[f"fix {best}"], under),
        kept=tuple(
            Kept(remedy=named(one), own=gain(steps.get(f"without {one['name']}", bare), under))
            for one in found.remedies
        ),
        refused=tuple(
            Refused(remedy=named(one), why=one["why"])
            for one in found.told["tried"]
            if not one["kept"]
        ),
        ended=found.told["ended"],
        minutes=found.minutes,
        before_ms=sum(float(one[:, 0].sum()) for one in bare)
        / sum(float(one[:, 1].sum()) for one in bare),
    )


def gain(old: list[Any], new: list[Any]) -> Ratio:
    """Compare the runs of two arms, as tune compares trials."""
    from speedprof.mitigations.tuning.decision import speedup

    found = speedup(old, new)
    return Ratio(ratio=found.ratio, low=found.low, high=found.high)


def named(told: dict[str, Any]) -> str:
    inside = ", ".join(f"{key}={value}" for key, value in told["parameters"].items())
    return f"{told['name']} ({inside})" if inside else str(told["name"])


def tried(planted: Planted, folder: Path, *, budget_min: float, rounds: int) -> Row:
    """Measure one script; one that fails is a row that says so."""
    try:
        return measured(planted, folder, budget_min=budget_min, rounds=rounds)
    except (tools.CommandError, remedied.ChangeError, subprocess.TimeoutExpired) as failed:
        return Row(script=planted.script, failed=str(failed))


def main() -> None:
    parser = argparse.ArgumentParser(description="Hold tune to fixes by hand.")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--quick", action="store_true", help="one minute and one round each")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--budget", type=float, default=BUDGET_MIN, help="minutes for each")
    parser.add_argument("--only", action="append", help="a script's name; may be repeated")
    parser.add_argument("--no-runs", action="store_true", help="take the results in --out")
    parser.add_argument("--page", type=Path, help="write the results as a page")
    options = parser.parse_args()
    if not options.no_runs:
        _run(options)
    if options.page is not None:
        content = json.loads((options.out / "tuning.json").read_text(encoding="utf-8"))
        options.page.write_text(page(content), encoding="utf-8")


def _run(options: argparse.Namespace) -> None:
    scripts = [one for one in PLANTED if not options.only or one.script in options.only]
    rounds = 1 if options.quick else options.rounds
    budget = QUICK_MIN if options.quick else options.budget
    rows = []
    with tempfile.TemporaryDirectory(prefix="speedprof-tuning-") as folder:
        for planted in scripts:
            at = Path(folder) / planted.script
            rows.append(tried(planted, at, budget_min=budget, rounds=rounds))
            print(rows[-1], flush=True)
    print(summary(rows))
    told = {
        "rounds": rounds,
        "budget": budget,
        "threads": os.environ.get("OMP_NUM_THREADS"),
        "rows": [one.plain() for one in rows],
    }
    pairs.write(options.out, "tuning", told)


if __name__ == "__main__":
    main()
