"""Start operators that have next to nothing to do: how many Python can start in a second.

Runs in the user's interpreter: the standard library and torch. On a GPU each is one kernel, and
the last one is waited for, so that the rate is that of launches that are also done. Not yet run
on a GPU.
"""

from __future__ import annotations

from speedprof.profiler.roofs.repeats import Plain, level, seconds

CALLS = 2_000
BUDGET_S = 0.8


def measure(device: str) -> Plain:
    """Return operators a second on "cpu" or "cuda"."""
    import torch

    one = torch.ones(1, device=device)

    def several() -> None:
        for _ in range(CALLS):
            torch.add(one, one)
        if device == "cuda":
            torch.cuda.synchronize()

    return level(lambda: CALLS / seconds(several), budget_s=BUDGET_S, warmups=2)
