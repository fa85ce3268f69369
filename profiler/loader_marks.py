"""Who made the batches of a recorded trace: told by the name of the loader's annotation."""

from __future__ import annotations

import re
from collections.abc import Iterable

FLAG = "DataLoader"  # in run.Environment.flags
IN_PROCESS = "num_workers=0"
BY_WORKERS = "worker processes"
_IN_PROCESS = re.compile(r"enumerate\(DataLoader\)#_SingleProcess")
_BY_WORKERS = re.compile(r"enumerate\(DataLoader\)#_MultiProcess")


def flags(names: Iterable[str]) -> dict[str, str]:
    """Return the flag for a trace with events of these names; empty where they do not tell.

    A trace with both kinds (training and evaluation) does not tell which one fed the steps.
    """
    listed = list(names)
    in_process = any(_IN_PROCESS.match(name) for name in listed)
    by_workers = any(_BY_WORKERS.match(name) for name in listed)
    if in_process == by_workers:
        return {}
    return {FLAG: IN_PROCESS if in_process else BY_WORKERS}
