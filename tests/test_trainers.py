"""Remedies as arguments of a library's training loop: which loop it is, how they are spelled."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from types import FrameType
from typing import Any

import msgspec
import pytest

from speedprof.mitigations import trainers
from speedprof.mitigations.catalogue import CATALOGUE
from speedprof.mitigations.mitigation import Fit
from speedprof.mitigations.trainers import SPELLINGS, spelled
from speedprof.profiler.run import Optimizer
from speedprof.profiler.trainers import HANDED_ON, TRAINERS, own_arguments, trainer_of
from speedprof.tests.launching import bare, speedprof
from speedprof.tests.runs import loader, run

AS_ASSUMED = "gradient_as_bucket_view=True, static_graph=True"


def called_through(*modules: str) -> FrameType:
    """Return a frame that functions of these modules have led to, the first one outermost."""
    inner: Callable[[], FrameType] = lambda: sys._getframe(1)  # noqa: E731 - of the caller
    for name in reversed(modules):
        space: dict[str, Any] = {"__name__": name, "inner": inner}
        exec("def wrapper():\n    return inner()", space)
        inner = space["wrapper"]
    return inner()


@pytest.mark.parametrize(
    ("modules", "trainer"),
    [
        (["__main__", "torch.optim.optimizer"], None),
        (["__main__", "transformers.trainer", "accelerate.optimizer"], "transformers"),
        (["__main__", "trl.trainer", "transformers.trainer_seq2seq"], "transformers"),
        (["lightning.pytorch.trainer.trainer", "lightning.pytorch.loops.fit_loop"], "lightning"),
        (["pytorch_lightning.trainer.trainer"], "lightning"),
        (["__main__", "accelerate.optimizer"], "accelerate"),
        (["accelerate.commands.launch", "__main__"], None),  # a launcher trains nothing
        (["transformers_extras", "__main__"], None),
    ],
)
def test_the_loop_is_known_by_the_modules_that_call(
    modules: list[str], trainer: str | None
) -> None:
    assert trainer_of(called_through(*modules)) == trainer
    assert trainer_of(None) is None


def called(dataset: object, batch_size: int = 1, num_workers: int = 0, pin: bool = False) -> None:
    """Stand for what a library calls."""


@pytest.mark.parametrize(
    ("modules", "own"),
    [
        (["__main__"], ["batch_size", "dataset", "num_workers", "pin"]),
        (["__main__", HANDED_ON[0]], ["batch_size", "dataset", "num_workers", "pin"]),
        (["transformers.trainer"], ["batch_size", "dataset"]),
        (
            ["accelerate.data_loader", "speedprof.profiler.loader_probes"],
            ["batch_size", "dataset"],
        ),
        (["transformers.trainer", "mine"], ["batch_size", "dataset", "num_workers", "pin"]),
        (["lightning_of_mine"], ["batch_size", "dataset", "num_workers", "pin"]),
    ],
)
def test_what_a_library_gives_as_it_is_anyway_is_nobody_s_word(
    modules: list[str], own: list[str]
) -> None:
    given = {"dataset": [1], "batch_size": 8, "num_workers": 0, "pin": False}
    assert sorted(own_arguments(given, called, called_through(*modules))) == own
    assert own_arguments(given, called, None) == given
    assert own_arguments({"num_workers": False}, called, called_through("transformers.x")) == {
        "num_workers": False
    }


def test_every_loop_that_is_recorded_has_its_words() -> None:
    assert set(TRAINERS) == set(SPELLINGS) == set(trainers.NAMES)
    named = {one.name for one in CATALOGUE}
    assert {name for calls in SPELLINGS.values() for name in calls} <= named


def fit(**more: Any) -> Fit:
    return Fit(reason="it helps", gain=None, by_hand="lines of one's own", **more)


def in_words(name: str, given: Fit, trainer: str | None, **more: Any) -> str:
    optimizer = Optimizer(name=more.pop("optimizer", "AdamW"), elements=9, trainer=trainer)
    built = loader(library=more.pop("library", trainer))
    whole = msgspec.structs.replace(run(**more), optimizers=[optimizer], loaders=[built])
    return spelled(name, given, whole).by_hand


@pytest.mark.parametrize(
    ("name", "parameters", "trainer", "words"),
    [
        (
            "loader-workers",
            {"num_workers": 4, "persistent_workers": True},
            "transformers",
            "TrainingArguments(..., dataloader_num_workers=4, dataloader_persistent_workers=True)",
        ),
        (
            "deeper-prefetch",
            {"prefetch_factor": 8},
            "transformers",
            "TrainingArguments(..., dataloader_prefetch_factor=8)",
        ),
        (
            "in-process-loading",
            {"num_workers": 0},
            "transformers",
            f"TrainingArguments(..., dataloader_num_workers=0)  # {trainers.WITHOUT}",
        ),
        (
            "compile-model",
            {"mode": "max-autotune"},
            "transformers",
            'TrainingArguments(..., torch_compile=True, torch_compile_mode="max-autotune")',
        ),
        ("tf32", {}, "transformers", "TrainingArguments(..., tf32=True)"),
        (
            "larger-batch",
            {"batch_size": 64},
            "transformers",
            f"TrainingArguments(..., per_device_train_batch_size=64)  # {trainers.RATE}",
        ),
        ("bf16-autocast", {}, "lightning", 'Trainer(..., precision="bf16-mixed")'),
        (
            "ddp-buckets",
            {"bucket_cap_mb": 50},
            "lightning",
            f"Trainer(..., strategy=DDPStrategy(..., bucket_cap_mb=50, {AS_ASSUMED}))",
        ),
        ("bf16-autocast", {}, "accelerate", 'Accelerator(..., mixed_precision="bf16")'),
        ("loader-workers", {"num_workers": 4}, "lightning", "lines of one's own"),
        ("loader-workers", {"num_workers": 4}, None, "lines of one's own"),
        ("loader-workers", {"num_workers": 4}, "of a newer record", "lines of one's own"),
    ],
)
def test_remedies_are_told_in_the_loop_s_words(
    name: str, parameters: dict[str, object], trainer: str | None, words: str
) -> None:
    told = in_words(name, fit(parameters=parameters), trainer, device="cuda")
    assert on_one_line(told) == on_one_line(words)


def on_one_line(text: str) -> str:
    return " ".join(text.split()).replace("( ", "(").replace(", )", ")")


def test_a_long_call_gets_a_line_for_each_argument() -> None:
    parameters: dict[str, object] = {"num_workers": 4, "persistent_workers": True}
    assert in_words("loader-workers", fit(parameters=parameters), "transformers") == (
        "TrainingArguments(\n"
        "    ...,\n"
        "    dataloader_num_workers=4,\n"
        "    dataloader_persistent_workers=True,\n"
        ")"
    )


def test_explain_tells_the_words_of_every_loop() -> None:
    told = trainers.patterns("bf16-autocast")
    assert told["Lightning's Trainer"] == 'Trainer(..., precision="bf16-mixed")'
    assert list(told) == list(trainers.NAMES.values())
    workers = trainers.patterns("deeper-prefetch")["transformers' Trainer"]
    assert workers == "TrainingArguments(..., dataloader_prefetch_factor=PREFETCH_FACTOR)"
    assert trainers.patterns("dali-loading") == {}
    said = speedprof("explain", "bf16-autocast", cwd=Path.cwd()).stdout.decode()
    assert all(f"In {loop}: {pattern}" in said for loop, pattern in told.items())


def test_what_depends_on_the_run_does() -> None:
    own = fit(parameters={"num_workers": 2})  # Trainer with a get_train_dataloader of one's own
    assert in_words("loader-workers", own, "transformers", library=None) == "lines of one's own"
    for device, words in (
        ("cpu", "TrainingArguments(..., bf16=True, use_cpu=True)"),
        ("cuda", "TrainingArguments(..., bf16=True)"),
    ):
        told = in_words("bf16-autocast", fit(), "transformers", device=device)
        assert on_one_line(told) == words
    fused = f'TrainingArguments(..., optim="adamw_torch_fused") # {trainers.ELSEWHERE}'
    for optimizer, words in (("AdamW", fused), ("SGD", "lines of one's own")):
        told = in_words("fused-optimizer", fit(), "transformers", optimizer=optimizer)
        assert on_one_line(told) == words
    beside = fit(parameters={"num_workers": 2}, beside={"fewer-threads": {"threads": 1}})
    told = on_one_line(in_words("loader-workers", beside, "transformers"))
    assert told.startswith(
        "TrainingArguments(..., dataloader_num_workers=2) torch.set_num_threads(1)"
    )


VALUES = {
    "num_workers": 2,
    "persistent_workers": True,
    "prefetch_factor": 4,
    "bucket_cap_mb": 50,
    "every": 4,
    "batch_size": 8,
    "batches": 2,
    "times_rarer": 3,
}
PLACES = {  # of what is called, and of what that hands further keywords to
    "TrainingArguments": ["transformers.TrainingArguments"],
    "Trainer": ["lightning.Trainer"],
    "trainer.fit": ["lightning.Trainer.fit"],
    "ModelCheckpoint": ["lightning.pytorch.callbacks.ModelCheckpoint"],
    "DDPStrategy": [
        "lightning.pytorch.strategies.DDPStrategy",
        "torch.nn.parallel.DistributedDataParallel",
    ],
    "Accelerator": ["accelerate.Accelerator"],
    "DataLoaderConfiguration": ["accelerate.utils.DataLoaderConfiguration"],
    "DistributedDataParallelKwargs": ["accelerate.utils.DistributedDataParallelKwargs"],
}
PARAMETERS = """
import inspect, pkgutil, sys
for place in sys.argv[1:]:
    print(*inspect.signature(pkgutil.resolve_name(place)).parameters)
