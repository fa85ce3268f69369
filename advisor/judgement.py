"""Run -> findings -> verdict."""

from __future__ import annotations

from dataclasses import dataclass

from speedprof.advisor.finding import Finding, Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What the rules found, root causes first, and what stands out."""

    verdict: Verdict
    findings: tuple[Finding, ...]
