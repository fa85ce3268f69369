"""What the always-on probes add to a step: blocks with them and without, in one process.

    python benchmarks/always_on.py --step-ms 10 --workers 0 --pairs 30 --out result.json

Neighbouring blocks share the machine's mood, so their difference is known to a microsecond where
whole processes would need hours. What it cannot see is what a process costs before its first step
and after its last.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import tempfile
from pathlib import Path
from typing import Any

import controlled
import pairs
import torch

# long enough for the probes' rare work (a look every 20 ms), short enough for the machine's mood
BLOCK_MS = 250.0
LEAST_STEPS, MOST_STEPS = 8, 250
UNCOUNTED = 25  # steps until Python's adaptive interpreter has settled after classes were changed
TRIMMED = 0.02  # of a block's slowest steps: other processes' time slices


@dataclasses.dataclass(frozen=True)
class Block:
    """The step of one block, in us."""

    median: float
    mean: float  # without the slowest steps
    cpu: float  # median of the training thread's CPU time, which other processes hardly touch


def block(training: controlled.Training, uncounted: int) -> Block:
    ends, cpu = controlled.train(training)
    spans = sorted(controlled.durations(ends)[uncounted:])
    kept = spans[: max(1, round(len(spans) * (1 - TRIMMED)))]
    busy = statistics.median(controlled.durations(cpu)[uncounted:])
    return Block(statistics.median(spans) / 1e3, statistics.fmean(kept) / 1e3, busy / 1e3)


def with_probes(training: controlled.Training, uncounted: int, folder: str) -> Block:
    from speedprof.profiler.session import Options, Session

    session = Session(folder, Options(windows=False))
    session.begin({})
    try:
        return block(training, uncounted)
    finally:
        session.end()


def measure(step_ms: float, *, workers: int, count: int, device: str = "cpu") -> dict[str, Any]:
    """Return what `count` pairs of blocks say of one kind of step."""
    torch.set_num_threads(1)
    counted = round(min(MOST_STEPS, max(LEAST_STEPS, BLOCK_MS / step_ms)))
    uncounted = min(UNCOUNTED, counted // 2)
    size = controlled.calibrate(step_ms, device)
    steps = 1 + uncounted + counted
    training = controlled.build(size, steps=steps, workers=workers, device=device)
    bare, probed = [], []
    with tempfile.TemporaryDirectory() as folder:
        block(training, uncounted), with_probes(training, uncounted, folder)
        for _, which in pairs.interleaved(("bare", "probed"), count):
            if which == "bare":
                bare.append(block(training, uncounted))
            else:
                probed.append(with_probes(training, uncounted, folder))
    both = list(zip(bare, probed, strict=True))
    return {
        "step_ms": step_ms,
        "workers": workers,
        "size": size,
        "steps_per_block": counted,
        "bare_us": statistics.median(b.median for b in bare),
        "added_us": pairs.estimate([p.median - b.median for b, p in both]),
        "added_cpu_us": pairs.estimate([p.cpu - b.cpu for b, p in both]),
        "added_to_mean_us": pairs.estimate([p.mean - b.mean for b, p in both]),
        "ratio": pairs.estimate([p.median / b.median for b, p in both]),
        "ratio_of_means": pairs.estimate([p.mean / b.mean for b, p in both]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Time the always-on probes within one process.")
    parser.add_argument("--step-ms", type=float, required=True)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--pairs", type=int, default=30)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    result = measure(options.step_ms, workers=options.workers, count=options.pairs)
    text = json.dumps(result, default=pairs.plain, indent=1)
    if options.out:
        options.out.write_text(text, encoding="utf-8")
    else:
        print(text)


if __name__ == "__main__":
    main()
