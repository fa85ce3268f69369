"""What a sampled stack says of the training thread."""

from __future__ import annotations

from pathlib import Path

import pytest
from window_cases import Case

from speedprof.profiler.batch_sources import batch_sources, cubes, input_kind
from speedprof.profiler.stacks import Source, describe, is_users

TRAIN = "/home/me/train.py"
MAIN = (TRAIN, 50, "main", False)
MODULE = ("/v/lib/python3.11/site-packages/torch/nn/modules/module.py", 1779, "_call_impl", False)
TRANSFORM = (
    "/v/lib/python3.11/site-packages/torchvision/transforms/v2/_t.py",
    3,
    "forward",
    False,
)


@pytest.mark.parametrize(
    ("file", "users"),
    [
        ("/home/me/train.py", True),
        ("<stdin>", True),
        ("/home/me/lib/python/data.py", True),
        ("<frozen importlib._bootstrap>", False),
        ("<eval_with_key>.3", False),
        ("/usr/lib/python3.11/queue.py", False),
        ("/usr/lib/python3/dist-packages/numpy/core.py", False),
        ("/opt/conda/lib/python3.12/site-packages/torch/nn/functional.py", False),
        ("/tmp/torchinductor_me/ab/cab.py", False),
        (str(Path(__file__).parent.parent / "profiler" / "loader_probes.py"), False),
        (str(Path(__file__).parent.parent / "examples" / "charlm.py"), True),
    ],
)
def test_a_file_is_the_users_unless_python_a_library_or_we_brought_it(file: str, users: bool):
    assert is_users(file) is users


def test_the_line_is_the_users_innermost():
    inner = ("/v/lib/python3.11/site-packages/torch/nn/functional.py", 5, "linear", False)
    assert describe([inner, (TRAIN, 7, "forward", False), MAIN]).line == (
        TRAIN,
        7,
        "forward",
        False,
    )
    assert describe([inner]).line is None


@pytest.mark.parametrize(
    "name",
    ["get_batch", "_load_batch", "Data.next_batch", "__next__", "Set.__getitem__",
     "fetch_minibatch", "load_data", "batch_generator", "sample_batches", "get_train_batch"],
)  # fmt: skip
def test_functions_named_so_may_make_batches(name: str):
    assert describe([(TRAIN, 3, name, False), MAIN]).sources == (Source(TRAIN, name, False),)


@pytest.mark.parametrize(
    "name",
    ["train_batch", "process_batch", "training_step", "on_train_batch_end", "forward", "batchnorm",
     "get_loss", "load_model", "batch_loss"],
)  # fmt: skip
def test_functions_that_may_train_do_not(name: str):
    assert describe([(TRAIN, 3, name, False), MAIN]).sources == ()


def test_generators_may_make_batches_but_context_managers_and_expressions_do_not():
    generator = (TRAIN, 3, "tokens", True)
    context = ("/usr/lib/python3.11/contextlib.py", 137, "__enter__", False)
    library = ("/v/lib/python3.11/site-packages/accelerate/data_loader.py", 4, "__iter__", True)
    assert describe([generator, MAIN]).sources == (Source(*generator[::2], True),)
    assert describe([generator, context, MAIN]).sources == ()
    assert describe([(TRAIN, 3, "total.<locals>.<genexpr>", True), MAIN]).sources == ()
    assert describe([library, MAIN]).sources == ()


def test_a_models_forward_inside_a_generator_is_noticed_and_a_transforms_is_not():
    generator = (TRAIN, 3, "epochs", True)
    assert describe([MODULE, generator, MAIN]).inside_model == {Source(TRAIN, "epochs", True)}
    assert describe([generator, MODULE, MAIN]).inside_model == frozenset()
    assert describe([TRANSFORM, MODULE, generator, MAIN]).inside_model == frozenset()


