"""Attention written out, found in a graph and replaced: softmax(q k^T * scale + mask) v."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from speedprof.mitigations.applied.attention_kernel import attend, rate_of
from speedprof.mitigations.applied.attention_tracing import Traced
from speedprof.mitigations.applied.einsums import score_axes, value_axes

FILLED = -1e4  # what is filled with less than that takes no part: exp(-1e4) is 0 in any type
CASTS = ("to", "float", "half", "bfloat16", "double", "type", "type_as")
CONSTANT = "_tensor_constant"  # how the tracer calls what was made while it looked
PRODUCTS = ("matmul", "bmm", "einsum")
# What can be left out where nobody uses it, and what a mask of constants may be made by
PURE = (
    "getitem", "getattr", "size", "dim", "numel", "eq", "ne", "lt", "gt", "le", "ge", "invert",
    "logical_not", "bitwise_not", "tril", "triu", "to", "bool", "float", "view", "unsqueeze",
    "expand", "ones", "zeros", "arange", "transpose", "permute", "masked_fill", "sub", "rsub",
    "mul", "truediv", "floordiv", "pow", "neg", "sqrt",
)  # fmt: skip
Node = Any


@dataclass(slots=True)
class _Chain:
    """From the product of queries and keys to that with the values, outermost first."""

    steps: list[Node] = field(default_factory=list)
    scales: list[tuple[Any, bool]] = field(default_factory=list)  # factor; whether it divides
    masks: list[tuple[str, Any, Any]] = field(default_factory=list)  # how, what, filled with
    rate: Any = None  # the node or number of dropout


@dataclass(frozen=True, slots=True, kw_only=True)
class Replaced:
    """What became of a graph: how many attentions, and what that rests on."""

    count: int
    causal: tuple[str, ...] = ()  # buffers that were understood as a causal mask


def replace(traced: Traced, *, fold: bool = True) -> Replaced:
    """Put fused attention into the graph wherever it is written out.

    With `fold`, a mask of constants that is causal for these shapes is told to the kernel, which
    then leaves out what it hides; the graph holds for these shapes alone.
    """
    count, causal = _without_weights(traced), set[str]()
    for node in list(traced.graph.nodes):
        found = _found(node, traced)
        if found is None:
            continue
        chain, first, last = found
        hidden = _causal_mask(chain, traced) if fold else None
        if hidden is not None:
            causal.update(
                one.target
                for one in _ancestors(hidden)
                if one.op == "get_attr" and not one.target.startswith(CONSTANT)
            )
        _put(traced, chain, first, last, causal=hidden is not None)
        count += 1
    _sweep(traced.graph)
    return Replaced(count=count, causal=tuple(sorted(causal)))


def _found(node: Node, traced: Traced) -> tuple[_Chain, Node, Node] | None:
    """Return the chain around a softmax over the last axis, and the products at its ends."""
    scores = _of_softmax(node, traced)
    if scores is None:
        return None
    chain = _Chain()
    last = _downwards(node, traced, chain)
    chain.steps.append(node)
    first = _upwards(scores, traced, chain) if last is not None else None
    return None if first is None else (chain, first, last)


def _of_softmax(node: Node, traced: Traced) -> Node | None:
    """Return what a softmax over the last axis is taken of."""
    module = _module(node, traced)
    if module is None and name_of(node) != "softmax":
        return None
    if module is not None and type(module).__name__ != "Softmax":
        return None
    inside = operand(node, 0, "input")
    axis = module.dim if module is not None else operand(node, 1, "dim")
    value: Any = traced.values.get(inside)
    if axis is None or not hasattr(value, "dim") or value.dim() < 3:
        return None
    return inside if axis in (-1, value.dim() - 1) else None


def _downwards(node: Node, traced: Traced, chain: _Chain) -> Node | None:
    """Follow the weights through dropout and casts to their product with the values."""
    while len(node.users) == 1:
        user = next(iter(node.users))
        name, module = name_of(user), _module(user, traced)
        if name in PRODUCTS:
            return user if _operands(user)[0] is node else None
        dropping = name == "dropout" or type(module).__name__ == "Dropout"
        if dropping and chain.rate is None:
            chain.rate = user if module is not None else _rate(user)
            if chain.rate is None:
                return None
        elif name not in CASTS or user.args[0] is not node:
            return None
        chain.steps.insert(0, user)
        node = user
    return None


def _rate(node: Node) -> Any:
    """Return the probability that functional dropout was given; None where it is not known."""
    training = operand(node, 2, "training")
    training = operand(node, 2, "train") if training is None else training
    if not isinstance(training, bool):
        return None
    return operand(node, 1, "p") if training else 0.0


def _upwards(node: Node, traced: Traced, chain: _Chain) -> Node | None:
    """Follow the scores through masks and scales to the product of queries and keys."""
    if not hasattr(node, "op") or len(node.users) != 1:
        return None
    name = name_of(node)
    if name in PRODUCTS:
        return node
    chain.steps.append(node)
    for inside, note in _STEPS.get(name, _nothing)(node, traced):
        scales, masks = len(chain.scales), len(chain.masks)
        if note(chain):
            first = _upwards(inside, traced, chain)
            if first is not None:
                return first
        del chain.scales[scales:], chain.masks[masks:]
    chain.steps.remove(node)
    return None


Note = Callable[[_Chain], bool]
Ways = list[tuple[Node, Note]]


def _nothing(_node: Node, _traced: Traced) -> Ways:
    return []


def _cast(node: Node, _traced: Traced) -> Ways:
    return [(node.args[0], lambda _chain: True)]


def _times(node: Node, traced: Traced) -> Ways:
    first, second = operand(node, 0, "input"), operand(node, 1, "other")
    pairs = ((first, second), (second, first))
    return [
        _scaled(inside, _number(by, traced), False)
        for inside, by in pairs
        if _is_factor(by, traced)
    ]


def _over(node: Node, traced: Traced) -> Ways:
    by = operand(node, 1, "other")
    if not _is_factor(by, traced):
        return []
    return [_scaled(operand(node, 0, "input"), _number(by, traced), True)]


def _scaled(inside: Node, by: Any, divides: bool) -> tuple[Node, Note]:
    def note(chain: _Chain) -> bool:
        chain.scales.append((by, divides))
        return True

    return inside, note


def _plus(node: Node, traced: Traced) -> Ways:
    first, second = operand(node, 0, "input"), operand(node, 1, "other")
    pairs = ((first, second), (second, first))
    return [_masked(inside, "add", by, None) for inside, by in pairs if _is_tensor(by, traced)]


def _minus(node: Node, traced: Traced) -> Ways:
    by = operand(node, 1, "other")
    inside = operand(node, 0, "input")
    return [_masked(inside, "sub", by, None)] if _is_tensor(by, traced) else []


def _filled(node: Node, traced: Traced) -> Ways:
    what, value = operand(node, 1, "mask"), _number(operand(node, 2, "value"), traced)
    return [_masked(operand(node, 0, "input"), "fill", what, value)]


def _where(node: Node, traced: Traced) -> Ways:
    what, yes, no = (node.args + (None,) * 3)[:3]
    return [
        _masked(no, "fill", what, _number(yes, traced)),
        _masked(yes, "keep", what, _number(no, traced)),
    ]


def _masked(inside: Node, how: str, what: Any, value: Any) -> tuple[Node, Note]:
    def note(chain: _Chain) -> bool:
        chain.masks.append((how, what, value))
        plain = value is None or isinstance(value, (int, float))
        return plain and not chain.scales  # a mask within the scale would be scaled, too

    return inside, note


_STEPS: dict[str, Callable[[Node, Traced], Ways]] = {
    **dict.fromkeys(CASTS, _cast),
    **dict.fromkeys(("mul", "imul", "multiply"), _times),
    **dict.fromkeys(("div", "truediv", "itruediv", "true_divide", "divide"), _over),
    **dict.fromkeys(("add", "iadd"), _plus),
    **dict.fromkeys(("sub", "isub", "subtract"), _minus),
    "masked_fill": _filled,
    "where": _where,
}


def _is_tensor(what: Any, traced: Traced) -> bool:
    return hasattr(traced.values.get(what), "dim") if hasattr(what, "op") else False


def _number(what: Any, traced: Traced) -> Any:
    """Return a constant of one element as a number, anything else as it is."""
    constant = hasattr(what, "op") and what.op == "get_attr" and what.target.startswith(CONSTANT)
    value = traced.values.get(what) if constant else None
    return value.item() if value is not None and value.numel() == 1 else what


def _is_factor(what: Any, traced: Traced) -> bool:
    """Tell whether it scales whole rows of queries: a number, or one for each head."""
    value: Any = traced.values.get(what) if hasattr(what, "op") else what
    if isinstance(value, (int, float)):
        return True
    if not hasattr(value, "numel"):
        return False
    return value.numel() == 1 or (value.dim() > 2 and tuple(value.shape[-2:]) == (1, 1))


def _causal_mask(chain: _Chain, traced: Traced) -> Node | None:
    """Return the only mask, if it is made of constants and hides what is to come, nothing else."""
    import torch

    if len(chain.masks) != 1:
        return None
    how, what, filled = chain.masks[0]
    value = traced.values.get(what) if hasattr(what, "op") else None
    if not isinstance(value, torch.Tensor) or not _constant(what, traced):
        return None
    hidden = {"keep": lambda: ~value, "fill": lambda: value}.get(how, lambda: _below(how, value))()
    if hidden is None or (filled is not None and not filled <= FILLED):
        return None
    length = hidden.shape[-1]
    if hidden.numel() != length * length or hidden.shape[-2] != length:
        return None
    if traced.values[chain.steps[-1]].shape[-2:] != hidden.shape[-2:]:
        return None
    future = torch.ones_like(hidden, dtype=torch.bool).triu(1)
    return what if torch.equal(hidden.bool(), future) else None


def _below(how: str, value: Any) -> Any:
    """Return what an added mask hides, None where it does more than hiding."""
    added = -value if how == "sub" else value
    hidden = added <= FILLED
    return hidden if not added[~hidden].any() else None


def _constant(node: Node, traced: Traced) -> bool:
    """Tell whether a node is made of buffers and sizes alone."""
    import torch

    value = traced.values.get(node)
    if not isinstance(value, torch.Tensor):
        return True
    if node.op == "get_attr":
        return not isinstance(value, torch.nn.Parameter)
    pure = node.op in ("call_function", "call_method") and name_of(node) in PURE
    return pure and all(_constant(one, traced) for one in node.all_input_nodes)


def _ancestors(node: Node) -> list[Node]:
    found = [node]
    for one in found:
        found += [other for other in one.all_input_nodes if other not in found]
    return found


def _put(traced: Traced, chain: _Chain, first: Node, last: Node, *, causal: bool) -> None:
    """Write the fused attention before the last product, and take the chain away."""
    graph = traced.graph
    (query, transposed), (_, value) = _operands(first), _operands(last)
    with graph.inserting_before(last):
        back = None
        if name_of(first) == "einsum":
            query, transposed = score_axes(graph, first.args[0], query, transposed)
        if name_of(last) == "einsum":
            value, back = value_axes(graph, last.args[0], value)
        rate: Any = chain.rate if chain.rate is not None else 0.0
        if hasattr(rate, "op") and rate.op == "call_module":
            rate = graph.call_function(rate_of, (graph.get_attr(rate.target),))
        masks = () if causal else tuple(reversed(chain.masks))
        made = graph.call_function(
            attend,
            (query, transposed, value, tuple(chain.scales), masks, rate, causal),
        )
        if back is not None:
            made = graph.call_method("permute", (made, back))
    last.replace_all_uses_with(made)
    for node in (last, *chain.steps, first):
        graph.erase_node(node)


def _without_weights(traced: Traced) -> int:
    """Tell torch's own heads not to return their weights where nobody looks at them."""
    count = 0
    for node in traced.graph.find_nodes(op="call_module"):
        heads = type(_module(node, traced)).__name__ == "MultiheadAttention"
        asked = operand(node, 4, "need_weights")
        alone = all(
            name_of(user) == "getitem" and (user.args[1] == 0 or not user.users)
            for user in node.users
        )
        if heads and alone and asked in (None, True) and len(node.args) < 5 and node.users:
            node.kwargs = {**node.kwargs, "need_weights": False}
            count += 1
    return count


