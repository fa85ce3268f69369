"""Modules run beside the training, on copies of one real call's inputs, without any trace of it.

A twin has the weights of its module, buffers of its own and no hooks; random numbers are drawn
from where the training stands and given back, so that the next step draws what it would have.
"""

from __future__ import annotations

import contextlib
import copy
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any

Call = tuple[tuple[Any, ...], dict[str, Any]]  # arguments, keywords
HOOKS = (
    "_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks",
    "_forward_hooks_with_kwargs", "_forward_pre_hooks_with_kwargs",
    "_forward_hooks_always_called",
)  # fmt: skip
CONTAINERS = (list, dict, set)
PLAIN = (bool, int, float, str, type(None))


def twin(module: Any, kind: Any = None, known: dict[int, Any] | None = None) -> Any:
    """Return a module that shares the weights and nothing else that a forward could change.

    Its weights are leaves of their own, so that gradients by them reach nobody. Raises TypeError
    where weights are no plain parameters (sharded ones, say).
    """
    from torch import nn

    known = {} if known is None else known
    if id(module) in known:
        return known[id(module)]
    made = known[id(module)] = object.__new__(kind or type(module))
    held = {
        name: copy.copy(value) if isinstance(value, CONTAINERS) else value
        for name, value in vars(module).items()
    }
    held.update({name: OrderedDict() for name in HOOKS})
    held["_compiled_call_impl"] = None
    made.__dict__.update(held)
    for name, parameter in module._parameters.items():  # noqa: SLF001 - also those that are None
        if parameter is not None and type(parameter) is not nn.Parameter:
            raise TypeError(f"its weights are of type {type(parameter).__name__}")
        made._parameters[name] = _leaf(parameter, known)
    for name, buffer in module._buffers.items():  # noqa: SLF001
        made._buffers[name] = None if buffer is None else buffer.clone()
    for name, child in module._modules.items():  # noqa: SLF001
        made._modules[name] = None if child is None else twin(child, known=known)
    return made


def _leaf(parameter: Any, known: dict[int, Any]) -> Any:
    from torch import nn

    if parameter is None:
        return None
    if id(parameter) not in known:
        leaf = nn.Parameter(parameter.detach(), requires_grad=parameter.requires_grad)
        known[id(parameter)] = leaf
    return known[id(parameter)]


def kept(module: Any) -> dict[str, tuple[Any, ...]]:
    """Return what a module holds by name, containers by what is in them."""
    found: dict[str, tuple[Any, ...]] = {}
    for name, value in vars(module).items():
        inside = value.values() if isinstance(value, dict) else value
        found[name] = tuple(inside) if isinstance(value, CONTAINERS) else (value,)
    return found


def each(value: Any, change: Callable[[Any], Any]) -> Any:
    """Return nested tuples, lists and dicts with every tensor changed.

    Raises TypeError where there is something else in them than tensors and plain values.
    """
    import torch

    if isinstance(value, torch.Tensor):
        return change(value)
    if isinstance(value, (*PLAIN, torch.dtype, torch.device, torch.Size)):
        return value
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(each(one, change) for one in value))
    if type(value) in (list, tuple):
        return type(value)(each(one, change) for one in value)
    if isinstance(value, dict):
        return {key: each(one, change) for key, one in value.items()}
    raise TypeError(f"it is given a {type(value).__name__}")


def tensors(value: Any) -> list[Any]:
    """Return the tensors in nested tuples, lists and dicts, in order."""
    found: list[Any] = []

    def add(tensor: Any) -> Any:
        found.append(tensor)
        return tensor

    each(value, add)
    return found


def fresh(call: Call) -> Call:
    """Return a call with copies of its tensors, which want gradients as the originals do."""

    def copied(tensor: Any) -> Any:
        return tensor.detach().clone().requires_grad_(tensor.requires_grad)

    arguments, keywords = call
    return each(arguments, copied), each(keywords, copied)


@contextlib.contextmanager
def same_random(call: Call) -> Iterator[None]:
    """Give back the random numbers that are drawn meanwhile, on the CPU and the call's device."""
    import torch

    devices: set[int] = set()
    _collect(call, devices)
    with torch.random.fork_rng(devices=sorted(devices), device_type="cuda"):
        yield


def _collect(value: Any, devices: set[int]) -> None:
    """Add the numbers of the GPUs that a call's tensors lie on; other objects are passed over."""
    import torch

    if isinstance(value, torch.Tensor) and value.is_cuda:
        devices.add(value.get_device())
    inside = value.values() if isinstance(value, dict) else value
    if isinstance(value, (dict, list, tuple)):
        for one in inside:
            _collect(one, devices)


@contextlib.contextmanager
def undropped() -> Iterator[None]:
    """Let dropout pass everything, so that two ways to compute the same can be compared."""
    from torch.overrides import TorchFunctionMode

    with type("Undropped", (_Undropped, TorchFunctionMode), {})():
        yield


# Where functions take the probability of dropout: by position, and by name
PROBABILITIES = {
    "dropout": (1, "p"),
    "dropout_": (1, "p"),
    "scaled_dot_product_attention": (4, "dropout_p"),
    "multi_head_attention_forward": (10, "dropout_p"),
}


class _Undropped:
    def __torch_function__(
        self, function: Any, _types: Any, arguments: Any = (), keywords: Any = None
    ) -> Any:
        keywords = dict(keywords or {})
        position, name = PROBABILITIES.get(getattr(function, "__name__", ""), (None, ""))
        if position is not None and len(arguments) > position:
            arguments = (*arguments[:position], 0.0, *arguments[position + 1 :])
        elif position is not None:
            keywords[name] = 0.0
        return function(*arguments, **keywords)
