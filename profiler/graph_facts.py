"""What a loss's graph tells of the forward pass that made it, without running anything.

Autocast is over when backward begins, and a checkpointed layer leaves no trace in a model. The
graph of the loss keeps both: the types of what each node put out, and the hooks that compute
anew what was not kept. Only metadata is read; nothing is unpacked, copied or held.
"""

from __future__ import annotations

from collections import deque
from typing import Any

MOST_NODES = 400  # looked at, nearest to the loss first
PRODUCTS = (
    "AddmmBackward", "MmBackward", "BmmBackward", "BaddbmmBackward", "LinearBackward",
    "ConvolutionBackward", "ScaledDotProduct", "MkldnnConvolution", "CudnnRnn",
)  # fmt: skip
LEAF = "AccumulateGrad"
HALVES = ("bfloat16", "float16")
RECOMPUTING = ("CheckpointFunction", "CheckpointHook")  # names of nodes
HOOK = "_checkpoint_hook"  # in the name of what unpacks a checkpointed layer's tensors


class Graph:
    """What graphs told so far: types of products and of parameters, and recomputation."""

    def __init__(self) -> None:
        self.products: set[str] = set()
        self.parameters: set[str] = set()
        self.recomputed = False
        self.sealed = False  # compiled parts, whose inside is not shown
        self.hooks_shown = True  # this torch tells which tensors have hooks
        self.seen = False
        self._saved: dict[str, tuple[str, ...]] = {}  # by kind of node
        self.around: str | None = None  # the autocast type that backward itself runs under

    def look(self, roots: Any) -> None:
        """Walk from one loss, or several, to at most MOST_NODES nodes."""
        tensors = roots if isinstance(roots, (tuple, list)) else [roots]
        waiting = deque(t.grad_fn for t in tensors if getattr(t, "grad_fn", None) is not None)
        known: set[Any] = set(waiting)
        while waiting and len(known) <= MOST_NODES:
            node = waiting.popleft()
            self._node(node)
            fresh = [n for n, _ in node.next_functions if n is not None and n not in known]
            known.update(fresh)
            waiting.extend(fresh)
        self.seen = self.seen or bool(known)

    def autocast(self) -> str | None:
        """Return "off", "bfloat16" or "float16", None where it cannot be told.

        Products in half precision of parameters in full precision are mixed precision, however
        the script came to it.
        """
        if self.around is not None:
            return self.around
        halves = [name for name in HALVES if name in self.products]
        if halves and (self.parameters - set(HALVES) or not self.parameters):
            return halves[0]
        if self.sealed or not self.products:
            return None
        return "off"

    def checkpointed(self) -> bool | None:
        """Tell whether layers are computed again in backward; None where it cannot be told."""
        if self.recomputed:
            return True
        return False if self.seen and self.hooks_shown and not self.sealed else None

    def _node(self, node: Any) -> None:
        name = type(node).__name__
        if name.startswith(RECOMPUTING):
            self.recomputed = True
        elif name.startswith("CompiledFunction"):
            self.sealed = True
        types = {str(m.dtype).removeprefix("torch.") for m in getattr(node, "_input_metadata", ())}
        if name == LEAF:
            self.parameters |= types
        elif name.startswith(PRODUCTS) or name.startswith("CompiledFunction"):
            self.products |= types
        if not self.recomputed and self.hooks_shown:
            self._hooks(node)

    def _hooks(self, node: Any) -> None:
        kind = type(node).__name__
        if kind not in self._saved:
            self._saved[kind] = _saved(node)
        for name in self._saved[kind]:
            saved = getattr(node, name)
            if isinstance(saved, (tuple, list)):
                continue
            if not hasattr(saved, "unpack_hook"):  # of torch 2.9
                self.hooks_shown = False
                return
            if HOOK in getattr(saved.unpack_hook, "__qualname__", ""):
                self.recomputed = True
                return


def _saved(node: Any) -> tuple[str, ...]:
    """Return the names under which nodes of this kind keep their tensors, packed."""
    return tuple(name for name in dir(type(node)) if name.startswith("_raw_saved_"))
