"""What was faster alone, but not beyond noise, is worth a trial together.

Starts of one script differ by a few per cent, so that a remedy which gains as much cannot be told
alone in a few trials; several of them together can.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from speedprof.mitigations.tuning.candidates import COSTS, Candidate, Key, key, named, rivals
from speedprof.mitigations.tuning.decision import WORTH
from speedprof.mitigations.tuning.proof import Proof
from speedprof.mitigations.tuning.trial import Plan
from speedprof.mitigations.tuning.tuned import Tried
from speedprof.mitigations.tuning.turns import Compared

MOST_TOGETHER = 5  # of trials of a combination: it is the last that is tried


@dataclass(frozen=True, kw_only=True)
class Combination:
    """Doubtful remedies that go together with the plan, and with each other."""

    plan: Plan  # with all of them in force
    parts: tuple[Tried, ...]

    @property
    def keys(self) -> frozenset[Key]:
        return frozenset(key(one.remedy) for one in self.parts)

    @property
    def words(self) -> str:
        return " and ".join(named(one.remedy) for one in self.parts)

    def told(self, one: Tried, compared: Compared, proof: Proof | None, *, kept: bool) -> Tried:
        """Return a part with what became of it."""
        others = " and ".join(named(two.remedy) for two in self.parts if two is not one)
        trials = (*one.trials, *compared.folders)
        if compared.found is None:
            why = compared.problem or "no time was left to try it again"
            return replace(one, why=f"{one.why}; {why}", trials=trials)
        again = f"together with {others}" if others else "tried again"
        why = f"{again}: {compared.found}"
        if kept and proof is not None:
            why = f"{why}; {proof.sentence}"
        else:
            why = "; ".join([one.why, why, *([proof.sentence] if proof is not None else [])])
        measured = one.measured if others else compared.found
        return replace(one, measured=measured, proof=proof, kept=kept, why=why, trials=trials)


def combination(
    tried: Sequence[Tried], plan: Plan, candidates: Mapping[Key, Candidate]
) -> Combination | None:
    """Return what to try together, the likeliest first; None where nothing is in doubt.

    `candidates` are those that were tried, by their keys.
    """
    whole, parts = plan, []
    for one in sorted(tried, key=lambda one: -_ratio(one)):
        candidate = candidates.get(key(one.remedy))
        name = one.remedy.name
        if candidate is None or not _doubtful(one) or any(two.name == name for two in whole):
            continue
        if not rivals(name, whole):
            whole = candidate.within(whole)
            parts.append(one)
    return Combination(plan=whole, parts=tuple(parts)) if parts else None


def _doubtful(one: Tried) -> bool:
    """Tell whether it looked worth it, no proof spoke against it and another look is cheap."""
    unproved = one.proof is None
    return not one.kept and unproved and _ratio(one) >= WORTH and one.remedy.name not in COSTS


def _ratio(one: Tried) -> float:
    return one.measured.ratio if one.measured is not None else 0.0
