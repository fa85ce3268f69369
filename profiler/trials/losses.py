"""The losses of a trial, from a fixed seed: by them a remedy's safety is proved.

Everything that draws random numbers is seeded before the script begins; what the script seeds
itself stays its own. Each outermost backward pass is given the loss: it is kept as it is, on its
device, and read when the trial is over, so that no step waits for it.
"""

from __future__ import annotations

import functools
import random
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from speedprof.profiler.session import Session

MOST = 500  # losses; later ones tell nothing more
FACT = "losses"


def install(session: Session, seed: int) -> None:
    """Seed and follow; the fact `losses` is written when the session ends."""
    import torch

    _seed(seed)
    kept: list[Any] = []
    original = torch.autograd.backward
    keep = session.fence.guard("losses", _keeper(kept))

    @functools.wraps(original)
    def backward(tensors: Any, *arguments: Any, **keywords: Any) -> None:
        keep(tensors)
        original(tensors, *arguments, **keywords)

    session.patches.replace(torch.autograd, "backward", backward, reason="keep the loss")
    told = session.fence.guard(
        "losses told", lambda: session.recorder.fact(FACT, {"losses": _read(kept)})
    )
    session.at_end.append(told)


def _seed(seed: int) -> None:
    import torch

    torch.manual_seed(seed)
    random.seed(seed)
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        numpy.random.seed(seed)


def _keeper(kept: list[Any]) -> Callable[[Any], None]:
    import torch

    def keep(tensors: Any) -> None:
        if len(kept) >= MOST or torch.compiler.is_compiling():
            return
        loss = tensors if isinstance(tensors, torch.Tensor) else next(iter(tensors), None)
        if isinstance(loss, torch.Tensor) and loss.numel() == 1:
            kept.append(loss.detach().clone())

    return keep


def _read(kept: list[Any]) -> list[float]:
    return [float(loss) for loss in kept]
