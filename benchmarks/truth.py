"""Does a report move by what was injected? Known stalls in each phase, with and without, in pairs.

    python benchmarks/truth.py --out benchmarks/results          # forty minutes on two cores
    python benchmarks/truth.py --out /tmp/results --quick

A pair is the same script under `speedprof run`, bare and with a stall of 1, 5, 20 or 100 ms a
step. The script times the stall itself, on the steps that no window touched (see stalls.py); the
report of the stalled run, less the other's, must show as much in the stall's own phase, and
nothing in the others. What a stall does to the rest of the step (caches that cooled, a core that
another thread took) is no error of the report: by how much more the whole step grew than the
stall, by the script's own clock, is allowed beside the tolerance.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pairs
import records
import tools

STALLS = (
    "loader-sleep",
    "loader-busy",
    "loader-sleep-2-workers",
    "loader-busy-2-workers",
    "generator-sleep",
    "generator-busy",
    "compute-forward",
    "compute-backward",
    "communication-transfer",
    "communication-straggler",
    "host-sleep",
    "host-busy",
    "outside-checkpoint",
    "outside-evaluation",
)
SIZES_MS = (1, 5, 20, 100)
WARMUP, STEPS = 10, 100
TOLERANCE, TOLERANCE_MS = 0.02, 0.3  # of the stall; whichever is more
SUM = 1e-9


@dataclass(frozen=True, kw_only=True)
class Seen:
    """One rank of one run: what the script measured, and what the report says (ms a step)."""

    stalled: dict[str, float]  # by phase; a phase that the script does not time is not stalled
    step: float  # whole, by the script's own clock
    phases: dict[str, float]
    sum_error: float  # of the shares, from 1


def seen(stall: str, ms: float, folder: Path, *, steps: int) -> list[Seen]:
    """Run one script under speedprof; return what there is to see of each rank."""
    ranks = 2 if stall.startswith("communication") else 1
    script = [str(tools.HERE / "stalls.py"), "--stall", stall, "--ms", str(ms)]
    script += ["--steps", str(steps), "--truth", str(folder / "truth")]
    spread = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(ranks)]
    command = [*spread, *script] if ranks > 1 else [sys.executable, *script]
    ours = [sys.executable, "-m", "speedprof", "run", "--quiet", "--out", str(folder)]
    tools.run([*ours, "--", *command], folder)
    from speedprof.profiler import attribution

    (place,) = {path.parent for path in folder.glob("**/run.json")}
    run = attribution.load(place)
    return [_rank(rank, place, folder) for rank in sorted(run.ranks, key=lambda rank: rank.rank)]


def _rank(rank: Any, place: Path, folder: Path) -> Seen:
    truth = json.loads((folder / f"truth.{rank.rank}.json").read_text())
    (record,) = place.glob(f"rank-*-{rank.pid}.rec")
    touched = records.stretches(records.rows(record))
    spans = list(zip(truth["ends"], truth["ends"][1:], truth["steps"][1:], strict=False))
    untouched = [
        (begin, end, spent)
        for begin, end, spent in spans[WARMUP:]
        if not any(records.inside((begin, end), stretch) for stretch in touched)
    ]
    plain = [spent for _begin, _end, spent in untouched]
    if not plain or rank.phases is None:
        raise tools.CommandError(f"no untraced steps or no phases in {place}")
    return Seen(
        stalled={
            phase: statistics.fmean(spent.get(phase, 0.0) for spent in plain)
            for phase in rank.phases
        },
        step=statistics.fmean(end - begin for begin, end, _spent in untouched) / 1e6,
        phases={name: phase.ms for name, phase in rank.phases.items()},
        sum_error=abs(sum(phase.share for phase in rank.phases.values()) - 1),
    )


@dataclass(frozen=True, kw_only=True)
class Moved:
    """What one stall did to one rank's report, medians over rounds (ms a step)."""

    stall: str
    rank: int
    asked_ms: float
    injected_ms: dict[str, float]  # by phase, as the script timed it
    moved_ms: dict[str, float]  # by phase, as the reports say
    drift_ms: float  # by which the whole step grew beside, as the script timed it
    sum_error: float  # of the phases' shares, largest

    @property
    def phase(self) -> str:
        """Return where most was injected."""
        return max(self.injected_ms, key=lambda name: abs(self.injected_ms[name]))

    @property
    def bar_ms(self) -> float:
        tolerance = max(TOLERANCE * self.injected_ms[self.phase], TOLERANCE_MS)
        return tolerance + abs(self.drift_ms)

    @property
    def worst(self) -> tuple[str, float]:
        """Return the phase that is furthest from the truth, and by how much."""
        errors = {name: self.moved_ms[name] - self.injected_ms[name] for name in self.moved_ms}
        name = max(errors, key=lambda name: abs(errors[name]))
        return name, errors[name]

    @property
    def right(self) -> bool:
        return abs(self.worst[1]) <= self.bar_ms and self.sum_error < SUM

    def __str__(self) -> str:
        name, error = self.worst
        return (
            f"{self.stall:24} rank {self.rank}  {self.phase:14} "
            f"injected {self.injected_ms[self.phase]:8.3f}  moved {self.moved_ms[self.phase]:8.3f}"
            f"  furthest off {name:14} {error:+7.3f}  drift {self.drift_ms:+6.3f}  "
            f"bar {self.bar_ms:.2f}  "
            f"{'right' if self.right else 'WRONG'}"
        )


