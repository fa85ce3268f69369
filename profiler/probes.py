"""Where the training is touched: each probe hands moments to the tracker, behind the fence.

A probe is installed by a function of its own and says what it changes through `Patches`. What
Dynamo could trace checks `torch.compiler.is_compiling()` first, which is a constant there, so
that graphs stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING

from speedprof.profiler import (
    device_probes,
    fetch_probes,
    host_probes,
    loader_probes,
    training_probes,
)

if TYPE_CHECKING:
    from speedprof.profiler.session import Session

Waiting = dict[str, Callable[[ModuleType], None]]


def install(session: Session, waiting: Waiting) -> None:
    """Install every probe; one that fails is noted, the others go on."""
    for name, installer in (
        ("loader", loader_probes.install),
        ("fetch", fetch_probes.install),
        ("training", training_probes.install),
        ("host", host_probes.install),
        ("device", device_probes.install),
    ):
        session.fence.guard(f"install {name}", installer)(session, waiting)
