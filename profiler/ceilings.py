"""What the step would be without one of its phases, as a range: no remedy can do better.

At best the step loses all of the phase's exposed time and nothing else changes. That is what a
timeline predicts, and it is too good: what is taken out of the step is done elsewhere (by worker
processes, by the copy engine, on a busier link) and slows down what remains, and work that was
hidden behind the phase may come to light. The careful end of the range says how much:

- **Growth.** The rest grows by at most `COMPETITION` of itself, and by at most `EATEN` of what was
  freed: a phase of one per cent does not slow a whole step down. Both come from one published pair
  of traces, ResNet-50 with 32 images a batch on a V100 (PyTorch 1.8): 177.6 ms a step with 59.3 ms
  of loading by the training thread, 141.1 ms with four workers, where 118.3 ms were predicted. The
  kernels took the same 99 ms; operators on the host went from 13.7 to 22.7 ms, launches from 2.9
  to 10.6 ms. So 22.7 ms came back: 19 % of the rest, 38 % of what was freed, each rounded up.
- **Waiting.** A link that takes no time does not make a late rank come earlier: where ranks were
  matched, only the transfer's part of the exposed communication goes, in the careful case.
- **Workers.** Without any other phase the step is still as long as the loader's workers need for
  its batches, in both cases, where they were timed.
- **Nothing to hide behind.** What runs beside a stall is not in the stall: a moment belongs to a
  stall only where the device is idle (or, for copies and communication, where it does not
  compute), so that freeing one stall does not uncover another.

Computing has no ceiling of this kind: it is what the step is for. `without_stalls` is its
counterpart, the step of computing alone.
"""

from __future__ import annotations

from dataclasses import dataclass

from speedprof.profiler.run import PHASES, Run

COMPETITION = 0.20  # of the rest of the step
EATEN = 0.40  # of the time that was freed
STALLS = tuple(name for name in PHASES if name != "compute")
SHORTEST = 0.001  # of the step: what remains at least, so that a ratio is finite


@dataclass(frozen=True, slots=True, kw_only=True)
class Ceiling:
    """A step without something: from the best case to the careful one."""

    low_ms: float
    high_ms: float
    speedup_low: float  # old step / high_ms
    speedup_high: float  # old step / low_ms


def ceilings(run: Run) -> dict[str, Ceiling]:
    """Return the ceiling of each stall that the step has; nothing where phases are not known."""
    step = _step_ms(run)
    if run.phases is None or step <= 0:
        return {}
    found = {}
    for name in STALLS:
        exposed = run.phases[name].ms
        if exposed <= 0:
            continue
        certain = exposed * _transfer(run) if name == "communication" else exposed
        floor = 0.0 if name == "data_loading" else _supply_ms(run)
        found[name] = _ceiling(step, exposed, certain=certain, floor=floor)
    return found


def without_stalls(run: Run) -> Ceiling | None:
    """Return the step of computing alone; None where phases are not known or nothing computes."""
    step = _step_ms(run)
    if run.phases is None or step <= 0 or run.phases["compute"].ms <= 0:
        return None
    stalls = step - run.phases["compute"].ms
    return _ceiling(step, stalls, certain=stalls, floor=0.0)


def grown(rest_ms: float, freed_ms: float) -> float:
    """Return what the rest of a step takes, in ms, when it slows down as `freed_ms` are freed."""
    return rest_ms + min(COMPETITION * rest_ms, EATEN * freed_ms)


def _ceiling(step: float, exposed: float, *, certain: float, floor: float) -> Ceiling:
    """Return the range: without all of `exposed`, or only of what is `certain` to go."""
    shortest = max(floor, SHORTEST * step)
    low = min(max(step - exposed, shortest), step)
    high = min(max(grown(step - certain, certain), low), step)
    return Ceiling(low_ms=low, high_ms=high, speedup_low=step / high, speedup_high=step / low)


def _step_ms(run: Run) -> float:
    return sum(phase.ms for phase in run.phases.values()) if run.phases else 0.0


def _transfer(run: Run) -> float:
    """Return which part (0..1) of the communication is no waiting; 1 where ranks do not tell."""
    spent = run.communication
    if spent is None or spent.transfer_ms is None or spent.waiting_ms is None:
        return 1.0
    whole = spent.transfer_ms + spent.waiting_ms
    return spent.transfer_ms / whole if whole > 0 else 1.0


def _supply_ms(run: Run) -> float:
    """Return how often, in ms, the workers can deliver a step's batches; 0 where not known."""
    loader = run.training_loader()
    if loader is None or loader.num_workers == 0 or loader.getitem_ms is None:
        return 0.0
    batch = loader.getitem_ms + (loader.collate_ms or 0.0)
    return batch * (run.batches_per_step or 1.0) / loader.num_workers
