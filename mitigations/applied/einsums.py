"""Products of attention that are written as einsum, by the letters of their axes."""

from __future__ import annotations

from typing import Any


class EquationError(ValueError):
    """Why an equation is no product of attention."""


def score_axes(graph: Any, equation: str, query: Any, key: Any) -> tuple[Any, Any]:
    """Return query and transposed key as nodes whose matrix product is what the equation says."""
    first, second, out = _letters(equation)
    batch, row, column = out[:-2], out[-2], out[-1]
    inside = [letter for letter in first if letter in second and letter not in out]
    if len(inside) != 1 or row in second or column in first:
        raise EquationError(f"einsum {equation!r} is no product of queries and keys")
    _check(first, (*batch, row, inside[0]), equation)
    _check(second, (*batch, inside[0], column), equation)
    return (
        _permuted(graph, query, first, (*batch, row, inside[0])),
        _permuted(graph, key, second, (*batch, inside[0], column)),
    )


def value_axes(graph: Any, equation: str, value: Any) -> tuple[Any, tuple[int, ...]]:
    """Return the values as a node (batch, column, width), and how to order the product's axes."""
    weights, second, out = _letters(equation)
    batch, row, column = weights[:-2], weights[-2], weights[-1]
    width = [letter for letter in second if letter not in weights]
    if len(width) != 1 or column in out or row in second:
        raise EquationError(f"einsum {equation!r} is no product of weights and values")
    _check(second, (*batch, column, width[0]), equation)
    made = (*batch, row, width[0])
    _check(out, made, equation)
    return (
        _permuted(graph, value, second, (*batch, column, width[0])),
        tuple(made.index(letter) for letter in out),
    )


def _letters(equation: str) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    inputs, arrow, out = equation.replace(" ", "").partition("->")
    first, comma, second = inputs.partition(",")
    if not arrow or not comma or "." in equation or "," in second or len(out) < 3:
        raise EquationError(f"einsum {equation!r} is not understood")
    return tuple(first), tuple(second), tuple(out)


def _check(letters: tuple[str, ...], wanted: tuple[str, ...], equation: str) -> None:
    if sorted(letters) != sorted(wanted) or len(set(letters)) < len(letters):
        raise EquationError(f"einsum {equation!r} has other axes than attention")


def _permuted(graph: Any, node: Any, now: tuple[str, ...], then: tuple[str, ...]) -> Any:
    if now == then:
        return node
    return graph.call_method("permute", (node, tuple(now.index(letter) for letter in then)))
