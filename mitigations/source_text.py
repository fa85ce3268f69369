"""Values as a script would write them."""

from __future__ import annotations


def written(value: object) -> str:
    """Return a value as source: 100 for 100.0, double quotes."""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return f'"{value}"' if isinstance(value, str) else repr(value)
