"""Whether workers that are kept from pass to pass would show in a script, as far as it tells.

A loader that keeps its workers has one iterator for all passes, and what a script changes in its
data set between two of them does not reach the workers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import libcst as cst

from speedprof.mitigations.rewrite.arguments import Given
from speedprof.mitigations.rewrite.code import Code
from speedprof.mitigations.rewrite.models import is_dotted

AROUND = ("enumerate", "zip", "tqdm", "tqdm.tqdm", "islice", "itertools.islice")


def why_not(code: Code, own: Mapping[str, Given]) -> str | None:
    """Return why the workers of a loader with these arguments are not to be kept."""
    for loop in code.all(cst.For):
        for name in _passed_over(code, loop.iter):
            again = _passed_again(code, loop, name)
            if again is not None:
                line = code.line(again)
                return f"line {line} begins a pass over {name} within another one over it"
    dataset = code.words(own["dataset"].value) if "dataset" in own else ""
    for node in code.nodes:
        changed = _changed(code, node)
        is_its_own = changed.startswith(f"{dataset}.") and _is_in_loop(code, node)
        if is_its_own or ".dataset." in changed:
            return f"line {code.line(node)} changes the data set between passes"
    return None


def _is_in_loop(code: Code, node: cst.CSTNode) -> bool:
    return any(isinstance(outer, (cst.For, cst.While)) for outer in code.ancestors(node))


def _passed_over(code: Code, value: cst.BaseExpression) -> Iterator[str]:
    """Yield the names that a loop goes over, in `enumerate()` and the like, too."""
    if is_dotted(value):
        yield code.words(value)
    elif isinstance(value, cst.Call) and code.words(value.func) in AROUND:
        for argument in value.args:
            yield from _passed_over(code, argument.value)


def _passed_again(code: Code, loop: cst.For, name: str) -> cst.CSTNode | None:
    """Return where a loop over something goes over it once more."""
    if list(_passed_over(code, loop.iter)).count(name) > 1:
        return loop
    for inner in code.all(cst.For, loop.body):
        if name in _passed_over(code, inner.iter):
            return inner
    for call in code.all(cst.Call, loop.body):
        asked = [code.words(one.value) for one in call.args]
        if code.words(call.func) == "iter" and asked[:1] == [name]:
            return call
    return None


def _changed(code: Code, node: cst.CSTNode) -> str:
    """Return what a line sets an attribute of, or calls for nothing but its effect."""
    target: cst.CSTNode = node
    if isinstance(node, (cst.AssignTarget, cst.AugAssign, cst.AnnAssign)):
        target = node.target
    elif isinstance(node, cst.Expr) and isinstance(node.value, cst.Call):
        target = node.value.func
    else:
        return ""
    while isinstance(target, cst.Subscript):
        target = target.value
    return code.words(target) if isinstance(target, cst.Attribute) else ""
