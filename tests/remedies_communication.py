"""Cases of mitigations/communication: where each applies, where not and why, where unknown."""

from __future__ import annotations

from case_runs import Case, Make

APPLIES: dict[str, Make] = {}

MISFITS: dict[str, list[Case]] = {}

NOT_MEASURED: dict[str, list[Make]] = {}
