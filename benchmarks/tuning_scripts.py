"""The planted scripts that `speedprof tune` is held to, and the best fix by hand that is known.

A fix keeps what the script does: its samples, its model, its steps, its log. It is nothing less
safe than what tune may try by itself (rounding, another random order), and it does not stop at
what was planted: once the stall is gone, what is left is made faster, too. Where several are
written down, all are measured, and the fastest counts.
"""

from __future__ import annotations

from dataclasses import dataclass

from changes import COMPILED, LAST, autocast
from changes_loading import KEPT, MAIN
from changes_network import NETWORKS
from remedied import Change, lines, on_threads

BATCH = "loss = model(batch).square().mean()"
IN_EPOCHS, IN_LOOP = f"                {BATCH}", f"        {BATCH}"
WORKERS = "num_workers={count}, persistent_workers=True)"
FUSED = "fused=True"


@dataclass(frozen=True, kw_only=True)
class Fix:
    """What somebody who knows the script does to it."""

    changes: tuple[Change, ...]

    @property
    def words(self) -> str:
        return ", ".join(change.words for change in self.changes)


@dataclass(frozen=True, kw_only=True)
class Planted:
    """A planted script, long enough for trials, and fixes of it."""

    script: str
    longer: tuple[str, str]  # the text that says how long it trains, and the one for longer
    fixes: tuple[Fix, ...]
    steps: int  # that a fresh run measures: two to three seconds as the script is, on two cores
    ranks: int = 1

    @property
    def changes(self) -> tuple[Change, ...]:
        """Return what is changed in all runs."""
        network = (NETWORKS[self.script],) if self.script in NETWORKS else ()
        return (lines("longer", self.longer), *network)


def fix(*changes: Change) -> Fix:
    return Fix(changes=changes)


def workers(count: int, old: str) -> Change:
    """Return the change to so many workers, in place of a text at the end of the loader's call."""
    before = old.removesuffix(")")
    kept = f"{before}, " if "num_workers" not in before else ""
    return lines(f"{count} workers", (old, kept + WORKERS.format(count=count)))


IN_MEMORY = lines(
    "samples kept in memory",
    (MAIN, KEPT),
    ("DataLoader(SlowFiles(folder)", "DataLoader(Kept(SlowFiles(folder))"),
)
PREPARED = "shuffle=True)"
BF16 = autocast(IN_LOOP)
IMAGES = "        loss = nn.functional.cross_entropy(model(images), labels)"
LAYOUT = lines(
    "channels last",
    ("    optimizer = ", f"    model = model.to({LAST}\n    optimizer = "),
    ("torch.randn(8, 3, 48, 48),", f"torch.randn(8, 3, 48, 48).to({LAST},"),
)
EXCHANGE = lines(
    "gradients as views of the buckets, static graph",
    ("bias=False)))", "bias=False)), gradient_as_bucket_view=True, static_graph=True)"),
)
PLANTED = (
    Planted(
        script="storage",
        longer=("range(12)", "range(1000)"),
        steps=40,
        fixes=(fix(IN_MEMORY), fix(IN_MEMORY, autocast(IN_EPOCHS))),
    ),
    Planted(
        script="storage_workers",
        longer=("return 960", "return 96_000"),
        steps=40,
        fixes=(fix(workers(8, "num_workers=2)")), fix(workers(8, "num_workers=2)"), BF16)),
    ),
    Planted(
        script="cpu_preparation",
        longer=("return 960", "return 96_000"),
        steps=60,
        fixes=(
            fix(workers(2, PREPARED), on_threads(1)),
            fix(workers(2, PREPARED), on_threads(1), BF16),
        ),
    ),
    Planted(
        script="worker_handoff",
        longer=("return 80", "return 8_000"),
        steps=40,
        fixes=(
            fix(lines("no workers", ("num_workers=1", "num_workers=0"))),
            fix(
                lines("no workers", ("num_workers=1", "num_workers=0")),
                autocast("        loss = model(batch[:32, :64]).square().mean()"),
            ),
        ),
    ),
    Planted(
        script="startup",
        longer=("range(30)", "range(3000)"),
        steps=40,
        fixes=(
            fix(lines("no workers", (", num_workers=2, worker_init_fn=build_index", ""))),
            fix(
                lines("no workers", (", num_workers=2, worker_init_fn=build_index", "")),
                autocast(f"            {BATCH}"),
            ),
        ),
    ),
    Planted(
        script="arithmetic",
        longer=("range(3)", "range(300)"),
        steps=40,
        fixes=(
            fix(autocast(f"            {BATCH}")),
            fix(autocast(f"            {BATCH}"), COMPILED),
        ),
    ),
    Planted(
        script="convolution",
        longer=("range(80)", "range(8000)"),
        steps=40,
        fixes=(fix(autocast(IMAGES), LAYOUT), fix(autocast(IMAGES), LAYOUT, COMPILED)),
    ),
    Planted(
        script="memory_bandwidth",
        longer=("range(80)", "range(8000)"),
        steps=60,
        fixes=(fix(COMPILED),),
    ),
    Planted(
        script="optimizer_state",
        longer=("range(80)", "range(8000)"),
        steps=60,
        fixes=(fix(lines(FUSED, ("1e-3)", f"1e-3, {FUSED})"))),),
    ),
    Planted(
        script="transfer",
        longer=("range(60)", "range(6000)"),
        steps=30,
        ranks=2,
        fixes=(
            fix(EXCHANGE),
            fix(EXCHANGE, lines(FUSED, ("lr=0.01)", f"lr=0.01, {FUSED})"))),
        ),
    ),
)
