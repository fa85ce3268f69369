"""The base of all facts about a run: frozen, and the same after a way through JSON."""

from __future__ import annotations

import msgspec


class Fact(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=False):
    """A frozen value that goes to JSON and back."""
