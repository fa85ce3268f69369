"""Full names of what remedies look for, and the name that a source calls torch by."""

from __future__ import annotations

import sys

import libcst as cst

from speedprof.mitigations.rewrite.code import Code, Refused, body_of, statement

LOADER = ("torch.utils.data.DataLoader", "torch.utils.data.dataloader.DataLoader")
DDP = (
    "torch.nn.parallel.DistributedDataParallel",
    "torch.nn.parallel.distributed.DistributedDataParallel",
)
FUSED = tuple(
    name
    for kind in ("Adam", "AdamW", "SGD", "Adagrad")
    for name in (f"torch.optim.{kind}", f"torch.optim.{kind.lower()}.{kind}")
)
COMPILE = ("torch.compile",)
AUTOCAST = (
    "torch.autocast",
    "torch.amp.autocast",
    "torch.amp.autocast_mode.autocast",
    "torch.cuda.amp.autocast",
    "torch.cuda.amp.autocast_mode.autocast",
    "torch.cpu.amp.autocast",
)
SETUP = ("torch.set_", "torch.backends.", "torch.use_deterministic_algorithms")  # flags at the top
Line = cst.SimpleStatementLine


def module_called(code: Code, name: str) -> str | None:
    """Return what the whole file calls a module by, None where no import at its top binds it.

    Refused where it is imported under a condition, or its name means something else.
    """
    for one in code.all(cst.Import):
        if one.names and isinstance(code.parent(code.parent(one)), cst.Module):
            for alias in one.names:
                bound = _bound(code, alias, name)
                if bound is not None:
                    return bound
    elsewhere = [o for o in code.all(cst.Import) if any(_bound(code, a, name) for a in o.names)]
    if elsewhere:
        raise Refused(f"{name} is imported in line {code.line(elsewhere[0])}, not at the top")
    if name in assigned_names(code):
        raise Refused(f"the file uses the name {name} for something else")
    return None


def _bound(code: Code, alias: cst.ImportAlias, name: str) -> str | None:
    imported = code.words(alias.name)
    if alias.asname is not None:
        return code.words(alias.asname.name) if imported == name else None
    return name if imported == name or imported.startswith(f"{name}.") else None


def assigned_names(code: Code) -> set[str]:
    """Return every name that the file gives to something, in whatever place."""
    names = {one.value for target in code.all(cst.AssignTarget) for one in _targets(target.target)}
    names |= {one.name.value for one in code.all(cst.FunctionDef)}
    names |= {one.name.value for one in code.all(cst.ClassDef)}
    names |= {one.name.value for one in code.all(cst.Param)}
    imported = [a for o in code.all(cst.ImportFrom) if not isinstance(o.names, cst.ImportStar)
                for a in o.names]  # fmt: skip
    return names | {a.evaluated_alias or a.evaluated_name for a in imported}


def _targets(node: cst.BaseExpression) -> list[cst.Name]:
    if isinstance(node, cst.Name):
        return [node]
    if isinstance(node, (cst.Tuple, cst.List)):
        return [name for element in node.elements for name in _targets(element.value)]
    return []


def last_import(code: Code) -> Line:
    """Return the import below which the file's own code begins; Refused where there is none."""
    found = None
    for one in body_of(code.module):
        if isinstance(one, (cst.FunctionDef, cst.ClassDef, cst.For, cst.While, cst.With)):
            break
        if isinstance(one, Line) and any(
            isinstance(small, (cst.Import, cst.ImportFrom)) for small in one.body
        ):
            found = one
    if found is None:
        raise Refused("the file imports nothing at its top")
    return found


def is_setup(code: Code, one: cst.BaseStatement) -> bool:
    """Tell whether a line sets one of torch's flags."""
    if not isinstance(one, Line) or len(one.body) != 1:
        return False
    small = one.body[0]
    target: cst.CSTNode | None = None
    if isinstance(small, cst.Assign):
        target = small.targets[0].target
    elif isinstance(small, cst.Expr) and isinstance(small.value, cst.Call):
        target = small.value.func
    return target is not None and any(n.startswith(SETUP) for n in code.qualified(target))


def at_top(code: Code, module: str, *lines: str) -> None:
    """Write flags below the imports, and the import of their module where there is none.

    `{module}` in the lines stands for what the file calls the module.
    """
    called = module_called(code, module)
    place: Line = last_import(code)
    if called is None:
        code.after(place, f"import {module}")
        called = module
    body = list(body_of(code.module))
    last: cst.BaseStatement = place
    for one in body[body.index(place) + 1 :]:
        if not is_setup(code, one):
            break
        last = one
    for number, line in enumerate(lines):
        text = line.replace("{module}", called)
        new = statement(text, code.module)
        if last is place and number == 0:
            new = new.with_changes(leading_lines=[cst.EmptyLine(indent=False)])
        code.add_after(last, new)


def in_module(code: Code, module: str) -> str:
    """Return what to write for a module, imported at the top where it is not yet."""
    called = module_called(code, module)
    if called is not None:
        return called
    if module not in sys.stdlib_module_names:
        code.after(last_import(code), f"import {module}")
        return module
    first, *others = _first_imports(code)
    if not _is_plain_standard(code, first):
        code.before(first, f"import {module}", apart=True)
        return module
    place = None
    for one in (first, *others):
        if not _is_plain_standard(code, one) or _imported(code, one) > module:
            break
        place = one
    if place is None:
        code.before(first, f"import {module}")
    else:
        code.after(place, f"import {module}")
    return module


def _first_imports(code: Code) -> list[Line]:
    """Return the imports at the top but those from the future; Refused where none is."""
    body = list(body_of(code.module))
    upper = body[: body.index(last_import(code)) + 1]
    imports = [
        one
        for one in upper
        if isinstance(one, Line)
        and isinstance(one.body[0], (cst.Import, cst.ImportFrom))
        and "__future__" not in code.words(one)
    ]
    if not imports:
        raise Refused("the file imports nothing at its top")
    return imports


def _is_plain_standard(code: Code, one: Line) -> bool:
    return (
        isinstance(one.body[0], cst.Import)
        and _imported(code, one).split(".")[0] in sys.stdlib_module_names
    )


def _imported(code: Code, one: Line) -> str:
    small = one.body[0]
    return code.words(small.names[0].name) if isinstance(small, cst.Import) else ""
