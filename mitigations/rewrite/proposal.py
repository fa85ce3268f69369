"""A run's remedies as changes of its files: what is asked, what is known, what comes of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from speedprof.mitigations import plans
from speedprof.mitigations.applied.automatic import AUTOMATIC
from speedprof.mitigations.catalogue import Advice
from speedprof.mitigations.plan_files import Remedy
from speedprof.mitigations.rewrite.order import (
    DECISION,
    REFUSED,
    Known,
    Order,
    Outcome,
    Value,
)
from speedprof.mitigations.rewrite.rewriting import ONCE, REWRITINGS, WITH_LOADER, rewrite
from speedprof.mitigations.rewrite.sources import Source
from speedprof.mitigations.rewrite.targets import Target, Targets
from speedprof.mitigations.rewrite.trainer_arguments import takes
from speedprof.mitigations.trainers import training
from speedprof.profiler.run import Run


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A file and its new text."""

    source: Source
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """What would be written, and one outcome for each remedy, in the order asked."""

    changes: tuple[Change, ...]
    outcomes: tuple[Outcome, ...]


def propose(found: Targets, orders: Sequence[Order], *, calls: bool = False) -> Proposal:
    """Write each remedy into the first file that has what it changes.

    `calls`: what cannot be written there is named in a call of `speedprof.apply()` in the script,
    as befits a plan, which was proved at run time. What only serves a remedy goes with it.
    """
    made = _proposed(found, orders, calls=calls)
    refused = {one.name for one in made.outcomes if one.state == REFUSED}
    idle = {one.name: one.serves for one in orders if one.serves in refused}
    if not idle:
        return made
    made = _proposed(found, [one for one in orders if one.name not in idle], calls=calls)
    told = {one.name: one for one in made.outcomes}
    for name, other in idle.items():
        why = f"it goes with {other}, which is refused"
        told[name] = Outcome(name=name, state=REFUSED, why=why)
    return replace(made, outcomes=tuple(told[one.name] for one in orders))


def _proposed(found: Targets, orders: Sequence[Order], *, calls: bool) -> Proposal:
    outcomes: dict[str, Outcome] = {}
    texts = []
    for number, target in enumerate(found.files):
        waiting = [one for one in orders if _is_open(outcomes.get(one.name))]
        mine = [_for(one, target) for one in waiting if _belongs(one, target, number, found)]
        text, made = rewrite(target.source.text, mine)
        outcomes |= {one.name: one for one in made if not _is_worse(one, outcomes.get(one.name))}
        texts.append(text)
    told = [outcomes.get(one.name) or _in_library(one, found) for one in orders]
    if calls:
        texts[0], told = _called(texts[0], orders, told)
    both = zip(found.files, texts, strict=True)
    return Proposal(
        changes=tuple(
            Change(source=target.source, text=text)
            for target, text in both
            if text != target.source.text
        ),
        outcomes=tuple(told),
    )


def _called(
    text: str, orders: Sequence[Order], told: Sequence[Outcome]
) -> tuple[str, list[Outcome]]:
    """Name what was refused in a call; return the text and all outcomes."""
    left = {one.name: one for one in told if one.state == REFUSED and one.name in AUTOMATIC}
    mine = [replace(one, by_call=True) for one in orders if one.name in left]
    text, made = rewrite(text, mine)
    called = {
        one.name: replace(one, why=f"as a call, because {left[one.name].why}; {one.why}")
        for one in made
        if one.state != REFUSED
    }
    return text, [called.get(one.name, one) for one in told]


def _is_open(outcome: Outcome | None) -> bool:
    return outcome is None or (outcome.state == REFUSED and outcome.absent)


def _is_worse(new: Outcome, old: Outcome | None) -> bool:
    """Tell whether the reason of an earlier file says more: that there is nothing says least."""
    return old is not None and new.state == REFUSED and new.absent


def _belongs(order: Order, target: Target, number: int, found: Targets) -> bool:
    if order.name in WITH_LOADER and _loader_is_known(found) and not takes(order):
        return target.loader_line is not None
    return number == 0 or (order.name not in ONCE and takes(order) is None)


def _loader_is_known(found: Targets) -> bool:
    return found.library is not None or any(one.loader_line is not None for one in found.files)


def _for(order: Order, target: Target) -> Order:
    return replace(order, known=replace(order.known, loader_line=target.loader_line))


