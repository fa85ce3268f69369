"""Which remedies that speedprof applies do not go together, as their cards say.

The training process knows no cards; tests/test_plan_rivals.py holds this list to them.
"""

from __future__ import annotations

from collections.abc import Iterable

RIVALS: frozenset[frozenset[str]] = frozenset(
    frozenset(pair)
    for pair in (
        ("in-process-loading", "loader-workers"),
        ("in-process-loading", "persistent-workers"),
        ("in-process-loading", "deeper-prefetch"),
        ("dali-loading", "loader-workers"),
        ("dali-loading", "in-process-loading"),
        ("dali-loading", "persistent-workers"),
        ("dali-loading", "deeper-prefetch"),
        ("bf16-autocast", "fp16-autocast"),
        ("cache-samples", "dali-loading"),
    )
)


def rival(name: str, others: Iterable[str]) -> str | None:
    """Return one of the others that a remedy does not go together with, None where all do."""
    return next((other for other in others if frozenset((name, other)) in RIVALS), None)
