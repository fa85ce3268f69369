"""Create tensors where they are used.

Does: writes `torch.zeros(n, device=device)` instead of `torch.zeros(n).to(device)`.
Helps: masks, positions, noise and buffers made anew in each step: they are filled by the host and
    then copied, and a pageable copy makes the host wait.
Avoid: tensors made once before training; numbers that have to be the same on every device.
Safety: reseeded. Constants hold the same values; random numbers are drawn by the device's own
    generator, which is another stream.
Place: system. The same tensors.
Source: PyTorch performance tuning guide, which lists it; no isolated published figure.
"""

from __future__ import annotations

import ast

from speedprof.advisor.finding import Finding
from speedprof.advisor.shares import percent
from speedprof.mitigations import facts
from speedprof.mitigations.card import remedy
from speedprof.mitigations.gains import removing
from speedprof.mitigations.kernel_gains import bounded
from speedprof.mitigations.mitigation import Fit, Misfit
from speedprof.profiler.run import Line, Run

# whose values the device can make by itself; torch.tensor is not among them, for its values come
# from the host either way
CREATORS = frozenset(
    ("zeros", "ones", "empty", "full", "arange", "linspace", "eye", "rand", "randn", "randint",
     "randperm")
)  # fmt: skip
LEAST = 0.5  # of the time at the line: launching the kernel that fills it stays
WORTH = 0.01  # of the step


def assess(run: Run, finding: Finding) -> Fit | Misfit:
    if not facts.is_gpu(run):
        return Misfit(reason=f"the training runs on {run.device}, where tensors are made already")
    read = [line for line in run.lines if line.phase == finding.phase and line.code]
    if not read:
        return Misfit(reason="which source lines take this time was not measured")
    found = [(line, text) for line in read if (text := created_there(line.code or ""))]
    if not found:
        return Misfit(reason="no line was seen that makes a tensor on the host and copies it")
    share = sum(line.share for line, _ in found)
    if share < WORTH:
        return Misfit(reason=f"such lines take only {percent(share)} of the step")
    share = min(share, finding.high)
    gain = removing(share, share, what="making tensors and copying them", at_least=LEAST)
    return Fit(
        reason=f"{percent(share)} of the step were seen at {_places(found)}",
        gain=bounded(gain.low, gain.high, gain.model),
        by_hand="\n".join(f"# {line.where}\n{text}" for line, text in found),
    )


def _places(found: list[tuple[Line, str]]) -> str:
    return ", ".join(line.where for line, _ in found)


def created_there(code: str) -> str | None:
    """Return the line with its tensors made on their device, None where it makes and copies none.

    A line that is only a part of a statement cannot be read by itself, and is left alone.
    """
    try:
        tree = ast.parse(code.strip())
    except SyntaxError:
        return None
    rewriter = _Rewriter()
    tree = rewriter.visit(tree)
    return ast.unparse(tree) if rewriter.changed else None


class _Rewriter(ast.NodeTransformer):
    """Turns torch.zeros(n).to(device) into torch.zeros(n, device=device)."""

    def __init__(self) -> None:
        self.changed = False

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        method, device = node.func, _device(node)
        if not isinstance(method, ast.Attribute) or device is None:
            return node
        made = method.value
        if not isinstance(made, ast.Call) or not _creates(made):
            return node
        self.changed = True
        made.keywords.append(ast.keyword(arg="device", value=device))
        return made


def _device(call: ast.Call) -> ast.expr | None:
    """Return the device that `.to(device)` or `.cuda()` copies to, None for any other call."""
    method = call.func.attr if isinstance(call.func, ast.Attribute) else ""
    if method == "cuda" and not call.args and not call.keywords:
        return ast.Constant("cuda")
    told = [*call.args, *(one.value for one in call.keywords if one.arg == "device")]
    others = [one.arg for one in call.keywords if one.arg not in ("device", "non_blocking")]
    if method != "to" or len(told) != 1 or others:
        return None
    return told[0] if "device" in ast.unparse(told[0]) or _is_word(told[0]) else None


def _is_word(expression: ast.expr) -> bool:
    return isinstance(expression, ast.Constant) and isinstance(expression.value, str)


def _creates(call: ast.Call) -> bool:
    return (
        isinstance(call.func, ast.Attribute)
        and call.func.attr in CREATORS
        and isinstance(call.func.value, ast.Name)
        and call.func.value.id == "torch"
        and not any(keyword.arg == "device" for keyword in call.keywords)
    )


MITIGATION = remedy(
    "create-on-device",
    __doc__,
    treats=(
        ("host_to_device", "blocking_copy"),
        ("host_to_device", "pageable_memory"),
        ("host", "synchronisation"),
        ("host", "python"),
        ("host", "launch"),
    ),
    assess=assess,
    how="patch",
)
