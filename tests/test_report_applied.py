"""Remedies in force stand in every report, those without an effect with their reason."""

from __future__ import annotations

import json

import runs

from speedprof.profiler.run import InForce
from speedprof.reports import to_html, to_json, to_text, view

WORKERS = InForce(name="loader-workers", parameters={"num_workers": 2}, effects=1, notes=[])
PINNED = InForce(
    name="pin-memory", parameters={"pin_memory": True}, effects=0, notes=["there is no GPU here"]
)
UNMET = InForce(name="fused-optimizer", parameters={}, effects=0, notes=[])


def test_remedies_in_force_are_said_in_all_reports() -> None:
    seen = view.of(runs.run({"data_loading": 0.3}, applied=[WORKERS, PINNED, UNMET]))
    text = " ".join(to_text.render(seen, width=100).split())
    assert "In force: loader-workers; pin-memory had no effect (there is no GPU here)" in text
    assert "fused-optimizer had no effect (what it changes was not met in this run)" in text
    told = json.loads(to_json.render(seen))["applied"]
    assert told[0] == {
        "name": "loader-workers",
        "parameters": {"num_workers": 2},
        "effects": 1,
        "notes": [],
    }
    page = to_html.render(seen)
    assert "Remedies in force" in page
    assert "num_workers=2" in page


def test_without_a_plan_nothing_is_said() -> None:
    seen = view.of(runs.run({"data_loading": 0.3}))
    assert "In force" not in to_text.render(seen)
    assert "applied" not in json.loads(to_json.render(seen))
    assert "Remedies in force" not in to_html.render(seen)
