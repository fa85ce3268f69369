"""What no report's advice may do, as sentences about the breaches; for reports of real runs."""

from __future__ import annotations

from typing import Any

from speedprof.mitigations.catalogue import MOST_BALANCED, find


def breaches(report: dict[str, Any]) -> list[str]:
    """Return what the advice of a report.json does against its own verdict."""
    names = [remedy["name"] for remedy in report["mitigations"]]
    limit = (report["bottleneck"] or {}).get("phase")
    treated = {name: {phase for phase, _ in find(name).treats} for name in names}
    if limit is None:
        many = f"nothing stands out, and yet {len(names)} remedies are advised: {names}"
        return [many] if len(names) > MOST_BALANCED else []
    needless = {"data_loading": "compute", "compute": "data_loading"}.get(limit)
    return [
        f"{name} treats {needless}, where {limit} is the limit"
        for name, phases in treated.items()
        if needless in phases and limit not in phases
    ]