def _in_library(order: Order, found: Targets) -> Outcome:
    why = f"the training loader is built at {found.library}, in none of your files"
    return Outcome(name=order.name, state=REFUSED, why=why)


def known(run: Run) -> Known:
    """Return what the source does not show."""
    loader = run.training_loader()
    modules = [one.modules for one in run.models if one.modules is not None]
    shapes = run.batch.shapes if run.batch is not None else None
    return Known(
        num_workers=loader.num_workers if loader else None,
        pinned=loader.pin_memory if loader else None,
        iterable=loader.iterable if loader else None,
        picklable=loader.picklable if loader else None,
        start_method=_start_method(run),
        device=_device(run),
        batch_dims=None if shapes is None else tuple(map(len, shapes)),
        has_conv2d=any("Conv2d" in name for one in modules for name in one) if modules else None,
        training=training(run),
    )


def _device(run: Run) -> str | None:
    """Return the device's name in torch; None where no training was recorded."""
    if not run.ranks:
        return None
    return "cuda" if run.device == "rocm" else run.device


def _start_method(run: Run) -> str | None:
    """Return how workers are started; since Python 3.14 it is not by fork unless asked for."""
    loader = run.training_loader()
    if loader is not None and loader.start_method:
        return loader.start_method
    version = (run.environment.python or "").split(".")[:2]
    if len(version) == 2 and all(part.isdigit() for part in version):
        return "forkserver" if tuple(map(int, version)) >= (3, 14) else None
    return None


def orders(
    run: Run, remedies: Iterable[Remedy], advice: Sequence[Advice] = ()
) -> tuple[Order, ...]:
    """Return remedies as orders: what is named nowhere has the advice's value, or the default.

    What the advice wants beside a remedy comes with it: alone, it may not pay.
    """
    facts = known(run)
    fits = {one.mitigation.name: one.fit for one in advice}
    wanted = {one.name: one for one in remedies}
    serves: dict[str, str] = {}
    for name in list(wanted):
        beside = fits[name].beside if name in fits else {}
        for other, values in beside.items():
            if other not in wanted:
                wanted[other] = Remedy(name=other, parameters=_values(values))
                serves[other] = name
    advised = {name: fit.parameters for name, fit in fits.items()}
    return tuple(
        replace(_order(one, facts, advised.get(one.name, {})), serves=serves.get(one.name))
        for one in wanted.values()
    )


def _values(parameters: Mapping[str, object]) -> dict[str, Value]:
    return {n: v for n, v in parameters.items() if isinstance(v, (bool, int, float, str))}


def _order(remedy: Remedy, facts: Known, advised: Mapping[str, object]) -> Order:
    automatic = AUTOMATIC.get(remedy.name)
    allowed = automatic.parameters if automatic is not None else {}
    defaults = {n: one.default for n, one in allowed.items() if one.default is not None}
    ours: dict[str, Value] = {
        name: value
        for name, value in advised.items()
        if name in allowed and isinstance(value, (bool, int, float, str))
    }
    named = {**ours, **remedy.parameters}
    return Order(
        name=remedy.name,
        parameters={**defaults, **named},
        named=frozenset(named),
        known=facts,
    )


def sorted_out(run: Run, advice: Sequence[Advice]) -> tuple[list[Remedy], list[Outcome]]:
    """Part a run's advice into what is written, and what waits for a decision.

    Written are those that go together, among all that can be written.
    """
    best = plans.plan(run, [one for one in advice if one.mitigation.name in REWRITINGS])
    names = best.names if best is not None else ()
    waiting = [one for one in advice if one.mitigation.name not in names]
    return (
        [Remedy(name=name, parameters={}) for name in names],
        [Outcome(name=o.mitigation.name, state=DECISION, why=_decision(o)) for o in waiting],
    )


def _decision(advice: Advice) -> str:
    name = advice.mitigation.name
    if advice.mitigation.changes_training:
        return f"it changes what is trained; `speedprof explain {name}`"
    if name in AUTOMATIC and name not in REWRITINGS:
        return f"it is a call of speedprof.apply() at the top; `--remedy {name}` writes it"
    if name not in REWRITINGS:
        return f"it is yours to write; `speedprof explain {name}`"
    return f"it adds too little to the others, or may cost time; `--remedy {name}` writes it"