def compare(stall: str, ms: float, both: list[tuple[list[Seen], list[Seen]]]) -> list[Moved]:
    """Return, for each rank, the medians over rounds of (stalled - bare)."""
    results = []
    for rank in range(len(both[0][0])):
        rounds = [(bare[rank], stalled[rank]) for bare, stalled in both]
        names = list(rounds[0][0].phases)
        results.append(
            Moved(
                stall=stall,
                rank=rank,
                asked_ms=ms,
                injected_ms={
                    name: statistics.median(s.stalled[name] - b.stalled[name] for b, s in rounds)
                    for name in names
                },
                moved_ms={
                    name: statistics.median(s.phases[name] - b.phases[name] for b, s in rounds)
                    for name in names
                },
                drift_ms=statistics.median(
                    s.step - b.step - sum(s.stalled.values()) + sum(b.stalled.values())
                    for b, s in rounds
                ),
                sum_error=max(one.sum_error for pair in rounds for one in pair),
            )
        )
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description="Hold reports to known stalls.")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--quick", action="store_true", help="one round, stalls of 5 ms")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--only", default="", help="stalls whose name contains this")
    parser.add_argument("--keep", type=Path, help="keep the run folders here")
    options = parser.parse_args()
    sizes = SIZES_MS[1:2] if options.quick else SIZES_MS
    rounds = options.rounds or (1 if options.quick else 3)
    results = []
    with tempfile.TemporaryDirectory(prefix="speedprof-truth-") as temporary:
        folder = (options.keep or Path(temporary)).resolve()
        for stall in (name for name in STALLS if options.only in name):
            results += measure(stall, sizes, rounds, folder)
    wrong = sum(not moved.right for moved in results)
    print(f"{len(results) - wrong} of {len(results)} right")
    listed = [
        {**vars(moved), "bar_ms": moved.bar_ms, "worst": moved.worst, "right": moved.right}
        for moved in results
    ]
    pairs.write(options.out, "truth", {"rounds": rounds, "stalls": listed})


def measure(stall: str, sizes: tuple[int, ...], rounds: int, folder: Path) -> list[Moved]:
    """Measure one stall at each size, interleaved with runs without it."""
    runs: dict[str, list[list[Seen]]] = {str(ms): [] for ms in (0, *sizes)}
    for number, name in pairs.interleaved(list(runs), rounds):
        place = folder / f"{stall}-{name}-{number}"
        runs[name].append(seen(stall, float(name), place, steps=STEPS))
    results = []
    for ms in sizes:
        results += compare(stall, ms, list(zip(runs["0"], runs[str(ms)], strict=True)))
    for moved in results:
        print(moved, flush=True)
    return results


if __name__ == "__main__":
    main()
