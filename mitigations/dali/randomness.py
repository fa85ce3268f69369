"""The generators that a script's code draws from: as they were, after we have looked at it."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def drawing_unseen() -> Iterator[Callable[[], bool]]:
    """Leave torch's, Python's and NumPy's generators as they are.

    Yields a function that tells whether something was drawn meanwhile.
    """
    import torch

    numpy: Any = sys.modules.get("numpy")
    before = torch.get_rng_state(), random.getstate(), numpy and numpy.random.get_state()

    def drew() -> bool:
        return (
            not torch.equal(torch.get_rng_state(), before[0])
            or random.getstate() != before[1]
            or (numpy is not None and _shown(numpy.random.get_state()) != _shown(before[2]))
        )

    try:
        yield drew
    finally:
        torch.set_rng_state(before[0])
        random.setstate(before[1])
        if numpy is not None:
            numpy.random.set_state(before[2])


def _shown(state: Any) -> tuple[bytes, Any]:
    return state[1].tobytes(), state[2:]


def generators_used(action: Callable[..., Any], *arguments: Any) -> tuple[Any, bool]:
    """Return what an action returns, and whether it used a generator of torch's or Python's.

    Even one that it put back afterwards: meanwhile other threads would draw from it.
    """
    import torch

    used = []

    def watch(_frame: Any, event: str, called: Any) -> None:
        owner = getattr(called, "__self__", None) if event == "c_call" else None
        if isinstance(owner, (torch.Generator, random.Random)):
            used.append(called)

    sys.setprofile(watch)  # of this thread
    try:
        made = action(*arguments)
    finally:
        sys.setprofile(None)
    return made, bool(used)
