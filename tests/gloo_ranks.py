"""Two processes that train together over gloo, for tests of what ranks exchange."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import sys
import traceback
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

RANKS = 2
PATIENCE_S = 120  # importing torch twice on a busy machine is most of it
Cases = dict[str, Callable[[], Any]]


def together(cases: Cases, folder: Path) -> dict[str, list[Any]]:
    """Run each case on all ranks; return by its name what each rank returned, or what it raised.

    The cases share their processes, as starting these takes longer than any of them.
    """
    context = multiprocessing.get_context("spawn")
    ranks = [
        context.Process(target=_rank, args=(cases, rank, str(folder))) for rank in range(RANKS)
    ]
    for one in ranks:
        one.start()
    for one in ranks:
        one.join(PATIENCE_S)
        if one.is_alive():
            one.kill()
    told = [pickle.loads((folder / f"{rank}.pickle").read_bytes()) for rank in range(RANKS)]
    return {name: [of_rank[name] for of_rank in told] for name in cases}


def _rank(cases: Cases, rank: int, folder: str) -> None:
    import torch
    from torch import distributed

    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo",
        init_method=f"file://{folder}/store",
        rank=rank,
        world_size=RANKS,
        timeout=timedelta(seconds=PATIENCE_S / 2),
    )
    found: dict[str, Any] = {}
    for name, case in cases.items():
        try:
            found[name] = case()
        except Exception:
            found[name] = traceback.format_exc()
            break
        finally:
            for missing in cases:
                found.setdefault(missing, "not reached")
            Path(folder, f"{rank}.pickle").write_bytes(pickle.dumps(found))
        found = {key: value for key, value in found.items() if value != "not reached"}
    sys.stdout.flush()
    os._exit(0)  # gloo aborts a process that ends while its threads let go of tensors