@pytest.mark.parametrize(
    ("file", "function", "outside"),
    [
        ("/v/lib/python3.11/site-packages/torch/serialization.py", "save", "outside.checkpoint"),
        ("/v/lib/python3.11/site-packages/x/trainer.py", "save_pretrained", "outside.checkpoint"),
        ("/v/lib/python3.11/site-packages/wandb/sdk/run.py", "log", "outside.logging"),
        ("/v/lib/python3.11/site-packages/tqdm/std.py", "update", "outside.logging"),
        ("/usr/lib/python3.11/logging/__init__.py", "info", "outside.logging"),
        ("/v/lib/python3.11/site-packages/mlflow/utils/autologging_utils/safety.py", "call", None),
        ("/v/lib/python3.11/site-packages/torch/optim/adam.py", "step", None),
    ],
)
def test_saving_and_logging_are_told_by_what_the_users_line_called(file, function, outside):
    assert describe([(file, 9, function, False), MAIN]).outside == outside


def test_a_progress_bar_around_the_loop_is_no_logging():
    bar = ("/v/lib/python3.11/site-packages/tqdm/std.py", 1181, "__iter__", True)
    assert describe([(TRAIN, 3, "tokens", True), bar, MAIN]).outside is None


def test_a_line_that_prints_is_logging(tmp_path: Path):
    script = tmp_path / "train.py"
    script.write_text("for step in range(9):\n    print(step)\n    total += step\n")
    assert describe([(str(script), 2, "<module>", False)]).outside == "outside.logging"
    assert describe([(str(script), 3, "<module>", False)]).outside is None


BATCHES = [(TRAIN, 3, "batches", True), MAIN]


def loop(inner: list[tuple[str, int, str, bool]], outer: list[tuple[str, int, str, bool]]) -> Case:
    """Return two steps: 20 ms in `inner`, then 20 ms of training under `outer`."""
    case = Case([0, 40, 80])
    for begin in (0, 40):
        case.event("aten::rand", begin + 4, begin + 6).event(
            "aten::linear", begin + 20, begin + 30
        )
        case.event("autograd::engine::evaluate_function: X", begin + 30, begin + 40)
        case.probe("backward", begin + 30, begin + 40)
        case.sampled(begin + 2, begin + 20, inner).sampled(begin + 22, begin + 40, outer)
    return case


def test_a_generator_that_feeds_the_loop_makes_batches_operators_included(tmp_path: Path):
    window = loop(BATCHES, [MODULE, MAIN]).reduced(tmp_path)
    sources = batch_sources([window])
    assert sources == {Source(TRAIN, "batches", True)}
    kept, moved = cubes(window, sources)
    assert moved.sum() / 1e6 == pytest.approx(40.0, abs=1.0)
    assert (kept.sum() + moved.sum()) / 1e6 == 80.0
    assert input_kind([window], sources, has_loader=False) == "generator"


def test_a_generator_that_holds_the_training_makes_no_batches(tmp_path: Path):
    epochs = (TRAIN, 4, "epochs", True)
    window = loop([epochs, MAIN], [MODULE, epochs, MAIN]).reduced(tmp_path)
    assert batch_sources([window]) == frozenset()
    assert cubes(window, frozenset())[1].sum() == 0


def test_the_batches_inside_a_training_generator_are_still_seen(tmp_path: Path):
    epochs = (TRAIN, 4, "epochs", True)
    inner = [(TRAIN, 9, "get_batch", False), epochs, MAIN]
    window = loop(inner, [MODULE, epochs, MAIN]).reduced(tmp_path)
    sources = batch_sources([window])
    assert sources == {Source(TRAIN, "get_batch", False)}
    assert input_kind([window], sources, has_loader=False) == "function"


def test_nobody_is_believed_while_training_was_seen_nowhere(tmp_path: Path):
    case = Case([0, 40]).sampled(2, 40, BATCHES)
    assert batch_sources([case.reduced(tmp_path)]) == frozenset()


def test_a_dataset_inside_a_loader_is_the_loaders(tmp_path: Path):
    item = [(TRAIN, 3, "Set.__getitem__", False), MAIN]
    case = loop(item, [MODULE, MAIN]).probe("input_wait", 0, 20).probe("input_wait", 40, 60)
    window = case.reduced(tmp_path)
    assert cubes(window, batch_sources([window]))[1].sum() == 0
    assert input_kind([window], batch_sources([window]), has_loader=True) == "loader"
