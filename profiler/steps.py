"""Where a step begins and ends, for loops we did not write.

A step is one optimizer update, from the moment its first batch is asked for to the moment the
next step's is. Four kinds of moment tell: a batch is asked for, backward runs, an optimizer
steps, a batch source runs dry. Knows no torch: the probes call it with times (ns of
`time.perf_counter_ns`) and it hands finished rows to `emit`.

Rules, in order:

1. A batch asked for after an optimizer step ends the step. Until backward runs again that end is
tentative: if what
   followed was not training (a loader that ran dry, a validation loop), the time goes to the step
   before, as `evaluation` or
   `between`, and the new step begins with the next request. So GANs, several loaders and
   accumulation are one step each.
2. An optimizer that steps again with no batch asked for in between ends the step at the end of
the optimizer step before:
   loops without a loader.
3. Where no optimizer is ever seen (hand-written updates, a compiled optimizer), the end of
backward stands for it.
4. `speedprof.step()` says it explicitly and overrides the rest.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from speedprof.profiler import window_file
from speedprof.profiler.record import COLUMN, EPOCH_START, STEP_COLUMNS

if TYPE_CHECKING:
    from speedprof.profiler.loader_facts import LoaderUse

WALL, WAIT, INPUT_START = COLUMN["wall"], COLUMN["input_wait"], COLUMN["input_start"]
BACKWARD, OPTIMIZER, CHECKPOINT = COLUMN["backward"], COLUMN["optimizer"], COLUMN["checkpoint"]
EVALUATION, BETWEEN, TAIL = COLUMN["evaluation"], COLUMN["between"], COLUMN["tail"]
BATCHES, SAMPLES = COLUMN["batches"], COLUMN["samples"]
BACKWARDS, UPDATES, FLAGS = COLUMN["backwards"], COLUMN["updates"], COLUMN["flags"]
COUNT, SYNCS = COLUMN["count"], COLUMN["syncs"]
WIDTH = len(STEP_COLUMNS)
BACKWARDS_WITHOUT_UPDATE = 3  # after so many, backward itself stands for the update
IN_BACKWARD = 0  # stands for optimizers that step inside backward
PROBE = {name: index for index, name in enumerate(window_file.PROBES)}
COLUMN_OF = {PROBE[name]: COLUMN[name] for name in window_file.PROBES if name in COLUMN}

BY_LOADER = "an optimizer update, from the moment its first batch is asked for"
BY_OPTIMIZER = "an optimizer update, from the end of the one before (no DataLoader was seen)"
BY_BACKWARD = "a backward pass (no optimizer step was seen)"
BY_USER = "what the script marked with speedprof.step()"


class Source:
    """One pass over one batch source: an iterator of a DataLoader."""

    __slots__ = ("batches", "dry", "heard", "loader", "trained", "unwatched", "use")

    def __init__(self, loader: int, use: LoaderUse | None = None) -> None:
        self.loader = loader
        self.use = use  # is told when a step was made of its batches
        self.batches = 0
        self.trained = False  # backward or an update followed one of its batches
        self.unwatched = False  # a batch was taken with gradients off
        self.dry = False
        self.heard = 0  # of when last

    @property
    def spent(self) -> bool:
        """Whether what it fed so far can be told not to be the training in progress."""
        return self.dry or (self.unwatched and not self.trained)


class Tracker:
    """Turns moments into steps. Not thread-safe: the training thread alone calls it."""

    def __init__(self, emit: Callable[[list[int]], None]) -> None:
        self._emit = emit
        self.flags = 0  # of the steps that begin from now on
        self.once = 0  # flags of the next step alone
        self.row = self._fresh()
        self.start = 0  # of the step in progress; 0: none yet
        self.steps = 0  # steps begun and finished
        self.definition = BY_OPTIMIZER
        # called at each end of a step with (now, whether a step is cut there); may spend time,
        # returns the time then
        self.at_boundary: Callable[[int, bool], int] = lambda now, _cut: now
        self.log: list[tuple[int, int, int, int]] | None = (
            None  # (probe, begin, end, detail) while a window is open
        )
        self._pending: list[int] | None = None  # the finished step whose end is tentative
        self._source: Source | None = None
        self._used: list[Source] = []
        self._stepped: set[int] = set()
        self._mark: tuple[int, list[int]] | None = (
            None  # end of the last optimizer step, and the row then
        )
        self._opened: list[
            tuple[int, int]
        ] = []  # optimizer steps in progress: (begin, backward so far)
        self._backward_depth = 0
        self._updated_in_backward = False
        self._any_update = False
        self._lone_backwards = 0
        self._evaluating = 0  # since when the model is in evaluation mode; 0: it is not
        self._frozen_mode = False  # the model trains in evaluation mode, so its mode tells nothing
        self.explicit = False

    @property
    def evaluating(self) -> bool:
        return self._evaluating > 0

    # -- batches

    def asked(self, now: int, source: Source) -> None:
        """A batch (or an iterator, which will give one) is asked for."""
        source.heard = now
        if self.explicit:
            return
        if self.start == 0:
            self._first(now)
        elif self._stepped:
            self._close(self.at_boundary(now, False))
        elif self._strayed(source):
            self._fold(now)
        self._source = source

    def received(
        self, begin: int, end: int, source: Source, samples: int, watched: bool = True
    ) -> None:
        """A batch arrived after `end - begin`; `watched`: with gradients on."""
        source.batches += 1
        source.heard = end
        if not watched:
            source.unwatched = True
        row = self.row
        row[BATCHES] += 1
        row[SAMPLES] += samples
        if not self._evaluating:
            row[WAIT] += end - begin
        if self.log is not None:
            self.log.append((PROBE["input_wait"], begin, end, source.loader))
        if not source.trained and source not in self._used:
            self._used.append(source)

    def ran_dry(self, begin: int, end: int, source: Source) -> None:
        source.dry = True
        source.heard = end
        if not self._evaluating and (source.trained or not source.batches):
            self.row[WAIT] += end - begin
        if self.log is not None:
            self.log.append((PROBE["input_wait"], begin, end, source.loader))

    def iterated(self, begin: int, end: int, source: Source) -> None:
        """An iterator was built (workers were started) in `end - begin`."""
        if self.log is not None:
            self.log.append((PROBE["input_start"], begin, end, source.loader))
        if not self._evaluating:
            self.row[INPUT_START] += end - begin
            self.row[FLAGS] |= EPOCH_START

    # -- training

    def backward_begins(self, now: int) -> None:
        self._backward_depth += 1
        if self._backward_depth > 1:
            return
        if self._evaluating:
            self._frozen_mode, self._evaluating = True, 0
        if self.start == 0:
            self._first(now)
        self._settle()

    def backward_ends(self, begin: int, now: int) -> None:
        self._backward_depth -= 1
        if self._backward_depth:
            return
        self.spent(begin, now, PROBE["backward"])
        self.row[BACKWARDS] += 1
        if self._updated_in_backward:
            self._updated_in_backward = False
            self._cut_if_again(IN_BACKWARD, now)
            self._updated(IN_BACKWARD, now)
        elif not self._any_update and not self._opened:
            self._lone_backwards += 1
            if self._lone_backwards > BACKWARDS_WITHOUT_UPDATE:
                self._stand_in(now)

    def optimizer_begins(self, now: int, key: int) -> None:
        self._any_update = True
        if self._backward_depth:
            self._updated_in_backward = True
            return
        if not self._opened:
            if self.start == 0:
                self._first(now)
            self._settle()
            self._cut_if_again(key, now)
        self._opened.append((now, self.row[BACKWARD]))

    def optimizer_ends(self, now: int, key: int) -> None:
        if self._backward_depth or not self._opened:
            return
        begin, backward = self._opened.pop()
        if self._opened:
            return
        self.spent(begin, now, PROBE["optimizer"])
        self.row[OPTIMIZER] -= self.row[BACKWARD] - backward  # a closure ran backward inside
        self._updated(key, now)

    # -- the rest

    def synchronised(self, begin: int, end: int) -> None:
        """The host waited for the device."""
        self.row[SYNCS] += 1
        self.spent(begin, end, PROBE["synchronise"])

    def spent(self, begin: int, end: int, probe: int) -> None:
        """Add what one probe saw to the step in progress."""
        self.row[COLUMN_OF[probe]] += end - begin
        if self.log is not None:
            self.log.append((probe, begin, end, -1))

    def evaluation_begins(self, now: int) -> None:
        if not self._frozen_mode and not self._evaluating and self.start:
            self._evaluating = now

    def evaluation_ends(self, now: int) -> None:
        begin, self._evaluating = self._evaluating, 0
        if begin:
            self.spent(max(begin, self.start), now, PROBE["evaluation"])

    def explicit_begins(self, now: int) -> None:
        """The script says that its first step begins here.

        Later steps begin where the one before ended.
        """
        if not self.explicit:
            self.explicit, self.definition = True, BY_USER
            self._pending, now = None, self.at_boundary(now, False)
            self.start, self.row = now, self._fresh()

    def explicit_waited(self, begin: int, end: int, known: int) -> None:
        """The script's own iterable took its time.

        `known` is what a loader's probe has counted of it.
        """
        self.row[WAIT] += max(0, end - begin - known)
        self.row[BATCHES] = max(self.row[BATCHES], 1)
        if self.log is not None:
            self.log.append((PROBE["input_wait"], begin, end, -1))

    def explicit_ends(self, now: int) -> None:
        now = self.at_boundary(now, False)
        row = self.row
        row[0], row[COUNT], row[WALL] = self.start, 1, now - self.start
        self._begin(now, self._fresh())
        self._emit(row)

    def finish(self) -> None:
        """End the last step where its optimizer step ended: what follows is no training."""
        if self.explicit:
            return
        if self._stepped and self._mark is not None:
            self._close_at_mark(self._mark[0])
        elif self._pending is not None and self._source is not None and self._source.spent:
            self._fold(max(self._source.heard, self.start))
        self._settle()

    # -- inside

    def _first(self, now: int) -> None:
        """The first step begins: what went before is no step's."""
        self.start, self.row = now, self._fresh()

    def _updated(self, key: int, now: int) -> None:
        row = self.row
        row[UPDATES] += 1
        self._stepped.add(key)
        self._train_sources()
        self._mark = (now, list(row))

    def _strayed(self, source: Source) -> bool:
        """Tell whether no training came since the tentative end, now that `source` is asked."""
        before = self._source
        if before is None or before is source or self.row[BACKWARDS]:
            return False
        return before.spent or (source.trained and not before.trained)

    def _stand_in(self, now: int) -> None:
        if self.explicit:
            return
        self.definition = BY_BACKWARD
        self._cut_if_again(IN_BACKWARD, now)
        self._stepped.add(IN_BACKWARD)
        self._mark = (now, list(self.row))

    def _train_sources(self) -> None:
        for source in self._used:
            source.trained = True
            if source.use is not None:
                source.use.trained = True
        self._used.clear()

    def _settle(self) -> None:
        """Training went on after the tentative end, so the end holds."""
        self._train_sources()
        if self._pending is not None:
            row, self._pending = self._pending, None
            self._emit(row)

    def _close(self, now: int) -> None:
        """End the step here, tentatively (rule 1)."""
        self._settle()
        self.definition = BY_LOADER if self._any_update else self.definition
        row = self.row
        row[0], row[COUNT], row[WALL] = self.start, 1, now - self.start
        row[TAIL] = now - self._mark[0] if self._mark else 0
        self._pending = row
        self._begin(now, self._fresh())

    def _cut_if_again(self, key: int, now: int) -> None:
        if key in self._stepped and self._mark is not None and not self.explicit:
            self._close_at_mark(now)

    def _close_at_mark(self, now: int) -> None:
        """End the step at the end of its last optimizer step, which is past (rule 2)."""
        assert self._mark is not None
        self._settle()
        end, then = self._mark
        rest = [a - b for a, b in zip(self.row, then, strict=True)]
        rest[FLAGS] = self.flags
        then[0], then[COUNT], then[WALL] = self.start, 1, end - self.start
        then[FLAGS] = self.row[FLAGS]
        self._begin(end, rest)
        self._emit(then)
        self.at_boundary(now, True)

    def _begin(self, now: int, row: list[int]) -> None:
        self.steps += 1
        self.start, self.row = now, row
        self._stepped.clear()
        self._used.clear()
        self._mark = None

    def _fold(self, now: int) -> None:
        """Since the tentative end no training went on.

        Give that time to the step before (rule 1).
        """
        source, row, span = self._source, self.row, now - self.start
        folded = self._pending
        if folded is not None and source is not None:
            evaluated = source.batches > 0 and not source.trained
            if evaluated:
                row[WAIT] = row[INPUT_START] = 0
                row[EVALUATION] = 0
            rest = span - row[CHECKPOINT] - row[WAIT] - row[INPUT_START] - row[EVALUATION]
            row[EVALUATION if evaluated else BETWEEN] += max(0, rest)
            row[BATCHES] = row[SAMPLES] = 0
            row[WALL] = span
            for index in range(COUNT + 1, FLAGS):
                folded[index] += row[index]
            folded[FLAGS] |= row[FLAGS] & ~EPOCH_START
            if self.log is not None:
                probe = PROBE["evaluation" if evaluated else "between"]
                self.log.append((probe, self.start, now, source.loader))
        self.start, self.row = now, self._fresh()
        self.row[FLAGS] |= row[FLAGS] & ~EPOCH_START
        self._evaluating = 0
        self._used.clear()

    def _fresh(self) -> list[int]:
        row = [0] * WIDTH
        row[FLAGS], self.once = self.flags | self.once, 0
        return row
