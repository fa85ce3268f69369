"""Steps of every loop we know, told by moments alone."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from speedprof.profiler.record import COLUMN
from speedprof.profiler.steps import BY_BACKWARD, BY_LOADER, BY_OPTIMIZER, BY_USER, Source, Tracker

MS = 1_000_000


class Loop:
    """Plays a training loop against a tracker on a clock of its own.

    Every act says how long it takes (ms).
    """

    def __init__(self) -> None:
        self.now = 1_000 * MS
        self.rows: list[list[int]] = []
        self.tracker = Tracker(self.rows.append)

    def wait(self, ms: float) -> None:
        self.now += int(ms * MS)

    def iterate(self, ms: float = 0, loader: int = 0) -> Source:
        source = Source(loader)
        self.tracker.asked(self.now, source)
        begin = self.now
        self.wait(ms)
        self.tracker.iterated(begin, self.now, source)
        return source

    def batch(
        self, source: Source, ms: float = 1, *, watched: bool = True, samples: int = 8
    ) -> None:
        begin = self.now
        self.tracker.asked(begin, source)
        self.wait(ms)
        self.tracker.received(begin, self.now, source, samples)
        source.unwatched |= not watched

    def dry(self, source: Source, ms: float = 0) -> None:
        begin = self.now
        self.tracker.asked(begin, source)
        self.wait(ms)
        self.tracker.ran_dry(begin, self.now, source)

    def backward(self, ms: float = 2) -> None:
        begin = self.now
        self.tracker.backward_begins(begin)
        self.wait(ms)
        self.tracker.backward_ends(begin, self.now)

    def update(
        self, ms: float = 1, optimizer: int = 1, inside: Callable[[], None] = lambda: None
    ) -> None:
        self.tracker.optimizer_begins(self.now, optimizer)
        inside()
        self.wait(ms)
        self.tracker.optimizer_ends(self.now, optimizer)

    def column(self, name: str) -> list[float]:
        scale = 1 if name in ("batches", "samples", "backwards", "updates", "count") else MS
        return [row[COLUMN[name]] / scale for row in self.rows]


@pytest.fixture
def loop() -> Loop:
    return Loop()


def test_a_step_lasts_from_its_batch_to_the_next_one(loop: Loop) -> None:
    source = loop.iterate()
    for _ in range(3):
        loop.batch(source, 5)
        loop.wait(3)
        loop.backward(2)
        loop.update(1)
        loop.wait(4)  # logging
    loop.dry(source)
    loop.tracker.finish()
    assert loop.column("wall") == [15, 15, 15]
    assert loop.column("input_wait") == [5, 5, 5]
    assert loop.column("tail") == [4, 4, 4]
    assert loop.column("samples") == [8, 8, 8]
    assert loop.tracker.definition == BY_LOADER


def test_accumulated_batches_are_one_step(loop: Loop) -> None:
    source = loop.iterate()
    for _ in range(2):
        for _ in range(4):
            loop.batch(source, 1)
            loop.backward(2)
        loop.update(1)
    loop.tracker.finish()
    assert loop.column("batches") == [4, 4]
    assert loop.column("backwards") == [4, 4]
    assert loop.column("wall") == [13, 13]


def test_two_optimizers_on_one_batch_are_one_step(loop: Loop) -> None:
    source = loop.iterate()
    for _ in range(3):
        loop.batch(source)
        loop.backward()
        loop.update(optimizer=1)
        loop.backward()
        loop.update(optimizer=2)
    loop.tracker.finish()
    assert loop.column("updates") == [2, 2, 2]


def test_two_optimizers_without_a_loader_are_one_step(loop: Loop) -> None:
    for _ in range(4):
        loop.wait(6)
        loop.backward(2)
        loop.update(1, optimizer=1)
        loop.backward(2)
        loop.update(1, optimizer=2)
    loop.tracker.finish()
    assert loop.column("updates") == [2, 2, 2, 2]
    assert loop.column("wall") == [6, 12, 12, 12]  # the first begins where it was first seen
    assert loop.tracker.definition == BY_OPTIMIZER


def test_loaders_side_by_side_feed_one_step(loop: Loop) -> None:
    one, two = loop.iterate(loader=0), loop.iterate(loader=1)
    for _ in range(3):
        loop.batch(one, 1)
        loop.batch(two, 2)
        loop.backward()
        loop.update()
    loop.tracker.finish()
    assert loop.column("batches") == [2, 2, 2]
    assert loop.column("input_wait") == [3, 3, 3]
    assert loop.column("evaluation") == [0, 0, 0]


@pytest.mark.parametrize("watched", [True, False])
def test_validation_between_epochs_is_not_training(loop: Loop, watched: bool) -> None:
    for _ in range(2):
        source = loop.iterate(2)
        for _ in range(2):
            loop.batch(source, 5)
            loop.backward(2)
            loop.update(1)
        loop.dry(source, 1)
        loop.wait(3)
        validation = loop.iterate(2, loader=1)
        for _ in range(3):
            loop.batch(validation, 10, watched=watched)
        loop.dry(validation)
    loop.tracker.finish()
    assert loop.column("count") == [1, 1, 1, 1]
    assert loop.column("wall") == [10, 8 + 1 + 3 + 32, 10, 8 + 1 + 3 + 32]
    assert loop.column("evaluation") == [0, 32, 0, 32]
    assert loop.column("between") == [0, 3, 0, 3]
    assert loop.column("input_wait") == [5, 6, 5, 6]
    assert loop.column("input_start") == [2, 0, 2, 0]
    assert loop.column("batches") == [1, 1, 1, 1]


def test_validation_in_the_middle_of_an_epoch_is_not_training(loop: Loop) -> None:
    source = loop.iterate()
    for step in range(4):
        loop.batch(source, 1)
        loop.backward(2)
        loop.update(1)
        if step == 1:
            validation = loop.iterate(0, loader=1)
            loop.batch(validation, 20)  # a single batch, gradients on, and the loop is left
            loop.wait(5)
    loop.tracker.finish()
    assert loop.column("wall") == [4, 29, 4, 4]
    assert loop.column("evaluation") == [0, 25, 0, 0]


def test_validation_before_training_belongs_to_no_step(loop: Loop) -> None:
    validation = loop.iterate(loader=1)
    loop.batch(validation, 10, watched=False)
    loop.dry(validation)
    source = loop.iterate()
    for _ in range(2):
        loop.batch(source, 1)
        loop.backward(2)
        loop.update(1)
    loop.tracker.finish()
    assert loop.column("wall") == [4, 4]


def test_a_closure_keeps_its_backward_out_of_the_optimizer(loop: Loop) -> None:
    def closure() -> None:
        loop.wait(3)
        loop.backward(2)

    source = loop.iterate()
    for _ in range(2):
        loop.batch(source)
        loop.update(4, inside=closure)
    loop.tracker.finish()
    assert loop.column("backward") == [2, 2]
    assert loop.column("optimizer") == [7, 7]  # 3 of forward inside: windows tell them apart


def test_optimizers_inside_backward_make_one_step_a_backward(loop: Loop) -> None:
    for _ in range(4):
        loop.wait(1)
        begin = loop.now
        loop.tracker.backward_begins(begin)
        for optimizer in (1, 2, 3):
            loop.update(1, optimizer)
        loop.tracker.backward_ends(begin, loop.now)
    loop.tracker.finish()
    assert loop.column("wall")[1:] == [4, 4, 4]
    assert loop.column("backward")[1:] == [3, 3, 3]


def test_hand_written_updates_are_told_by_backward(loop: Loop) -> None:
    for _ in range(8):
        loop.wait(2)
        loop.backward(3)
        loop.wait(1)
    loop.tracker.finish()
    assert loop.tracker.definition == BY_BACKWARD
    assert set(loop.column("wall")[1:]) == {6}


def test_an_optimizer_without_backward_still_steps(loop: Loop) -> None:
    source = loop.iterate()
    for _ in range(3):
        loop.batch(source, 2, watched=False)
        loop.wait(5)
        loop.update(1)
    loop.tracker.finish()
    assert loop.column("wall") == [8, 8, 8]


def test_evaluation_without_a_loader_is_told_by_the_models_mode(loop: Loop) -> None:
    for step in range(4):
        loop.wait(3)
        loop.backward(2)
        loop.update(1)
        if step == 1:
            loop.tracker.evaluation_begins(loop.now)
            loop.wait(30)
            loop.tracker.evaluation_ends(loop.now)
    loop.tracker.finish()
    assert sum(loop.column("evaluation")) == 30


def test_a_model_that_trains_in_evaluation_mode_is_still_training(loop: Loop) -> None:
    loop.tracker.evaluation_begins(loop.now)
    source = loop.iterate()
    for _ in range(3):
        loop.batch(source, 2)
        loop.tracker.evaluation_begins(loop.now)
        loop.backward(2)
        loop.update(1)
    loop.tracker.finish()
    assert loop.column("evaluation") == [0, 0, 0]
    assert loop.column("input_wait")[1:] == [2, 2]


def test_marked_steps_override_what_we_would_guess(loop: Loop) -> None:
    source = loop.iterate()
    for _ in range(3):
        loop.batch(source, 4)
        loop.tracker.explicit_begins(loop.now)
        loop.update(1)
        loop.update(1)
        loop.tracker.explicit_ends(loop.now)
    loop.tracker.finish()
    assert loop.tracker.definition == BY_USER
    assert loop.column("wall") == [2, 6, 6]
    assert loop.column("input_wait") == [0, 4, 4]


acts = st.lists(
    st.sampled_from(
        ["batch", "other batch", "dry", "iterate", "backward", "update", "other update", "work"]
    ),
    max_size=60,
)


def play(loop: Loop, sources: list[Source], act: str) -> None:
    match act:
        case "batch":
            loop.batch(sources[0], 2)
        case "other batch":
            loop.batch(sources[1], 3, watched=False)
        case "dry":
            loop.dry(sources[1])
        case "iterate":
            sources[1] = loop.iterate(1, loader=1)
        case "backward":
            loop.backward()
        case "update":
            loop.update(optimizer=1)
        case "other update":
            loop.update(optimizer=2)
        case _:
            loop.wait(1)


@given(acts)
def test_whatever_a_loop_does_steps_never_overlap_and_columns_stay_within_them(
    chosen: list[str],
) -> None:
    loop = Loop()
    sources = [loop.iterate(loader=0), loop.iterate(loader=1)]
    for act in chosen:
        play(loop, sources, act)
    loop.tracker.finish()
    parts = [
        COLUMN[name]
        for name in ("input_wait", "input_start", "backward", "optimizer", "evaluation", "between")
    ]
    for before, after in zip(loop.rows, loop.rows[1:], strict=False):
        assert before[0] + before[COLUMN["wall"]] <= after[0]
    for row in loop.rows:
        assert all(row[part] >= 0 for part in parts)
        assert sum(row[part] for part in parts) <= row[COLUMN["wall"]]
