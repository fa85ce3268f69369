"""Does advice come true? The top remedy of each script, applied, against what was predicted.

    python benchmarks/advice.py --out benchmarks/results       # fifteen minutes on two cores
    python benchmarks/advice.py --out /tmp/results --quick --only storage
    python benchmarks/advice.py --out benchmarks/results --page docs/scoreboard.md --no-runs

The examples and the planted scripts run under `speedprof run`; of each, the first remedy of the
advice that can be applied here is applied by argument or by other lines (remedied.py says how),
and scripts without and with it run in turn, A B B A. The gain is the ratio of mean step times,
with the interval of profiler/comparison.py over the steps of all rounds. Everything computes on
one thread: where another program holds a core, two wait for each other, and nothing is predicted.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pairs
import remedied
import tools
from changes import CHANGES
from changes_network import NETWORKS
from scoreboard import Row, Skipped, page, summary

ROOT = Path(__file__).parent.parent
SCRIPTS, EXAMPLES = ROOT / "tests" / "scripts", ROOT / "examples"
ROUNDS, TIMEOUT_S = 3, 300
MEASURABLE = 1.08  # the middle of such a range is within the 5 % that two runs differ by here
SKIPPED = {  # why nobody applies a remedy here, where no change is written down for it
    "balanced-ranks": "the ranks do the same work",
    "dali-loading": "has tests of its own",
    "raw-pixels": "a tool that writes another data set",
    "decode-on-gpu": "needs a GPU",
    "bf16-gradients": "changes the training",
    "fewer-exchanges": "changes the training",
    "larger-batch": "changes the training",
    "nearer-storage": "the slow storage is simulated, there is no nearer one",
    "sharded-files": "the slow storage is simulated, shards would be as slow",
}


@dataclass(frozen=True, kw_only=True)
class Script:
    """One training to advise on."""

    path: Path
    arguments: tuple[str, ...] = ()
    ranks: int = 1
    always: tuple[remedied.Change, ...] = ()  # to all its runs

    @property
    def name(self) -> str:
        return self.path.stem


def _planted(name: str, ranks: int = 1) -> Script:
    always = (NETWORKS[name],) if name in NETWORKS else ()
    return Script(path=SCRIPTS / f"{name}.py", ranks=ranks, always=always)


PICTURES = ("--data", "<data>", "--steps", "90", "--epochs", "10")
# its stalls are as long as the computing of the step before: computing that gets faster would
# make everything faster, and no profiler can know that
PACED = remedied.Change(
    words="stalls of one length",
    texts=(("        pace.computing_s = time.perf_counter() - began\n", ""),),
)
ALL = (
    Script(path=EXAMPLES / "imagefolder.py", arguments=PICTURES),
    Script(path=EXAMPLES / "charlm.py", arguments=("--steps", "120", "--evaluate-every", "1000")),
    Script(path=EXAMPLES / "ddp.py", arguments=("--steps", "80"), ranks=2),
    _planted("storage"),
    _planted("storage_workers"),
    _planted("cpu_preparation"),
    _planted("cpu_preparation_worker"),
    _planted("generator"),
    _planted("batch_function"),
    _planted("worker_handoff"),
    _planted("startup"),
    _planted("arithmetic"),
    _planted("convolution"),
    _planted("memory_bandwidth"),
    _planted("optimizer_state"),
    _planted("transfer", ranks=2),
    _planted("straggler", ranks=2),
    _planted("python_work"),
    _planted("synchronisation"),
    _planted("checkpoint"),
    _planted("evaluation"),
    _planted("slow_logging"),
    Script(path=SCRIPTS / "balanced.py", always=(PACED,)),
)


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """The remedy that is tried on one script."""

    advice: Any  # mitigations.catalogue.Advice
    place: int  # 1 is the one that the report shows first
    change: remedied.Change


def profiled(script: Script, folder: Path, chosen: Chosen | None, *, windows: bool) -> Path:
    """Run a script once under speedprof, changed where a remedy is chosen; return the run."""
    parameters = chosen.advice.fit.parameters if chosen else {}
    changes = (*script.always, *([chosen.change, *threads(chosen)] if chosen else []))
    path = remedied.copied(script.path, changes, parameters, folder / "script")
    given = [*script.arguments, *(word for change in changes for word in change.arguments)]
    names = {**parameters, "data": folder.parent.parent / "pictures"}
    arguments = [remedied.filled(word, names) for word in given]
    spread = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    ranks = [*spread, "--nproc-per-node", str(script.ranks)]
    start = ranks if script.ranks > 1 else [sys.executable]
    ours = [sys.executable, "-m", "speedprof", "run", "--quiet", "--out", str(folder / "runs")]
    options = [] if windows else ["--no-windows"]
    command = [*ours, *options, "--", *start, str(path), *arguments]
    tools.run(command, folder / "output", timeout_s=TIMEOUT_S)
    (run,) = {found.parent for found in (folder / "runs").glob("*/run.json")}
    return run


def threads(chosen: Chosen) -> list[remedied.Change]:
    """Return the change for compute threads where the advised lines set them."""
    found = re.search(r"torch\.set_num_threads\((\d+)\)", chosen.advice.fit.by_hand)
    return [remedied.on_threads(int(found.group(1)))] if found else []


def advised(run: Path) -> tuple[Any, ...]:
    """Return what speedprof advises on a run, best first."""
    from speedprof.advisor.judgement import judge
    from speedprof.mitigations.catalogue import advise
    from speedprof.profiler import attribution

    loaded = attribution.load(run)
    return advise(loaded, judge(loaded))


def choose(name: str, advice: tuple[Any, ...]) -> tuple[Chosen | None, list[Skipped]]:
    """Return the first remedy that can be applied here, and those before it with the reason."""
    passed = []
    for place, one in enumerate(advice, start=1):
        remedy = one.mitigation.name
        change = CHANGES.get(name, {}).get(remedy)
        if one.fit.gain is None:
            passed.append(Skipped(remedy=remedy, why="its gain cannot be predicted"))
        elif one.fit.gain.high < MEASURABLE:
            passed.append(Skipped(remedy=remedy, why="predicted to gain less than runs differ"))
        elif change is None:
            why = SKIPPED.get(remedy, "not written down for this script")
            passed.append(Skipped(remedy=remedy, why=why))
        else:
            return Chosen(advice=one, place=place, change=change), passed
    return None, passed


def measured(script: Script, folder: Path, rounds: int) -> Row:
    """Advise on one script, apply the remedy, and measure it."""
    advice = advised(profiled(script, folder / "advised", None, windows=True))
    chosen, passed = choose(script.name, advice)
    if chosen is None:
        return Row(script=script.name, skipped=tuple(passed))
    steps: dict[str, list[Any]] = {"before": [], "after": []}
    for number, arm in pairs.interleaved(list(steps), rounds):
        remedy = chosen if arm == "after" else None
        run = profiled(script, folder / f"{arm}-{number}", remedy, windows=False)
        steps[arm].append(_steps_of(run))
    return _row(script, chosen, passed, {arm: np.concatenate(of) for arm, of in steps.items()})


def _steps_of(run: Path) -> Any:
    from speedprof.profiler import comparison

    return comparison.steps_of(run)


def _row(script: Script, chosen: Chosen, passed: list[Skipped], steps: dict[str, Any]) -> Row:
    from speedprof.profiler import comparison

    compared = comparison.ratio_of(steps["after"], steps["before"])
    fit = chosen.advice.fit
    return Row(
        script=script.name,
        skipped=tuple(passed),
        remedy=chosen.advice.mitigation.name,
        place=chosen.place,
        how=", ".join(
            remedied.filled(change.words, fit.parameters)
            for change in (chosen.change, *threads(chosen))
        ),
        predicted=(fit.gain.low, fit.gain.high),
        model=fit.gain.model,
        measured=compared.ratio,
        interval=(compared.low, compared.high),
        before_ms=compared.new_ms,
        after_ms=compared.old_ms,
    )


def tried(script: Script, folder: Path, rounds: int) -> Row:
    """Measure one script; one that fails is a row that says so."""
    try:
        return measured(script, folder, rounds)
    except (tools.CommandError, remedied.ChangeError, subprocess.TimeoutExpired) as failed:
        return Row(script=script.name, failed=str(failed))


def main() -> None:
    parser = argparse.ArgumentParser(description="Hold predicted gains to measured ones.")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--quick", action="store_true", help="one round")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--only", action="append", help="a script's name; may be repeated")
    parser.add_argument("--no-runs", action="store_true", help="take the results in --out")
    parser.add_argument("--page", type=Path, help="write the results as a page")
    options = parser.parse_args()
    if not options.no_runs:
        _run(options)
    if options.page is not None:
        content = json.loads((options.out / "advice.json").read_text(encoding="utf-8"))
        options.page.write_text(page(content), encoding="utf-8")


def _run(options: argparse.Namespace) -> None:
    scripts = [one for one in ALL if not options.only or one.name in options.only]
    rounds = 1 if options.quick else options.rounds
    rows = []
    with tempfile.TemporaryDirectory(prefix="speedprof-advice-") as folder:
        for script in scripts:
            rows.append(tried(script, Path(folder) / script.name, rounds))
            print(rows[-1], flush=True)
    print(summary(rows))
    pairs.write(options.out, "advice", {"rounds": rounds, "rows": [row.plain() for row in rows]})


if __name__ == "__main__":
    main()
