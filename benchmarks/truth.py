"""Does a report move by what was injected? Known stalls in each phase, with and without, in pairs.

    python benchmarks/truth.py --out benchmarks/results          # forty minutes on two cores
    python benchmarks/truth.py --out /tmp/results --quick

A pair is the same script under `speedprof run`, bare and with a stall of 1, 5, 20 or 100 ms a
step. The script times the stall itself, on the steps that no window touched (see stalls.py); the
report of the stalled run, less the other's, must show as much in the stall's own phase, and
nothing in the others.
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
import tools

STALLS = {  # stall -> phase that it belongs to, by rank
    "loader-sleep": ("data_loading",),
    "loader-busy": ("data_loading",),
    "loader-sleep-2-workers": ("data_loading",),
    "loader-busy-2-workers": ("data_loading",),
    "generator-sleep": ("data_loading",),
    "generator-busy": ("data_loading",),
    "compute-forward": ("compute",),
    "compute-backward": ("compute",),
    "communication-transfer": ("communication", "communication"),
    "communication-straggler": ("communication", "host"),
    "host-sleep": ("host",),
    "host-busy": ("host",),
    "outside-checkpoint": ("outside",),
    "outside-evaluation": ("outside",),
}
SIZES_MS = (1, 5, 20, 100)
WARMUP, STEPS = 10, 100
TOLERANCE, TOLERANCE_MS = 0.02, 0.3  # of the stall; whichever is more
SUM = 1e-9


@dataclass(frozen=True, kw_only=True)
class Seen:
    """One rank of one run: what the script measured, and what the report says (ms a step)."""

    stalled: float
    wall: float
    phases: dict[str, float]
    sum_error: float  # of the shares, from 1


def seen(stall: str, ms: float, folder: Path, *, steps: int) -> list[Seen]:
    """Run one script under speedprof; return what there is to see of each rank."""
    ranks = len(STALLS[stall])
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
    touched = tools.touched(record)
    spans = list(zip(truth["ends"], truth["ends"][1:], truth["spent_ms"][1:], strict=False))
    plain = [
        (end - begin, spent)
        for begin, end, spent in spans[WARMUP:]
        if not any(begin < last and end > first for first, last in touched)
    ]
    if not plain or rank.phases is None or rank.step_ms is None:
        raise tools.CommandError(f"no untraced steps or no phases in {place}")
    return Seen(
        stalled=statistics.fmean(spent for _, spent in plain),
        wall=statistics.fmean(span for span, _ in plain) / 1e6,
        phases={name: phase.ms for name, phase in rank.phases.items()},
        sum_error=abs(sum(phase.share for phase in rank.phases.values()) - 1),
    )


@dataclass(frozen=True, kw_only=True)
class Moved:
    """What one stall did to one rank's report, medians over rounds (ms a step)."""

    stall: str
    rank: int
    asked_ms: float
    injected_ms: float
    phase: str
    moved_ms: float
    other: str  # the other phase that moved most
    other_ms: float
    sum_error: float

    @property
    def bar_ms(self) -> float:
        return max(TOLERANCE * self.injected_ms, TOLERANCE_MS)

    @property
    def right(self) -> bool:
        error = abs(self.moved_ms - self.injected_ms)
        return error <= self.bar_ms and abs(self.other_ms) <= self.bar_ms and self.sum_error < SUM

    def __str__(self) -> str:
        return (
            f"{self.stall:24} rank {self.rank}  injected {self.injected_ms:8.3f}  "
            f"{self.phase:14} {self.moved_ms:+9.3f}  {self.other:14} {self.other_ms:+7.3f}  "
            f"bar {self.bar_ms:.2f}  {'right' if self.right else 'WRONG'}"
        )


def compare(stall: str, ms: float, both: list[tuple[list[Seen], list[Seen]]]) -> list[Moved]:
    """Return, for each rank, the medians over rounds of (stalled - bare)."""
    results = []
    for rank, phase in enumerate(STALLS[stall]):
        rounds = [(bare[rank], stalled[rank]) for bare, stalled in both]
        moved = {
            name: statistics.median(s.phases[name] - b.phases[name] for b, s in rounds)
            for name in rounds[0][0].phases
        }
        other = max((n for n in moved if n != phase), key=lambda name: abs(moved[name]))
        injected = statistics.median(
            _injected(stall, rank, bare, stalled) for bare, stalled in both
        )
        results.append(
            Moved(
                stall=stall, rank=rank, asked_ms=ms, injected_ms=injected, phase=phase,
                moved_ms=moved[phase], other=other, other_ms=moved[other],
                sum_error=max(s.sum_error for pair in rounds for s in pair),
            )
        )  # fmt: skip
    return results


def _injected(stall: str, rank: int, bare: list[Seen], stalled: list[Seen]) -> float:
    if stall == "communication-straggler" and rank == 1:
        return stalled[1].wall - bare[1].wall  # the late rank sleeps before what it times
    return stalled[rank].stalled - bare[rank].stalled


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
    listed = [{**vars(moved), "bar_ms": moved.bar_ms, "right": moved.right} for moved in results]
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
