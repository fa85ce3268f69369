"""Whether threads may use an object at the same time, by what it holds."""

from __future__ import annotations

import os
import types
from itertools import islice
from typing import Any

VALUES = (
    type(None), bool, int, float, complex, str, bytes, os.PathLike, type, types.FunctionType,
    types.BuiltinFunctionType, types.MethodType,
)  # fmt: skip
LOOKED_AT = 100  # of the items in a container; the others are taken for the same
DEEPEST = 6
# Modules whose objects hold values, or only functions of them.
HARMLESS = ("numpy", "torch", "torchvision", "PIL", "pandas", "speedprof", "builtins")


def holds_values_only(dataset: Any) -> bool:
    """Tell whether a data set holds nothing that has a place of its own, such as an open file.

    What is not known to be a value is taken for something that only one thread may use.
    """
    return all(_plain(value, DEEPEST) for value in vars(dataset).values())


def _plain(value: Any, deep: int) -> bool:
    if isinstance(value, VALUES):
        return True
    if deep == 0:
        return False
    if isinstance(value, dict):
        return all(_plain(one, deep - 1) for one in islice(value.values(), LOOKED_AT))
    if isinstance(value, (list, tuple, set, frozenset, range)):
        return all(_plain(one, deep - 1) for one in islice(value, LOOKED_AT))
    if type(value).__module__.partition(".")[0] in HARMLESS:
        return True
    from torch.utils.data import Dataset

    return isinstance(value, Dataset) and all(
        _plain(one, deep - 1) for one in vars(value).values()
    )
