"""A script's source as a tree: who calls what by which import, and edits that leave the rest."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import libcst as cst
from libcst import metadata

Edit = Callable[[Any], cst.CSTNode]
Statements = Sequence[cst.BaseStatement]
Found = TypeVar("Found", bound=cst.CSTNode)
LIMIT = 88  # columns; longer lines are the source's own, or one that has such lines anyway
Function = (cst.FunctionDef, cst.Lambda)


class Refused(Exception):  # noqa: N818 - an answer, no error
    """Why a remedy is not written into this source: one clause for the user."""


class Absent(Refused):
    """A file has nothing that the remedy changes; another one may."""


class Code:
    """One version of a source; `text()` is the next one."""

    def __init__(self, source: str) -> None:
        # a fresh tree holds no node twice, so it need not be copied
        wrapper = metadata.MetadataWrapper(cst.parse_module(source), unsafe_skip_copy=True)
        self.module = wrapper.module
        self._wrapper = wrapper
        self.source = source
        self._lines = source.splitlines() or [""]
        self.longest = max(LIMIT, *map(len, self._lines))
        everything = _Everything()
        self.module.visit(everything)
        self.nodes = everything.nodes
        self._parents = everything.parents
        self.forget()

    def forget(self) -> None:
        """Take all edits back."""
        self._edits: dict[cst.CSTNode, list[Edit]] = {}
        self._before: dict[cst.CSTNode, list[cst.BaseStatement]] = {}
        self._after: dict[cst.CSTNode, list[cst.BaseStatement]] = {}
        self._apart: set[cst.CSTNode] = set()
        self.notes: list[str] = []  # what the user should know of the edits

    @functools.cached_property
    def _positions(self) -> Mapping[cst.CSTNode, metadata.CodeRange]:
        return self._wrapper.resolve(metadata.PositionProvider)

    @functools.cached_property
    def _scopes(self) -> Mapping[cst.CSTNode, metadata.Scope | None]:
        return self._wrapper.resolve(metadata.ScopeProvider)

    def edit(self, node: cst.CSTNode, edit: Edit) -> None:
        """Replace a node by what `edit` makes of it; edits inside of it are made first."""
        self._edits.setdefault(node, []).append(edit)

    def before(self, node: cst.BaseStatement, *lines: str, apart: bool = False) -> None:
        """Write statements before one, below the blank lines above it; `apart`: one more below."""
        if apart:
            self._apart.add(node)
        self._before.setdefault(node, []).extend(statement(line, self.module) for line in lines)

    def after(self, node: cst.BaseStatement, *lines: str) -> None:
        """Write statements after one."""
        self._after.setdefault(node, []).extend(statement(line, self.module) for line in lines)

    def add_after(self, node: cst.BaseStatement, new: cst.BaseStatement) -> None:
        """Write a statement after one, as it is laid out."""
        self._after.setdefault(node, []).append(new)

    def text(self) -> str:
        """Return the source with all edits."""
        if not (self._edits or self._before or self._after):
            return self.module.code
        changed = self.module.visit(_Editing(self._edits, self._before, self._after, self._apart))
        return changed.code if isinstance(changed, cst.Module) else self.module.code

    def all(self, kind: type[Found], within: cst.CSTNode | None = None) -> Iterator[Found]:
        """Return all nodes of a kind in the order of the source."""
        nodes = self.nodes if within is None else inside(within)
        return (node for node in nodes if isinstance(node, kind))

    def words(self, node: cst.CSTNode) -> str:
        """Return a node as the source writes it."""
        return self.module.code_for_node(node)

    def line(self, node: cst.CSTNode) -> int:
        line: int = self._positions[node].start.line
        return line

    def line_length(self, node: cst.CSTNode) -> int:
        """Return the length of the line that a node begins in."""
        return len(self._lines[self.line(node) - 1])

    def indent(self, node: cst.CSTNode) -> int:
        """Return how far the line is indented that a node begins in."""
        line = self._lines[self.line(node) - 1]
        return len(line) - len(line.lstrip())

    def lines(self, node: cst.CSTNode) -> range:
        place = self._positions[node]
        return range(place.start.line, place.end.line + 1)

    def parent(self, node: cst.CSTNode) -> cst.CSTNode:
        parent: cst.CSTNode = self._parents[node]
        return parent

    def ancestors(self, node: cst.CSTNode) -> Iterator[cst.CSTNode]:
        """Return what a node stands in, from the inside out."""
        while node in self._parents:
            node = self._parents[node]
            yield node

    def statement(self, node: cst.CSTNode) -> cst.BaseStatement:
        """Return the whole line or block that a node is part of."""
        for outer in (node, *self.ancestors(node)):
            if isinstance(outer, (cst.SimpleStatementLine, cst.BaseCompoundStatement)):
                return outer
        raise Refused("it stands in no statement")

    def function(self, node: cst.CSTNode) -> cst.FunctionDef | cst.Module:
        """Return the function that a node runs in, or the module."""
        for outer in self.ancestors(node):
            if isinstance(outer, cst.FunctionDef):
                return outer
        return self.module

    def condition(self, node: cst.CSTNode) -> cst.CSTNode | None:
        """Return what decides whether a node runs at all once its function does."""
        inner = node
        for outer in self.ancestors(node):
            if isinstance(outer, Function):
                return None
            if isinstance(outer, (cst.If, cst.IfExp)) and inner is not outer.test:
                return None if _is_main_guard(outer) else outer
            if isinstance(outer, (cst.Try, cst.BooleanOperation, cst.Match)):
                return outer
            inner = outer
        return None

    def qualified(self, node: cst.CSTNode) -> set[str]:
        """Return the full names, by their imports, that an expression may mean."""
        node = node.value if isinstance(node, cst.Subscript) else node
        scope = self._scopes.get(node)
        if scope is None or not isinstance(node, (cst.Name, cst.Attribute)):
            return set()
        imported = metadata.QualifiedNameSource.IMPORT
        found = scope.get_qualified_names_for(node)
        return {one.name if one.source is imported else "" for one in found}

    def is_one_of(self, node: cst.CSTNode, names: Sequence[str]) -> bool:
        """Tell whether an expression means one of these; Refused where it may mean others, too."""
        found = self.qualified(node)
        if found and found <= set(names):
            return True
        if found & set(names):
            raise Refused(
                f"{self.words(node)} in line {self.line(node)} may be something else, too"
            )
        return False

    def calls(self, *names: str, within: cst.CSTNode | None = None) -> list[cst.Call]:
        """Return the calls of a function or class by its full names, whatever its import."""
        calls = self.all(cst.Call, within)
        return [call for call in calls if self.is_one_of(call.func, names)]

    def stars(self) -> list[str]:
        """Return the modules of torch that everything is imported from."""
        return [
            self.words(one.module)
            for one in self.all(cst.ImportFrom)
            if isinstance(one.names, cst.ImportStar)
            and one.module is not None
            and self.words(one.module).split(".")[0] == "torch"
        ]


def inside(node: cst.CSTNode) -> Iterator[cst.CSTNode]:
    """Return a node and all in it, in the order of the source."""
    everything = _Everything()
    node.visit(everything)
    return iter(everything.nodes)


def body_of(block: cst.CSTNode) -> Statements:
    """Return the statements of a module, a function or a block, none where it has one line."""
    body = block.body if isinstance(block, (cst.Module, cst.IndentedBlock)) else None
    if body is None and isinstance(block, (cst.FunctionDef, cst.With, cst.For, cst.While, cst.If)):
        return body_of(block.body)
    return tuple(one for one in body or () if isinstance(one, cst.BaseStatement))


def statement(text: str, module: cst.Module) -> cst.BaseStatement:
    """Return a line of code as a statement for this module."""
    return cst.parse_statement(text, config=module.config_for_parsing)


def _is_main_guard(node: cst.CSTNode) -> bool:
    return isinstance(node, cst.If) and any(
        isinstance(one, cst.Name) and one.value == "__name__" for one in inside(node.test)
    )


class _Everything(cst.CSTVisitor):
    def __init__(self) -> None:
        super().__init__()
        self.nodes: list[cst.CSTNode] = []
        self.parents: dict[cst.CSTNode, cst.CSTNode] = {}
        self._above: list[cst.CSTNode] = []

    def on_visit(self, node: cst.CSTNode) -> bool:
        self.nodes.append(node)
        if self._above:
            self.parents[node] = self._above[-1]
        self._above.append(node)
        return True

    def on_leave(self, original_node: cst.CSTNode) -> None:  # noqa: ARG002 - libcst's
        self._above.pop()


class _Editing(cst.CSTTransformer):
    def __init__(
        self,
        edits: dict[cst.CSTNode, list[Edit]],
        before: dict[cst.CSTNode, list[cst.BaseStatement]],
        after: dict[cst.CSTNode, list[cst.BaseStatement]],
        apart: set[cst.CSTNode],
    ) -> None:
        super().__init__()
        self._edits, self._before, self._after, self._apart = edits, before, after, apart

    def on_leave(  # type: ignore[override]
        self, original_node: cst.CSTNode, updated_node: cst.CSTNode
    ) -> cst.CSTNode | cst.FlattenSentinel[cst.CSTNode]:
        for edit in self._edits.get(original_node, ()):
            updated_node = edit(updated_node)
        before = self._before.get(original_node, [])
        after = self._after.get(original_node, [])
        if not before and not after:
            return updated_node
        if before:
            before, updated_node = _led(before, updated_node, original_node in self._apart)
        return cst.FlattenSentinel([*before, updated_node, *after])


def _led(
    before: list[cst.BaseStatement], node: Any, apart: bool
) -> tuple[list[cst.BaseStatement], cst.CSTNode]:
    """Leave blank lines above what is new; a comment stays with its statement."""
    lines = list(node.leading_lines)
    blank = 0
    while blank < len(lines) and lines[blank].comment is None:
        blank += 1
    first = before[0].with_changes(leading_lines=lines[:blank])
    gap = [cst.EmptyLine(indent=False)] if apart else []
    return [first, *before[1:]], node.with_changes(leading_lines=[*gap, *lines[blank:]])
