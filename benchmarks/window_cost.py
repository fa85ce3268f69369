"""What one window costs: opening it, closing it, copying its events out, reducing them.

    python benchmarks/window_cost.py --out benchmarks/results

Four training steps of a ResNet-18 on the CPU in each window. The first two costs and the copy are
the training's own; the launcher reduces beside it.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import pairs
import torch
import torchvision

from speedprof.profiler import reduction, window, window_file, window_reading

STEPS, WINDOWS = 4, 9  # of a window; the first window warms up and is left out
PARTS = ("open_ms", "close_ms", "reduce_ms")


def measure(windows: int) -> dict[str, Any]:
    """Return the cost of each part, the median over the windows, in ms."""
    torch.set_num_threads(1)
    model = torchvision.models.resnet18()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    images, labels = torch.randn(2, 3, 64, 64), torch.tensor([1, 2])

    def step() -> None:
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(images), labels).backward()
        optimizer.step()

    costs = [_one(step) for _ in range(windows + 1)][1:]
    return {
        "windows": windows,
        "steps": STEPS,
        "events": costs[0][0],
        **{
            part: pairs.estimate([cost[index] for _, cost in costs])
            for index, part in enumerate(PARTS)
        },
        "all_ms": statistics.median(sum(cost) for _, cost in costs),
    }


def _one(step: Any) -> tuple[int, tuple[float, ...]]:
    """Open a window around some steps; return its events and what each part took (ms)."""
    began = time.perf_counter()
    opened = window.Window(0, 0, STEPS)
    opened.begin()
    ready = time.perf_counter()
    edges = [time.perf_counter_ns()]
    for _ in range(STEPS):
        step()
        edges.append(time.perf_counter_ns())
    done = time.perf_counter()
    opened.end()
    opened.boundaries = list(itertools.pairwise(edges))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "one.win"
        window_file.write(str(path), opened.header(), opened.tables())
        closed = time.perf_counter()
        reduction.reduce_window(window_reading.read(path))
        reduced = time.perf_counter()
    seconds = (ready - began, closed - done, reduced - closed)
    return opened.events, tuple(1e3 * part for part in seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure what one window costs.")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--windows", type=int, default=WINDOWS)
    options = parser.parse_args()
    result = measure(options.windows)
    print(", ".join(f"{part} {result[part].median:.1f}" for part in PARTS), result["events"])
    pairs.write(options.out, "window_cost", result)


if __name__ == "__main__":
    main()
