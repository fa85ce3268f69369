"""The page's sections on what feeds the step: the loaders and the copies to the device."""

from __future__ import annotations

from typing import TYPE_CHECKING

from speedprof.mitigations.applied import words
from speedprof.reports import wording
from speedprof.reports.parts import Column, Facts, Section, Table

if TYPE_CHECKING:
    from speedprof.profiler.run import Loader, Run


def loaders(run: Run) -> Section | None:
    if not run.loaders:
        return None
    parts: list[Facts | Table] = [_built(run.loaders)]
    timed = [loader for loader in run.loaders if loader.getitem_ms is not None]
    if timed:
        parts.append(_spent(timed))
    parts += [_transforms(loader) for loader in run.loaders if loader.transforms]
    lead = f"{words.DALI_AS_ONE}." if words.tables(run.applied) else ""
    return Section(name="loaders", title="Loaders", lead=lead, parts=tuple(parts))


def _built(built: list[Loader]) -> Table:
    return Table(
        caption="How they were built",
        columns=(
            Column("loader"),
            Column("line", "code"),
            Column("dataset", "code"),
            Column("samples", "number"),
            Column("batch", "number"),
            Column("workers", "number"),
            Column("prefetch", "number"),
            Column("pinned"),
            Column("persistent"),
            Column("batches", "number"),
            Column("epochs", "number"),
        ),
        rows=tuple(
            (
                f"{loader.number} {loader.role}",
                loader.where,
                loader.dataset,
                "stream" if loader.iterable else wording.count(loader.length),
                wording.count(loader.batch_size),
                wording.count(loader.num_workers),
                wording.count(loader.prefetch_factor),
                wording.yes(loader.pin_memory),
                wording.yes(loader.persistent_workers),
                wording.count(loader.batches),
                wording.count(loader.iterations),
            )
            for loader in built
        ),
    )


def _spent(timed: list[Loader]) -> Table:
    """Show where a batch's time went.

    Of the time in __getitem__, CPU, queueing and storage are parts.
    """
    return Table(
        caption="What one batch took where it was made",
        columns=(
            Column("loader"),
            Column("__getitem__", "number"),
            Column("of it CPU", "number"),
            Column("waiting for a core", "number"),
            Column("waiting for storage", "number"),
            Column("collate", "number"),
            Column("read", "number"),
            Column("from the device", "number"),
            Column("batch size", "number"),
            Column("training waited, a step", "number"),
            Column("first batch", "number"),
        ),
        rows=tuple(
            (
                f"{loader.number} {loader.role}",
                wording.ms(loader.getitem_ms),
                wording.ms(loader.getitem_cpu_ms),
                wording.ms(loader.queued_ms),
                wording.ms(loader.storage_wait_ms),
                wording.ms(loader.collate_ms),
                wording.quantity(loader.read_bytes, "B"),
                wording.quantity(loader.disk_bytes, "B"),
                wording.quantity(loader.batch_bytes, "B"),
                wording.ms(loader.wait_ms),
                wording.ms(loader.first_batch_ms),
            )
            for loader in timed
        ),
    )


def _transforms(loader: Loader) -> Table:
    whole = sum(step.ms_per_sample for step in loader.transforms) or 1.0
    return Table(
        caption=f"Transforms of loader {loader.number}, in order",
        columns=(
            Column("transform", "code"),
            Column("share of the chain", "bar"),
            Column("a sample", "number"),
            Column("calls", "number"),
        ),
        rows=tuple(
            (
                step.name,
                step.ms_per_sample / whole,
                wording.ms(step.ms_per_sample),
                wording.count(step.calls),
            )
            for step in loader.transforms
        ),
    )


def copies(run: Run) -> Section | None:
    copied = run.copies
    if copied is None:
        return None
    speed = wording.DASH if copied.gb_per_s is None else f"{wording.number(copied.gb_per_s)} GB/s"
    pairs = (
        ("from pageable memory", wording.ms(copied.pageable_ms)),
        ("from pinned memory", wording.ms(copied.pinned_ms)),
        ("host blocked", wording.ms(copied.blocking_ms)),
        ("copied a step", wording.quantity(copied.bytes, "B")),
        ("speed", speed),
    )
    return Section(name="copies", title="Copies to the device", parts=(Facts(pairs=pairs),))
