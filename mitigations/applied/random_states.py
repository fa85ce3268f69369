"""The generators that loading draws from: whether it did, and as they were."""

from __future__ import annotations

import random
import sys
from typing import Any


class RandomStates:
    """Where the generators of torch, Python and NumPy, and others that are given, stand now."""

    def __init__(self, *others: Any) -> None:
        import torch

        self._generators = [torch.default_generator, *(one for one in others if one is not None)]
        self._numpy = getattr(sys.modules.get("numpy"), "random", None)
        self._torch = [one.get_state() for one in self._generators]
        self._python = random.getstate()
        self._legacy = None if self._numpy is None else self._numpy.get_state()

    def moved(self) -> bool:
        """Tell whether any of them has drawn since."""
        if any(
            bool((one.get_state() != state).any())
            for one, state in zip(self._generators, self._torch, strict=True)
        ):
            return True
        return self.moved_beside_torch()

    def moved_beside_torch(self) -> bool:
        """Tell whether that of Python or of NumPy has drawn since."""
        if random.getstate() != self._python:
            return True
        return self._numpy is not None and not _alike(self._numpy.get_state(), self._legacy)

    def restore(self) -> None:
        """Set them back."""
        for one, state in zip(self._generators, self._torch, strict=True):
            one.set_state(state)
        random.setstate(self._python)
        if self._numpy is not None:
            self._numpy.set_state(self._legacy)


def _alike(one: Any, other: Any) -> bool:
    """Compare states of NumPy's legacy generator: a name, 624 words and where it stands."""
    return (
        other is not None
        and one[2:] == other[2:]
        and bool((one[1] == other[1]).all())
        and one[0] == other[0]
    )
