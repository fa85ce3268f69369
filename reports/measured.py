"""What was measured of the device and of what each stall costs, in sentences.

The terminal and the page say the same. A recorded trace is exact for what it holds, so that
shares have a decimal here, and of few steps the sum is said, too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from speedprof.advisor.rules import warm_up
from speedprof.reports import (
    sections_applied,
    sections_roofs,
    sections_tuning,
    sections_whatif,
    wording,
)

if TYPE_CHECKING:
    from speedprof.profiler.ceilings import Ceiling
    from speedprof.profiler.run import Run, Straggler
    from speedprof.reports.view import View

MUCH_IDLE = 0.2  # of the step: from here it is said whether the loader is to blame
LITTLE = 0.005  # of the step
COPYING = 0.01  # of the step: less copying is not worth a line
DIFFERENT = 0.005  # of the step
WORTH = 1.05  # from here what a stall costs is worth a line


def sentences(view: View) -> list[str]:
    """Return what there is to say, the GPU first, then what the greatest stall costs.

    On the CPU the phases have said it all.
    """
    run = view.run
    said = [
        sections_tuning.sentence(run),
        sections_applied.sentence(run),
        gpu(run),
        whole_trace(run),
        communication(run),
        ranks(run),
        copies(run),
        arithmetic(run),
        sections_whatif.sentence(run),
        sections_roofs.sentence(run),
    ]
    if run.kind == "trace" or run.gpu_use is not None:
        said.append(bottleneck_gone(view))
    return [sentence for sentence in said if sentence is not None]


def tenths(part: float, whole: float) -> str:
    """Say a part in tenths of a percent."""
    return f"{100 * part / whole:.1f} %" if whole > 0 else wording.DASH


def gpu(run: Run) -> str | None:
    used = run.gpu_use
    if used is None or used.step_ms <= 0:
        return None
    busy, idle = tenths(used.busy_ms, used.step_ms), tenths(used.idle_ms, used.step_ms)
    which = f"the {len(run.ranks)} GPUs are" if len(run.ranks) > 1 else "the GPU is"
    said = f"{which} busy {busy} of the step and idle {idle}"
    if used.runtime_idle_ms >= MUCH_IDLE * used.step_ms:
        calls = "HIP" if run.device == "rocm" else "CUDA"
        inside = tenths(used.runtime_idle_ms, used.step_ms)
        said += f" ({inside} inside calls of the {calls} runtime)"
    if used.loader_ms > LITTLE * used.step_ms or used.loader_idle_ms > 0:
        waiting = tenths(used.loader_idle_ms, used.step_ms)
        return f"{said}; the training thread is in the DataLoader with the GPU idle {waiting}"
    if used.idle_ms >= MUCH_IDLE * used.step_ms:
        return f"{said}, and not because of a DataLoader"
    return said


def whole_trace(run: Run) -> str | None:
    """Say what other tools' figures are of, where steps tell something else."""
    whole, used = run.trace_use, run.gpu_use
    if whole is None or used is None or whole.step_ms <= 0 or used.step_ms <= 0:
        return None
    idle, waiting = whole.idle_ms / whole.step_ms, whole.loader_idle_ms / whole.step_ms
    apart = abs(idle - used.idle_ms / used.step_ms)
    if max(apart, abs(waiting - used.loader_idle_ms / used.step_ms)) < DIFFERENT:
        return None
    loader = f", {100 * waiting:.1f} % with the thread in the DataLoader" if waiting > 0 else ""
    stretch = f"from first to last activity, {wording.ms(whole.step_ms)}"
    which = "a GPU is on average" if len(run.ranks) > 1 else "the GPU is"
    return f"{stretch}, {which} idle {100 * idle:.1f} %{loader}"


def communication(run: Run) -> str | None:
    used = run.gpu_use
    if used is None or used.communication_ms <= 0:
        return None
    whole, exposed = used.communication_ms, used.exposed_communication_ms
    hidden = (
        "none of it is overlapped by computing"
        if used.overlap_ms < LITTLE * whole
        else f"of it {_spent(run, exposed)} exposed, {tenths(used.overlap_ms, whole)} overlapped "
        "by computing"
    )
    return f"communication takes {_spent(run, whole, ' a step')}, {hidden}"


