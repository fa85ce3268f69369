"""The page on the device and on what stalls cost: its use, and the step without each of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from speedprof.profiler.ceilings import without_stalls
from speedprof.profiler.run import PHASES
from speedprof.reports import measured, wording
from speedprof.reports.parts import Column, Section, Table

if TYPE_CHECKING:
    from speedprof.profiler.run import GpuUse, Run
    from speedprof.reports.parts import Cell
    from speedprof.reports.view import View


def use(run: Run) -> Section | None:
    used = run.gpu_use
    if used is None or used.step_ms <= 0:
        return None
    sayings = (measured.gpu, measured.whole_trace, measured.communication, measured.copies)
    told = (say(run) for say in sayings)
    lead = ". ".join(said[0].upper() + said[1:] for said in told if said is not None)
    return Section(
        name="gpu",
        title="What the GPU did",
        lead=f"{lead}.",
        parts=(_table(run, used),),
    )


def _table(run: Run, used: GpuUse) -> Table:
    spent = (
        ("busy", used.busy_ms),
        ("computing", used.compute_ms),
        ("communication", used.communication_ms),
        ("of it beside computing", used.overlap_ms),
        ("of it exposed", used.exposed_communication_ms),
        ("copies", used.copies_ms),
        ("of them without any kernel", used.exposed_copies_ms),
        ("to the device", used.to_device_ms),
        ("to the host", used.to_host_ms),
        ("on the device", used.on_device_ms),
        ("filling memory", used.memset_ms),
        ("idle", used.idle_ms),
        ("of it in the DataLoader", used.loader_idle_ms),
        ("of it in calls of the runtime", used.runtime_idle_ms),
    )
    rows = tuple(
        (name, ms / used.step_ms, wording.ms(ms), _speed(run, name))
        for name, ms in spent
        if ms > 0 or name in ("busy", "idle")
    )
    return Table(
        caption="Parts that overlap each other, as the mean over steps and ranks",
        columns=(
            Column("what"),
            Column("share of the step", "bar"),
            Column("a step", "number"),
            Column("speed", "number"),
        ),
        rows=rows,
    )


def _speed(run: Run, name: str) -> Cell:
    speed = run.copies.gb_per_s if run.copies is not None and name == "to the device" else None
    return "" if speed is None else f"{wording.number(speed)} GB/s"


def ceilings(view: View) -> Section | None:
    """Say what the step would be without each stall; it stands within the section of the step."""
    if not view.ceilings or view.run.phases is None:
        return None
    phases, gone = view.run.phases, view.ceilings
    rows: list[tuple[Cell, ...]] = [
        (name, wording.ms(phases[name].ms), measured.span(gone[name]), measured.faster(gone[name]))
        for name in sorted(gone, key=lambda name: -gone[name].speedup_high)
    ]
    alone = without_stalls(view.run)
    if alone is not None:
        now = wording.ms(sum(phases[name].ms for name in PHASES if name != "compute"))
        rows.append(("all of them", now, measured.span(alone), measured.faster(alone)))
    return Section(
        name="ceilings",
        title="If a stall were gone",
        lead="No remedy does better than this. From the timeline, between taking the stall away "
        "as if nothing else changed, and letting the rest of the step slow down as it did in "
        "a published case.",
        parts=(
            Table(
                caption="One step without a stall",
                columns=(
                    Column("stall", "phase"),
                    Column("takes now", "number"),
                    Column("a step without it", "number"),
                    Column("faster", "number"),
                ),
                rows=tuple(rows),
            ),
        ),
    )