"""


def parameters(name: str) -> set[str]:
    """Return what may be given; asked in a process of its own, for Lightning changes torch."""
    done = bare(sys.executable, "-c", PARAMETERS, *PLACES[name], cwd=Path.cwd())
    assert done.returncode == 0, done.stderr.decode()
    return set(done.stdout.decode().split())


@pytest.mark.slow
@pytest.mark.parametrize("trainer", SPELLINGS)
def test_the_installed_library_has_these_arguments(trainer: str) -> None:
    if find_spec(trainer) is None:
        pytest.skip(f"{trainer} is not installed (extra `frameworks`)")
    calls = {**SPELLINGS[trainer], **(trainers.ON_CPU if trainer == "transformers" else {})}
    taken = {name: parameters(name) for name in {call.name for call in calls.values()}}
    for name, call in calls.items():
        assert set(call.arguments) <= taken[call.name], name
        compile(call.text(VALUES), name, "exec")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`gradient_checkpointing` is deprecated:FutureWarning")
def test_arguments_of_transformers_have_values_that_it_takes() -> None:
    arguments = pytest.importorskip("transformers").TrainingArguments
    for name in ("loader-workers", "compile-model", "fused-optimizer"):
        call = SPELLINGS["transformers"][name]
        own = {n: eval(text) for n, text in call.written(VALUES).items()}
        made = arguments("out", **own)
        assert {key: getattr(made, key) for key in own} == own
    for name in ("adafactor", "eight-bit-optimizer", "activation-checkpointing"):
        texts = SPELLINGS["transformers"][name].written({})
        arguments("out", **{n: eval(text) for n, text in texts.items()})
    arguments("out", **dict.fromkeys(trainers.ON_CPU["bf16-autocast"].arguments, True))
