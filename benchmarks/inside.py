"""How long a step is inside our probes: a clock on both sides of each of them.

    python benchmarks/inside.py --step-ms 10

Where steps are long, a machine's own changes of mood hide what the probes add; not from these
clocks: what lies between the script's call and torch's own function is ours alone. They miss what
we evict from the caches, and count themselves; the same clocks around nothing are taken off.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

import controlled
import pairs

WARMUP, STEPS, LONGEST_S = 15, 300, 20.0


class Clocks:
    """Sums, step by step, what is spent outside less what is spent inside."""

    def __init__(self) -> None:
        self.steps: list[int] = []
        self._sum = 0

    def around(self, call: Callable[..., Any], sign: int) -> Callable[..., Any]:
        clock = time.perf_counter_ns

        def timed(*arguments: Any, **keywords: Any) -> Any:
            begin = clock()
            try:
                return call(*arguments, **keywords)
            finally:
                self._sum += sign * (clock() - begin)

        return timed

    def step(self, *_: Any) -> None:
        self.steps.append(self._sum)
        self._sum = 0


def _patched() -> list[tuple[Any, str]]:
    """Return what the probes replace that every step of a controlled training calls."""
    import torch
    from torch.utils.data import _utils
    from torch.utils.data.dataloader import _BaseDataLoaderIter

    fetcher = _utils.fetch._MapDatasetFetcher
    return [(_BaseDataLoaderIter, "__next__"), (fetcher, "fetch"), (torch.autograd, "backward")]


@contextlib.contextmanager
def _clocked(clocks: Clocks, folder: str | None) -> Iterator[None]:
    """Lay clocks around torch's functions, the probes on those, and clocks around the probes."""
    from torch.optim import optimizer

    from speedprof.profiler.session import Options, Session

    originals = [(owner, name, getattr(owner, name)) for owner, name in _patched()]
    for owner, name, original in originals:
        setattr(owner, name, clocks.around(original, -1))
    session = Session(folder, Options(windows=False)) if folder else None
    if session is not None:
        session.begin({})
    probes = [(owner, name, getattr(owner, name)) for owner, name, _ in originals]
    hooks: list[dict[int, Any]] = [
        optimizer._global_optimizer_pre_hooks,
        optimizer._global_optimizer_post_hooks,
    ]
    for owner, name, probe in probes:
        setattr(owner, name, clocks.around(probe, 1))
    for found in hooks:
        found.update({number: clocks.around(hook, 1) for number, hook in found.items()})
    try:
        yield
    finally:
        for owner, name, probe in probes:
            setattr(owner, name, probe)
        if session is not None:
            session.end()
        for owner, name, original in originals:
            setattr(owner, name, original)


def measure(step_ms: float) -> dict[str, Any]:
    """Return the time (us) that a step spends in the probes: its median, and its mean."""
    size = controlled.calibrate(step_ms)
    count = WARMUP + round(min(STEPS, LONGEST_S / step_ms * 1e3))
    spent = []
    with tempfile.TemporaryDirectory() as folder:
        for where in (None, folder):
            clocks = Clocks()
            training = controlled.build(size, steps=count)
            training.optimizer.register_step_post_hook(clocks.step)
            with _clocked(clocks, where):
                controlled.train(training)
            spent.append([nanoseconds / 1e3 for nanoseconds in clocks.steps[WARMUP:]])
    nothing, ours = spent
    own = statistics.median(nothing)
    return {
        "step_ms": step_ms,
        "inside_us": pairs.estimate([us - own for us in ours]),
        "inside_mean_us": statistics.fmean(ours) - own,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Time what a step spends inside the probes.")
    parser.add_argument("--step-ms", type=float, required=True)
    print(json.dumps(measure(parser.parse_args().step_ms), default=pairs.plain))


if __name__ == "__main__":
    main()
