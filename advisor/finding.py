"""A bottleneck that the facts show, with the evidence that convinced us."""

from __future__ import annotations

from dataclasses import dataclass

# phase -> causes, as report.json names them
CAUSES: dict[str, tuple[str, ...]] = {
    "data_loading": ("storage", "cpu_preparation", "worker_handoff", "startup"),
    "host_to_device": ("pageable_memory", "bandwidth", "blocking_copy"),
    "compute": ("arithmetic", "memory_bandwidth"),
    "communication": ("transfer", "straggler"),
    "host": ("launch", "python", "synchronisation", "allocator"),
    "outside": ("checkpoint", "evaluation", "logging", "other"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One rule's answer."""

    rule: str  # the rule's name, as in its file: "cpu-preparation"
    phase: str  # one of profiler.run.PHASES
    cause: str | None  # one of CAUSES[phase], None where the phase is sure and the cause is not
    share: float  # of the step's wall time that this costs, 0..1
    low: float
    high: float
    evidence: str  # one sentence with the numbers
    where: str | None = None  # "train.py:41"
    symptom_of: str | None = None  # rule name of the root cause, when this is only its symptom

    @property
    def bottleneck(self) -> str:
        """Name the finding as reports do: "data_loading: cpu_preparation"."""
        return self.phase if self.cause is None else f"{self.phase}: {self.cause}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What the run suffers from most; `finding` is None where nothing stands out."""

    finding: Finding | None
    sentence: str  # for a person, one line, with the number
