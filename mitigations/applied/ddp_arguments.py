"""DistributedDataParallel built with other arguments: buckets, views, a static graph."""

from __future__ import annotations

import functools
from typing import Any

from speedprof.mitigations.applied.process import Applied, Process, arguments


def apply(process: Process, one: Applied) -> None:
    """Change DDP as it is built."""
    from torch.nn.parallel import DistributedDataParallel

    original = DistributedDataParallel.__init__
    fence = process.fence.guard(f"remedy {one.name}: build", _build)

    @functools.wraps(original)
    def initialise(model: Any, *positional: Any, **keywords: Any) -> None:
        if not fence(one, functools.partial(original, model), positional, keywords):
            original(model, *positional, **keywords)

    process.patches.replace(
        DistributedDataParallel, "__init__", initialise, reason=f"{one.name}: other buckets"
    )


def _build(one: Applied, build: Any, positional: Any, keywords: Any) -> bool:
    call = (positional, keywords)
    return arguments(one, "DistributedDataParallel", build, call, lambda _: dict(one.parameters))
