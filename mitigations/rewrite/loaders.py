"""The DataLoaders that a source builds."""

from __future__ import annotations

import libcst as cst

from speedprof.mitigations.rewrite.code import Absent, Code, Refused
from speedprof.mitigations.rewrite.order import Order
from speedprof.mitigations.rewrite.torch_names import LOADER


def loaders(code: Code, order: Order) -> list[cst.Call]:
    """Return the calls of DataLoader that are meant; Refused where there is none."""
    calls = code.calls(*LOADER)
    if order.call is not None:
        return [calls[order.call]]
    if not calls:
        star = next(iter(code.stars()), None)
        if star is not None:
            raise Refused(f"names come from `from {star} import *`; import DataLoader by its name")
        raise Absent("no DataLoader is built in this file")
    return calls


def at_line(code: Code, line: int) -> int:
    """Return which of the calls of DataLoader stands in a line; Refused where none does."""
    found = [place for place, call in enumerate(code.calls(*LOADER)) if line in code.lines(call)]
    if len(found) == 1:
        return found[0]
    if found:
        raise Refused(f"line {line} builds {len(found)} DataLoaders; write each into a line")
    if code.stars():
        raise Refused(
            f"names come from `from {code.stars()[0]} import *`; import DataLoader by its name"
        )
    raise Refused(f"line {line}, where the loader was built, does not call torch's DataLoader")
