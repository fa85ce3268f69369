"""The insides of the phases: lines, operators, copies, collectives, from one process's windows.

Windows hold traced steps; what they found in a phase is scaled to what the phase takes in usual
steps, so that the parts of a phase add up to it.
"""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from typing import TYPE_CHECKING

from speedprof.profiler.batch_sources import cubes, makes_batches
from speedprof.profiler.labels import KINDS, LABELS, PHASE_OF
from speedprof.profiler.operators import bound
from speedprof.profiler.run import Compute, Copies, Host, Line, Operator, Outside

if TYPE_CHECKING:
    from speedprof.profiler.ranks import Trained

MOST_LINES, MOST_OPERATORS = 40, 20


def compute(part: Trained) -> Compute | None:
    """Return the inside of the compute phase; without windows only what probes saw of a CPU's."""
    if part.breakdown is None:
        return None
    ms = part.breakdown.label_ms
    if not part.breakdown.split:
        return Compute()
    kinds: Counter[str] = Counter()
    named: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
    kind_of = {}
    for window in part.windows:
        for operator in window.operators:
            if makes_batches(window, operator.chain, part.sources):
                continue
            kinds[operator.kind] += operator.ns
            if operator.name:
                kind_of[operator.name] = operator.kind
                named[operator.name][0] += operator.ns
                named[operator.name][1] += operator.calls
    steps = sum(len(window.cube) for window in part.windows)
    scale = part.breakdown.phases["compute"].ms / max(sum(kinds.values()), 1)
    largest = sorted(named.items(), key=lambda item: -item[1][0])[:MOST_OPERATORS]
    return Compute(
        forward_ms=ms["compute.forward"],
        backward_ms=ms["compute.backward"],
        optimizer_ms=ms["compute.optimizer"],
        kinds={kind: ns * scale for kind, ns in kinds.most_common()},
        operators=[
            Operator(name=name, kind=kind_of[name], ms=ns * scale, calls=calls / steps)
            for name, (ns, calls) in largest
        ],
        operators_per_step=sum(window.operator_calls for window in part.windows) / steps,
        bound=bound(kinds),
    )


def host(part: Trained) -> Host | None:
    if part.breakdown is None or not part.breakdown.split:
        return None
    ms = part.breakdown.label_ms
    return Host(
        launch_ms=ms["host.launch"],
        python_ms=ms["host.python"],
        allocator_ms=ms["host.allocator"],
        synchronisation_ms=ms["host.synchronisation"],
    )


def outside(part: Trained) -> Outside | None:
    if part.breakdown is None:
        return None
    ms = part.breakdown.label_ms
    return Outside(
        checkpoint_ms=ms["outside.checkpoint"],
        evaluation_ms=ms["outside.evaluation"],
        logging_ms=ms["outside.logging"],
        other_ms=ms["outside.other"],
    )


def copies(part: Trained) -> Copies | None:
    """Return the host-to-device copies; None where windows saw no device."""
    seen = [window.copies for window in part.windows if window.copies is not None]
    steps = sum(len(window.cube) for window in part.windows if window.copies is not None)
    if not steps:
        return None
    pinned, pageable = sum(c.pinned_ns for c in seen), sum(c.pageable_ns for c in seen)
    size = sum(c.bytes for c in seen)
    return Copies(
        pinned_ms=pinned / steps / 1e6,
        pageable_ms=pageable / steps / 1e6,
        blocking_ms=sum(c.blocking_ns for c in seen) / steps / 1e6,
        bytes=size / steps if size > 0 else None,
        gb_per_s=size / (pinned + pageable) if size > 0 and pinned + pageable else None,
    )


def lines(part: Trained, cwd: str) -> list[Line]:
    """Return where the training thread was seen, largest first."""
    if part.breakdown is None or not part.breakdown.split or part.rank.step_ms is None:
        return []
    spent: Counter[tuple[str, str, str, str]] = Counter()
    codes: dict[str, str | None] = {}
    for window in part.windows:
        for line in window.lines:
            batches = makes_batches(window, line.chain, part.sources)
            label = "data_loading" if batches else LABELS[line.label]
            waits = line.waiting and label in ("data_loading", "outside.other")
            where = f"{shown(line.file, cwd)}:{line.line}"
            phase = label.partition(".")[0]
            kind = "waiting" if waits else KINDS[label]
            spent[where, line.function, phase, kind] += line.ns
            codes[where] = line.code
    scale = _scales(part)
    step = part.rank.step_ms.mean_ms
    found = [
        Line(
            where=where,
            function=function,
            phase=phase,
            kind=kind,
            share=ns * scale[phase] / step,
            ms=ns * scale[phase],
            code=codes[where],
        )
        for (where, function, phase, kind), ns in spent.items()
    ]
    found.sort(key=lambda line: -line.ms)
    return found[:MOST_LINES]


def _scales(part: Trained) -> dict[str, float]:
    """Return, by phase, the ms per usual step for one ns seen in windows."""
    assert part.breakdown is not None
    seen: Counter[str] = Counter()
    for window in part.windows:
        kept, moved = cubes(window, part.sources)
        for phase, ns in zip(PHASE_OF, kept.sum(axis=(0, 1)).tolist(), strict=True):
            seen[phase] += ns
        seen["data_loading"] += int(moved.sum())
    return {
        phase: found.ms / seen[phase] if seen[phase] else 0.0
        for phase, found in part.breakdown.phases.items()
    }


def shown(file: str, cwd: str) -> str:
    """Return a path as the user would write it: relative below the working directory."""
    if cwd and file.startswith(cwd.rstrip(os.sep) + os.sep):
        return file[len(cwd.rstrip(os.sep)) + 1 :]
    return file
