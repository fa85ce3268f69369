"""What is to be written, what is known of the run, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from speedprof.mitigations.applied.automatic import in_words
from speedprof.mitigations.trainers import Training

Value = bool | int | float | str

WRITTEN, UNCHANGED, REFUSED, DECISION = "written", "unchanged", "refused", "decision"


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """Facts of the run that the source does not show; None where they were not recorded."""

    loader_line: int | None = None  # of the source as it was run: the training loader's call
    num_workers: int | None = None  # of the training loader, as it ran
    pinned: bool | None = None  # its batches lie in pinned memory
    iterable: bool | None = None  # its dataset has no indices
    picklable: bool | None = None
    start_method: str | None = None  # of its workers
    device: str | None = None  # "cuda", "cpu"
    batch_dims: tuple[int, ...] | None = None  # of the tensors in a batch: (4, 1)
    has_conv2d: bool | None = None
    training: Training | None = None  # None: by the script's own loop


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """One remedy to write; parameters that are `named` win over the script's own arguments."""

    name: str
    parameters: Mapping[str, Value] = field(default_factory=dict)
    named: frozenset[str] = frozenset()
    known: Known = field(default_factory=Known)
    call: int | None = (
        None  # which of the calls of DataLoader is meant, in the order of the source
    )
    serves: str | None = None  # the remedy that it goes with, where nobody asked for it alone
    by_call: bool = False  # of speedprof.apply(), although it can be written otherwise

    def text(self) -> str:
        """Return what `--apply` takes: the name, and the value that was asked for by name."""
        return in_words(self.name, {n: self.parameters[n] for n in self.named})


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of one remedy."""

    name: str
    state: str  # WRITTEN, UNCHANGED, REFUSED or DECISION
    why: str = ""
    asked: str = ""  # what `--apply` takes for it
    absent: bool = False  # refused because this file has nothing that it could change
