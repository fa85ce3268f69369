"""One remedy: when it helps, what it would gain, how safe it is and how it is applied."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from speedprof.advisor.finding import Finding
from speedprof.profiler.run import Run

SAFETIES = ("exact", "reseeded", "rounding", "changes_training")
ACTIONS = ("remove", "restrict", "reorder", "replace", "retrofit")
COMPONENTS = ("function", "data", "optimization")
HOWS = ("automatic", "patch", "advice")


@dataclass(frozen=True, slots=True, kw_only=True)
class Gain:
    """Predicted step-time ratio old/new, as a range; 1.0 means no gain."""

    low: float
    high: float
    model: str  # the formula with its numbers, one sentence


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """A remedy that applies to this run."""

    reason: str  # why here, with numbers
    gain: Gain | None  # None: cannot be predicted from what was measured
    parameters: Mapping[str, object] = field(default_factory=dict)
    beside: Mapping[str, Mapping[str, object]] = field(default_factory=dict)  # remedies, theirs
    by_hand: str = ""  # the lines to write, ready to paste, with this run's values


@dataclass(frozen=True, slots=True, kw_only=True)
class Misfit:
    """Why a remedy does not apply to this run, one sentence."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Mitigation:
    """A remedy of the catalogue; its file's docstring is its card."""

    name: str  # "loader-workers"
    # (phase, cause); cause None = any cause of the phase; nothing: it mends the training itself
    treats: tuple[tuple[str, str | None], ...]
    safety: str  # one of SAFETIES
    how: str  # one of HOWS: at run time by speedprof, by lines to write, or by a decision
    place: str  # "system" or "5r"
    action: str | None  # one of ACTIONS, None for system
    component: str | None  # one of COMPONENTS, None for system
    source: str
    card: str  # the file's docstring
    assess: Callable[[Run, Finding], Fit | Misfit]
    conflicts: tuple[str, ...] = ()  # not together with these
    after: tuple[str, ...] = ()  # where both are wanted, these come first
    against: str = ""  # published evidence that it does not pay; then it is never advised

    @property
    def changes_training(self) -> bool:
        """Tell whether the quality of what is trained has to be checked."""
        return self.safety == "changes_training"
