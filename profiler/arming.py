"""Arm the probes once torch is there: called by the injected sitecustomize, in every process that imports torch."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from types import ModuleType

Waiting = dict[str, Callable[[ModuleType], None]]


def arm(waiting: Waiting) -> None:
    """Install the probes; `waiting` maps modules that may be imported later to what is then done.

    Never raises: what fails is written nowhere yet, so it is kept for the record's first fact.
    """
    folder = os.environ.get("SPEEDPROF_RUN")
    if not folder:
        return
    from speedprof.profiler.session import Options, Session

    given = json.loads(os.environ.get("SPEEDPROF_OPTIONS", "{}"))
    options = Options(
        steps=given.get("steps"),
        stop_after=given.get("stop_after"),
        warmup=given.get("warmup", 10),
        windows=given.get("windows", True),
    )
    Session(folder, options).begin(waiting)
