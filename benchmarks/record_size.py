"""How large the record of a very long training is.

A million steps played to the tracker, written as they are.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path
from typing import Any

LINES = 40  # source lines that synchronise, told again with the facts that grow
STEP_NS = 3_000_000


def simulate(steps: int) -> dict[str, Any]:
    """Play so many steps, each with a batch, a backward pass and an update.

    Return the files' bytes.
    """
    from speedprof.profiler.session import Options, Session
    from speedprof.profiler.steps import Source

    with tempfile.TemporaryDirectory() as folder:
        session = Session(folder, Options(windows=False))
        began = time.perf_counter()
        session.begin({})
        source, now = Source(0), time.perf_counter_ns()
        for line in range(LINES):
            session.seen.sync_calls["Tensor.item", "/home/somebody/project/train.py", line] = [
                1,
                1,
            ]
        tracker = session.tracker
        for step in range(steps):
            tracker.asked(now, source)
            tracker.received(now, now + 400_000 + step % 7_919, source, 32)
            tracker.backward_begins(now + 1_500_000)
            tracker.backward_ends(now + 1_500_000, now + 2_500_000 + step % 6_007)
            tracker.optimizer_begins(now + 2_600_000, 1)
            tracker.optimizer_ends(now + 2_900_000, 1)
            now += STEP_NS
        session.end()
        spent = time.perf_counter() - began
        sizes = {entry.name: entry.stat().st_size for entry in os.scandir(folder)}
    return {"steps": steps, "bytes": sum(sizes.values()), "seconds": spent}


def main() -> None:
    parser = argparse.ArgumentParser(description="Simulate a long training's record.")
    parser.add_argument("--steps", type=int, default=1_000_000)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    print(simulate(options.steps))


if __name__ == "__main__":
    main()
