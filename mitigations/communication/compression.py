"""Where compressing gradients is worth a thought at all: slow links, and no hook as yet."""

from __future__ import annotations

from speedprof.advisor.shares import number
from speedprof.mitigations.communication.wrapping import (
    NOT_DDP,
    ddp_models,
    hooked,
    link_gb_per_s,
)
from speedprof.profiler.run import Run

# A link faster than 40 Gbit/s is the data centre's, where compression did not pay (MLSys 2022).
FAST_GB_PER_S = 5.0


def unsuited(run: Run) -> str | None:
    """Return why gradients cannot or should not be compressed, None where they may."""
    if not ddp_models(run):
        return NOT_DDP
    if hooked(run):
        return "a communication hook is registered already, and DDP takes one"
    if any(one.name == "bf16-gradients" and one.effects for one in run.applied):
        return "gradients travel in bfloat16 already"
    speed = link_gb_per_s(run)
    if speed is None:
        return "bytes and time of the exchange were not measured"
    if speed > FAST_GB_PER_S:
        return f"{number(speed)} GB/s is a fast link: compression seldom pays there"
    return None
