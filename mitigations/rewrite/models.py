"""The model that a source trains: its name, where it is built and where it is called."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import libcst as cst

from speedprof.mitigations.rewrite.code import Absent, Code, Refused, body_of, inside
from speedprof.mitigations.rewrite.torch_names import COMPILE, DDP
from speedprof.mitigations.rewrite.training import DEEPEST, callers

Home = cst.FunctionDef | cst.ClassDef | cst.Module
OTHER_WRAPPERS = ("FullyShardedDataParallel", "fully_shard", "DataParallel")


@dataclass(frozen=True, slots=True)
class Model:
    """A name for what is trained, and the function, class or module whose name it is."""

    name: str
    home: Home


@dataclass(frozen=True, slots=True)
class Place:
    """Where a line about the model goes, and what the model is called there."""

    statement: cst.BaseStatement
    before: bool
    name: str

    def write(self, code: Code, *lines: str) -> None:
        """Write lines there; `{model}` in them is the model."""
        texts = [line.replace("{model}", self.name) for line in lines]
        (code.before if self.before else code.after)(self.statement, *texts)


def model(code: Code) -> Model:
    """Return what the optimizer updates; Refused where that is not one model with a name."""
    owners = list(_owners(code, of_optimizers=True)) or list(_owners(code, of_optimizers=False))
    found: dict[tuple[str, int], Model] = {}
    for owner in owners:
        one = resolved(code, code.words(owner), owner)
        found[one.name, id(one.home)] = one
    if not found:
        raise Absent("the model was not found: no optimizer takes its parameters in this file")
    if len(found) > 1:
        names = ", ".join(sorted({one.name for one in found.values()}))
        raise Refused(f"several models could be meant ({names})")
    return next(iter(found.values()))


def _owners(code: Code, *, of_optimizers: bool) -> Iterator[cst.BaseExpression]:
    """Return X of each `X.parameters()`."""
    for call in code.all(cst.Call):
        function = call.func
        if not isinstance(function, cst.Attribute) or not is_dotted(function.value):
            continue
        if function.attr.value not in ("parameters", "named_parameters"):
            continue
        if not of_optimizers or any(_is_optimizer(code, o) for o in code.ancestors(call)):
            yield function.value


def _is_optimizer(code: Code, node: cst.CSTNode) -> bool:
    return isinstance(node, cst.Call) and any(
        name.startswith("torch.optim.") for name in code.qualified(node.func)
    )


def is_dotted(node: cst.CSTNode) -> bool:
    """Tell whether an expression is a name, or names with dots between."""
    if isinstance(node, cst.Attribute):
        return is_dotted(node.value)
    return isinstance(node, cst.Name)


def resolved(code: Code, name: str, node: cst.CSTNode) -> Model:
    """Follow a name from a node to where it is given, through calls; Refused where lost."""
    if name.startswith("self."):
        return Model(name, _class(code, node))
    for _ in range(DEEPEST):
        function = code.function(node)
        while isinstance(function, cst.FunctionDef) and not _binds(code, function, name):
            function = code.function(function)
        if not isinstance(function, cst.FunctionDef) or _assigned(code, function, name):
            return Model(name, function)
        place = _parameter(function, name)
        calling = callers(code, function)
        if place is None or len(calling) != 1:
            called = f"{len(calling)} places call" if calling else "no line of this file calls"
            raise Refused(f"{called} {function.name.value}(), which is given {name}")
        node = calling[0]
        name = _argument(code, calling[0], place, name)
        if name.startswith("self."):
            return Model(name, _class(code, node))
    raise Refused(f"where {name} comes from was not found")


def _class(code: Code, node: cst.CSTNode) -> cst.ClassDef:
    for outer in code.ancestors(node):
        if isinstance(outer, cst.ClassDef):
            return outer
    raise Refused("self is used outside of a class")


def _binds(code: Code, function: cst.FunctionDef, name: str) -> bool:
    return _parameter(function, name) is not None or bool(_assigned(code, function, name))


def _parameter(function: cst.FunctionDef, name: str) -> int | None:
    parameters = [*function.params.posonly_params, *function.params.params]
    names = [one.name.value for one in parameters]
    if name in names:
        return names.index(name)
    keywords = [one.name.value for one in function.params.kwonly_params]
    return len(names) if name in keywords else None


def _argument(code: Code, call: cst.Call, place: int, name: str) -> str:
    """Return what a caller gives for a parameter, if it is a name."""
    value = None
    for number, one in enumerate(call.args):
        if one.star:
            raise Refused(f"line {code.line(call)} passes on {one.star}{code.words(one.value)}")
        if (one.keyword is None and number == place) or (
            one.keyword and one.keyword.value == name
        ):
            value = one.value
    if value is None or not is_dotted(value):
        raise Refused(f"line {code.line(call)} passes a {name} that has no name there")
    return code.words(value)


def _assigned(code: Code, home: cst.CSTNode, name: str) -> list[cst.CSTNode]:
    """Return the assignments to a name in a function, a class or a module, not in those inside."""
    found: list[cst.CSTNode] = []
    for node in inside(home):
        if not isinstance(node, (cst.AssignTarget, cst.AnnAssign)):
            continue
        own = code.function(node) is home or isinstance(home, cst.ClassDef)
        if own and name in _names(code, node.target):
            found.append(node)
    return found


def _names(code: Code, target: cst.BaseExpression) -> list[str]:
    if isinstance(target, (cst.Tuple, cst.List)):
        return [name for one in target.elements for name in _names(code, one.value)]
    return [code.words(target)]


def place(code: Code, found: Model) -> Place:
    """Return where the model is complete: behind its last assignment, before it is wrapped."""
    assigned = _assigned(code, found.home, found.name)
    if not assigned:
        raise Absent(f"{found.name} is not built in this file")
    if len({id(code.function(one)) for one in assigned}) > 1:
        raise Refused(f"{found.name} is built in several methods")
    chains = [_blocks(code, one) for one in assigned]
    shared = [block for block in chains[-1] if all(block in chain for chain in chains)]
    statement = chains[-1][shared[0]]
    if isinstance(statement, (cst.For, cst.While)):
        raise Refused(f"{found.name} is built in a loop")
    wrapping = _wrapping(code, statement)
    if wrapping is not None:
        return Place(statement, before=True, name=wrapping)
    return Place(_moved(code, shared[0], statement, found.name), before=False, name=found.name)


def _blocks(code: Code, node: cst.CSTNode) -> dict[cst.CSTNode, cst.BaseStatement]:
    """Return the blocks around a node, the inner ones first, with the statement it is in there."""
    found: dict[cst.CSTNode, cst.BaseStatement] = {}
    inner: cst.CSTNode = node
    for outer in code.ancestors(node):
        if isinstance(outer, (cst.IndentedBlock, cst.Module)) and isinstance(
            inner, cst.BaseStatement
        ):
            found[outer] = inner
        if isinstance(outer, cst.FunctionDef):
            break
        inner = outer
    return found


def _wrapping(code: Code, statement: cst.BaseStatement) -> str | None:
    """Return what DistributedDataParallel is put around in a statement, if it has a name."""
    for call in code.calls(*DDP, within=statement):
        wrapped = call.args[0].value if call.args else None
        if wrapped is not None and is_dotted(wrapped):
            return code.words(wrapped)
    return None


def _moved(
    code: Code, block: cst.CSTNode, statement: cst.BaseStatement, name: str
) -> cst.BaseStatement:
    """Return the line in which the model is put on its device, if that is one of its own."""
    body = list(body_of(block))
    for one in body[body.index(statement) + 1 :]:
        words = code.words(one).strip()
        if words.startswith((f"{name}.to(", f"{name}.cuda(")):
            return one
    return statement


def refuse_wrapped(code: Code, found: Model, at: Place) -> None:
    """Refuse a place that may lie behind the call of DistributedDataParallel."""
    for call in code.calls(*DDP):
        wrapped = call.args[0].value if call.args else None
        named = wrapped is not None and is_dotted(wrapped) and code.words(wrapped) == at.name
        if not named or code.function(call) is not code.function(at.statement):
            raise Refused(
                f"line {code.line(call)} wraps {found.name} before it has a name to change it by"
            )


def refuse_sharded(code: Code) -> None:
    """Refuse models that are cut into pieces."""
    for one in code.all(cst.Name):
        if one.value in OTHER_WRAPPERS:
            raise Refused(f"the model is wrapped by {one.value} in line {code.line(one)}")


def forward(code: Code, within: cst.CSTNode, found: Model) -> cst.Call:
    """Return the one call of the model in the training step; Refused where there are others."""
    calls = [
        call
        for call in code.all(cst.Call, within)
        if is_meant(code, call.func, found) and not _is_evaluation(code, call)
    ]
    if len(calls) == 1:
        return calls[0]
    if calls:
        lines = ", ".join(str(code.line(call)) for call in calls)
        raise Refused(f"{found.name} is called several times in a step (lines {lines})")
    raise Refused(f"{found.name} is not called in the loop that calls backward()")


def is_meant(code: Code, node: cst.BaseExpression, found: Model) -> bool:
    """Tell whether an expression is the model, by whatever name it is passed on."""
    names, words = _alike(code, found), code.words(node)
    if not is_dotted(node) or ("." in words and words not in names):
        return False
    try:
        origin = resolved(code, words, node)
    except Refused:
        return False
    return origin.name in names and origin.home is found.home


def _is_evaluation(code: Code, call: cst.Call) -> bool:
    """Tell whether a call runs without gradients."""
    blocks = (outer for outer in code.ancestors(call) if isinstance(outer, cst.With))
    words = [code.words(item) for block in blocks for item in block.items]
    return any("no_grad" in one or "inference_mode" in one for one in words)


def _alike(code: Code, found: Model) -> set[str]:
    """Return the names that mean the model, wrapped, compiled or not."""
    names = {found.name}
    for assign in code.all(cst.Assign, found.home):
        value = assign.value
        if isinstance(value, cst.Call) and code.is_one_of(value.func, (*DDP, *COMPILE)):
            inner = code.words(value.args[0].value) if value.args else ""
            outer = {code.words(one.target) for one in assign.targets}
            if inner in names or names & outer:
                names |= outer | {inner}
    return names