def _sweep(graph: Any) -> None:
    """Take away what nobody uses any more: sizes, and masks that became a flag."""
    for node in reversed(list(graph.nodes)):
        constant = node.op == "get_attr" or name_of(node) in PURE
        if constant and not node.users and node.op != "placeholder":
            graph.erase_node(node)


def name_of(node: Node) -> str:
    """Return what a node calls: one name for the function, the operator and both methods."""
    if node.op not in ("call_method", "call_function"):
        return ""
    name = node.target if isinstance(node.target, str) else node.target.__name__
    return name.rstrip("_") if not name.startswith("__") else name.strip("_")


def operand(node: Node, position: int, name: str) -> Any:
    """Return an argument that may be given by position or by name."""
    return node.args[position] if len(node.args) > position else node.kwargs.get(name)


def _operands(product: Node) -> tuple[Any, Any]:
    """Return what is multiplied; of einsum, behind its equation."""
    shift = 1 if name_of(product) == "einsum" else 0
    others = product.args[shift:]
    if len(others) == 1 and isinstance(others[0], (list, tuple)):
        others = tuple(others[0])
    if len(others) == 1:
        others = (*others, product.kwargs.get("mat2", product.kwargs.get("other")))
    return (others[0], others[1]) if len(others) == 2 else (None, None)


def _module(node: Node, traced: Traced) -> Any:
    return traced.root.get_submodule(node.target) if node.op == "call_module" else None
