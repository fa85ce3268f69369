"""Arm the probes once torch is there.

Called by the injected sitecustomize, in every process that imports torch.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from types import ModuleType

from speedprof.profiler.fence import Fence

Waiting = dict[str, Callable[[ModuleType], None]]


def arm(waiting: Waiting) -> None:
    """Install the probes; `waiting` maps modules that may be imported later to what is then done.

    Never raises an error of ours: the script goes on unmeasured and the run folder says why.
    """
    folder = os.environ.get("SPEEDPROF_RUN")
    if folder:
        Fence(lambda sentence: _tell(folder, failed=sentence)).guard("arm", _arm)(folder, waiting)


def _arm(folder: str, waiting: Waiting) -> None:
    from speedprof.profiler.session import Options, Session

    given = json.loads(os.environ.get("SPEEDPROF_OPTIONS", "{}"))
    options = Options(
        steps=given.get("steps"),
        stop_after=given.get("stop_after"),
        warmup=given.get("warmup", 10),
        windows=given.get("windows", True),
        remedies=tuple(given.get("remedies", ())),
        applied_by=given.get("applied_by", ""),
        proved=given.get("proved", {}),
    )
    session = Session(folder, options)
    trial = given.get("trial")
    if trial is None:
        session.begin(waiting)
    else:
        from speedprof.profiler.trials import begin

        begin(session, waiting, trial)
    # without a step, all that the launcher has to go by
    _tell(folder, torch=sys.modules["torch"].__version__)


def _tell(folder: str, **what: str) -> None:
    line = (
        json.dumps({"pid": os.getpid(), "host": os.uname().nodename, **what}, default=str) + "\n"
    )
    with open(os.path.join(folder, "processes.jsonl"), "a", encoding="utf-8") as file:
        file.write(line)
