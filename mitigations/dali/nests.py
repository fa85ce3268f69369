"""Samples and batches as nests of tuples, lists and dicts: where something lies in them."""

from __future__ import annotations

from typing import Any

Path = tuple[Any, ...]  # keys, from the outside in


def find(nest: Any, wanted: object) -> Path | None:
    """Return the way to the very object `wanted`; None where it lies nowhere, or twice."""
    found = _places(nest, wanted)
    return found[0] if len(found) == 1 else None


def at(nest: Any, path: Path) -> Any:
    for key in path:
        nest = nest[key]
    return nest


def put(nest: Any, path: Path, value: Any) -> Any:
    """Return the nest with something else at a place; what it was built of stays as it is."""
    if not path:
        return value
    key, rest = path[0], path[1:]
    inner = put(nest[key], rest, value)
    if isinstance(nest, dict):
        return {**nest, key: inner} if type(nest) is dict else _changed(nest, key, inner)
    items = [inner if number == key else item for number, item in enumerate(nest)]
    if isinstance(nest, tuple):
        return type(nest)(*items) if hasattr(nest, "_fields") else tuple(items)
    return items


def _places(nest: Any, wanted: object) -> list[Path]:
    if nest is wanted:
        return [()]
    if isinstance(nest, dict):
        inner: Any = nest.items()
    elif isinstance(nest, (tuple, list)):
        inner = enumerate(nest)
    else:
        return []
    return [(key, *path) for key, item in inner for path in _places(item, wanted)]


def _changed(nest: Any, key: Any, value: Any) -> Any:
    import copy

    changed = copy.copy(nest)
    changed[key] = value
    return changed
