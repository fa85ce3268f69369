"""Kineto traces of any size, of a training that never was: for what depends on size alone.

    python benchmarks/synthetic_traces.py --out /tmp/big.json --size 2e9

A step is laid out once (a loader's batch copied to the device, a forward pass, a backward pass on
autograd's thread, an all-reduce, an optimizer) and written again and again, with other times and
numbers. Events look as PyTorch 2.x writes them: operators, runtime calls with their kernels by
correlation, the flow events between them (ac2g), python functions, about 250 bytes each.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from synthetic_steps import DEVICE, LAYERS, Training, layout

BASE_NS = 1_700_000_000_000_000_000  # what the time stamps are relative to
STEPS_AT_ONCE = 16


@dataclass(frozen=True, kw_only=True)
class Written:
    """What was written."""

    steps: int
    events: int  # everything in traceEvents
    bytes: int


def write(path: Path, training: Training, *, steps: int) -> Written:
    """Write so many steps, a few at a time; raises ValueError for none, OSError."""
    if steps < 1:
        raise ValueError("a trace has one step at least")
    step, length = layout(training)
    template = ",\n".join(step.texts)
    holes = np.array(step.holes)
    by = {"time": length, "id": step.ids, "launch": step.launches, "step": 1}
    grows = np.array([by[kind] for kind in step.grow], float)
    with path.open("w", encoding="utf-8") as file:
        file.write(_head(training))
        for first in range(0, steps, STEPS_AT_ONCE):
            numbers = range(first, min(first + STEPS_AT_ONCE, steps))
            texts = [template % tuple((holes + grows * number).tolist()) for number in numbers]
            file.write((",\n" if first else "") + ",\n".join(texts))
        file.write("\n]}\n")
    return Written(steps=steps, events=steps * len(step.texts), bytes=path.stat().st_size)


def steps_of(size: float, training: Training) -> int:
    """Return how many steps make a trace of about so many bytes."""
    step, length = layout(training)
    middle = 1_000.0 * length, 1_000 * step.ids  # numbers have as many digits as in 1 GB
    values = [middle[0] if kind == "time" else middle[1] for kind in step.grow]
    return max(1, round(size / len(",\n".join(step.texts) % tuple(values))))


def _head(training: Training) -> str:
    said: dict[str, Any] = {
        "schemaVersion": 1,
        "deviceProperties": [{"id": DEVICE, "name": "NVIDIA A100-SXM4-40GB", "numSms": 108}],
        "cuda_runtime_version": 12010,
        "baseTimeNanoseconds": BASE_NS,
    }
    if training.world_size > 1:
        info = {"backend": "nccl", "rank": training.rank, "world_size": training.world_size}
        said["distributedInfo"] = info
    return json.dumps(said)[:-1] + ', "traceEvents": [\n'


def main() -> None:
    parser = argparse.ArgumentParser(description="Write a synthetic trace.")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--size", type=float, required=True, help="bytes, about")
    parser.add_argument("--layers", type=int, default=LAYERS)
    options = parser.parse_args()
    training = Training(layers=options.layers)
    print(write(options.out, training, steps=steps_of(options.size, training)))


if __name__ == "__main__":
    main()