def ranks(run: Run) -> str | None:
    """Say what of matched collectives is transfer, and who is waited for; sums, not per step."""
    found = run.communication.matching if run.communication is not None else None
    if found is None or not found.ranks:
        return None
    inside = [rank.inside_ms for rank in found.ranks]
    said = (
        f"{plenty(found.collectives, 'collective')} matched over {len(inside)} ranks: transfer "
        f"{exact(found.transfer_ms)} of the {exact(min(inside))} to {exact(max(inside))} ms that "
        "a rank spends in them"
    )
    if not found.stragglers:
        return said
    late = found.stragglers[0]
    whole = f"{exact(late.caused_ms)} of {exact(found.waiting_ms)} ms"
    return f"{said}; rank {late.rank} causes {whole} of waiting{lateness(late)}"


def lateness(late: Straggler) -> str:
    """Say what kept a late rank, where that is known."""
    cause = late.label or late.phase
    if cause is not None:
        return f", kept by {cause.replace('.', ': ').replace('_', ' ')}"
    if late.unseen_ms > late.caused_ms / 2:
        return ": it came late into the recorded steps"
    return ""


def copies(run: Run) -> str | None:
    copied, used = run.copies, run.gpu_use
    if copied is None or used is None or used.to_device_ms < COPYING * used.step_ms:
        return None
    pageable, pinned = copied.pageable_ms or 0.0, copied.pinned_ms or 0.0
    memory = "pageable" if pageable > pinned else "pinned"
    speed = f" at {wording.number(copied.gb_per_s)} GB/s" if copied.gb_per_s else ""
    spent = _spent(run, used.to_device_ms, " a step")
    return f"copies to the GPU from {memory} memory take {spent}{speed}"


def exact(ms: float) -> str:
    """Say milliseconds of a trace to compare with other tools': 0.22, 9.2, 103.8."""
    return f"{ms:,.1f}" if ms >= 1 else f"{ms:.2f}"


def plenty(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def arithmetic(run: Run) -> str | None:
    """Say how fast products run, and what part of the device's roof the step uses."""
    counted = run.compute.arithmetic if run.compute is not None else None
    if counted is None:
        return None
    types = " and ".join(name for name in counted.precisions if name)
    inside = f" in {types}" if types else ""
    said = (
        f"kernels with known FLOPs run at {wording.number(counted.tflops_per_s)} TFLOP/s{inside}"
    )
    if counted.mfu is None:
        return said
    roofs = ", ".join(f"{wording.number(rate)} for {name}" for name, rate in counted.peaks.items())
    return f"{said}; MFU {wording.percent(counted.mfu)} of the {counted.device}'s roof ({roofs})"


def _spent(run: Run, ms: float, per: str = "") -> str:
    """Say a time per step, and the sum of a recorded trace's steps, where that is another one."""
    steps = run.traced_steps
    if run.kind != "trace" or steps < 2 or len(run.ranks) > 1:
        return f"{wording.ms(ms)}{per}"
    return f"{wording.ms(ms)}{per} ({ms * steps:,.1f} ms in {steps} steps)"


def bottleneck_gone(view: View) -> str | None:
    """Say what the step would be without the phase that the verdict is about, or the largest."""
    if not view.ceilings:
        return None
    found = view.judgement.verdict.finding
    if found is not None and found.rule == warm_up.NAME:
        return None
    largest = max(view.ceilings, key=lambda name: view.ceilings[name].speedup_high)
    name = found.phase if found is not None and found.phase in view.ceilings else largest
    if view.ceilings[name].speedup_high < WORTH:
        return None
    return f"without {PHASE_GONE[name]} a step would take {outcome(view.ceilings[name])}"


def outcome(gone: Ceiling) -> str:
    """Say a step without a phase: "118–142 ms, 1.25× to 1.50× faster"."""
    return f"{span(gone)}, {faster(gone)}"


def span(gone: Ceiling) -> str:
    low, high = wording.ms(gone.low_ms), wording.ms(gone.high_ms)
    return high if low == high else f"{wording.number(gone.low_ms)}–{high}"


def faster(gone: Ceiling) -> str:
    low, high = _ratio(gone.speedup_low), _ratio(gone.speedup_high)
    return f"{high} faster" if low == high else f"{low} to {high} faster"


def _ratio(value: float) -> str:
    return f"{value:.2f}×" if value < 9.95 else f"{value:.0f}×"


PHASE_GONE = {
    "data_loading": "waiting for data",
    "host_to_device": "exposed copies to the device",
    "communication": "exposed communication",
    "host": "waiting for the host",
    "outside": "work between steps",
}
