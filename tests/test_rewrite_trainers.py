"""Remedies written as arguments of a library's training loop; a whole script of transformers."""

from __future__ import annotations

import ast
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest

from speedprof.mitigations.rewrite.order import Known, Value
from speedprof.mitigations.rewrite.trainer_arguments import CALLED
from speedprof.mitigations.trainers import SPELLINGS, Training
from speedprof.tests.launching import bare, only_run, said, speedprof
from speedprof.tests.rewrites import refused, unchanged, written

HUGGING_FACE = "from transformers import Trainer, TrainingArguments\n"


def known(trainer: str = "transformers", device: str = "cpu") -> Known:
    return Known(training=Training(trainer=trainer, device=device, optimizer="AdamW"))


def only_call(source: str) -> ast.Call:
    """Return the call of TrainingArguments in a source, whatever its layout."""
    calls = [one for one in ast.walk(ast.parse(source)) if isinstance(one, ast.Call)]
    (call,) = [one for one in calls if getattr(one.func, "id", None) == "TrainingArguments"]
    return call


@pytest.mark.parametrize(
    ("call", "name", "given", "wanted"),
    [
        (
            '"out"',
            "loader-workers",
            {"num_workers": 2},
            '"out", dataloader_num_workers=2, dataloader_persistent_workers=True',
        ),
        (
            "output_dir=out, dataloader_num_workers=1",
            "loader-workers",
            {"num_workers": 2, "persistent_workers": False},
            "output_dir=out, dataloader_num_workers=2, dataloader_persistent_workers=False",
        ),
        (
            "out, dataloader_num_workers=2",
            "deeper-prefetch",
            {"prefetch_factor": 8},
            "out, dataloader_num_workers=2, dataloader_prefetch_factor=8",
        ),
        (
            "out, dataloader_num_workers=4, dataloader_prefetch_factor=2, seed=1",
            "in-process-loading",
            {},
            "out, dataloader_num_workers=0, seed=1",
        ),
        (
            "out, dataloader_persistent_workers=True, dataloader_num_workers=4",
            "loader-workers",
            {"num_workers": 0},
            "out, dataloader_num_workers=0",
        ),
        ("out, use_cpu=not gpu", "bf16-autocast", {}, "out, use_cpu=not gpu, bf16=True"),
        (
            "out, fp16=False, use_cpu=True",
            "bf16-autocast",
            {},
            "out, fp16=False, use_cpu=True, bf16=True",
        ),
        ("out", "compile-model", {}, "out, torch_compile=True"),
        (
            "out",
            "compile-model",
            {"mode": "max-autotune"},
            'out, torch_compile=True, torch_compile_mode="max-autotune"',
        ),
        ("out", "ddp-buckets", {"bucket_cap_mb": 100.0}, "out, ddp_bucket_cap_mb=100"),
    ],
)
def test_arguments_are_written_into_the_call(
    call: str, name: str, given: dict[str, Value], wanted: str
) -> None:
    source = f"{HUGGING_FACE}args = TrainingArguments({call})\nTrainer(args=args).train()\n"
    changed = only_call(written(source, name, known(), **given))
    assert ast.unparse(changed) == ast.unparse(only_call(f"TrainingArguments({wanted})"))


@pytest.mark.parametrize(
    ("call", "name", "given", "wanted"),
    [
        ("out", "tf32", {}, "out, tf32=True"),
        ("out", "bf16-autocast", {}, "out, bf16=True"),
        ("out, fp16=False", "bf16-autocast", {}, "out, fp16=False, bf16=True"),
        (
            "out, dataloader_pin_memory=False",
            "pin-memory",
            {"pin_memory": True},
            "out, dataloader_pin_memory=True",
        ),
    ],
)
def test_on_a_gpu_more_is_written(
    call: str, name: str, given: dict[str, Value], wanted: str
) -> None:
    source = f"{HUGGING_FACE}args = TrainingArguments({call})\n"
    changed = only_call(written(source, name, known(device="cuda"), **given))
    assert ast.unparse(changed) == ast.unparse(only_call(f"TrainingArguments({wanted})"))


@pytest.mark.parametrize(
    ("name", "given", "line"),
    [
        ("tf32", {}, 'torch.set_float32_matmul_precision("high")'),  # refused there on a CPU
        ("tf32", {"precision": "medium"}, 'torch.set_float32_matmul_precision("medium")'),
        ("fused-optimizer", {}, "AdamW(parameters, fused=True)"),
    ],
)
def test_what_the_loop_does_not_take_is_written_where_it_always_is(
    name: str, given: dict[str, Value], line: str
) -> None:
    source = "import torch\nfrom torch.optim import AdamW\nfrom transformers import "
    source += "TrainingArguments\n\nTrainingArguments(out)\nAdamW(parameters)\n"
    for device in ("cpu", "cuda") if given or name != "tf32" else ("cpu",):
        assert line in written(source, name, known(device=device), **given)


def test_a_loader_of_the_script_s_own_is_written_as_such() -> None:
    source = f"{HUGGING_FACE}from torch.utils.data import DataLoader\nDataLoader(data)\n"
    source += "TrainingArguments(out)\n"
    training = Training(trainer="transformers", device="cpu", optimizer="AdamW", own_loader=True)
    changed = written(source, "loader-workers", Known(training=training), num_workers=2)
    assert "DataLoader(data, num_workers=2" in changed
    assert "TrainingArguments(out)" in changed


def test_a_data_set_that_learns_its_epoch_gets_no_workers_that_are_kept() -> None:
    source = f"{HUGGING_FACE}class Data:\n    def set_epoch(self, epoch):\n        pass\n"
    source += "\nTrainingArguments(out)\n"
    call = only_call(written(source, "loader-workers", known(), num_workers=2))
    assert [one.arg for one in call.keywords] == ["dataloader_num_workers"]


def test_loops_of_other_libraries_take_theirs() -> None:
    source = "import lightning\nlightning.Trainer(max_steps=8).fit(model)\n"
    changed = written(source, "bf16-autocast", known("lightning"))
    assert 'lightning.Trainer(max_steps=8, precision="bf16-mixed")' in changed
    source = "from accelerate import Accelerator\naccelerator = Accelerator()\n"
    changed = written(source, "bf16-autocast", known("accelerate"))
    assert 'Accelerator(mixed_precision="bf16")' in changed
    loader = "from torch.utils.data import DataLoader\nloader = DataLoader(data)\n"
    changed = written(loader + source, "loader-workers", known("accelerate"), num_workers=2)
    assert "DataLoader(data, num_workers=2" in changed


@pytest.mark.parametrize(
    ("rest", "name", "given", "why"),
    [
        (
            "TrainingArguments(out, bf16=False, use_cpu=True)",
            "bf16-autocast",
            {},
            "gives bf16=False itself in line 2; go there to change it",
        ),
        ("TrainingArguments(out)", "bf16-autocast", {}, "keep the script on the CPU for good"),
        ("TrainingArguments(out, use_cpu=False)", "bf16-autocast", {}, "keep the script on the"),
        (
            "TrainingArguments(out, fp16=True, use_cpu=True)",
            "bf16-autocast",
            {},
            "does not take it beside fp16=True",
        ),
        (
            "TrainingArguments(out, dataloader_num_workers=workers)",
            "deeper-prefetch",
            {},
            "dataloader_num_workers=workers may be 0",
        ),
        (
            "TrainingArguments(**rest)",
            "compile-model",
            {},
            "takes arguments from **rest; write torch_compile=True there",
        ),
        (
            "TrainingArguments(out); TrainingArguments(other)",
            "bf16-autocast",
            {},
            "2 calls of TrainingArguments stand in this file",
        ),
        (
            "print(1)",
            "compile-model",
            {},
            "stands in this file; write torch_compile=True where it does",
        ),
        (
            "import transformers\ntransformers.HfArgumentParser(TrainingArguments)",
            "persistent-workers",
            {},
            "the loader has no workers; take loader-workers, too",
        ),
        (
            "TrainingArguments(out, torch_compile=False)",
            "compile-model",
            {},
            "gives torch_compile=False itself",
        ),
        (
            "TrainingArguments(out)",
            "deeper-prefetch",
            {"prefetch_factor": 8},
            "the loader has no workers; take loader-workers, too",
        ),
        (
            "import transformers\ntransformers.HfArgumentParser(TrainingArguments)",
            "loader-workers",
            {"num_workers": 2},
            "command line: add --dataloader_num_workers 2 --dataloader_persistent_workers True",
        ),
    ],
)
def test_what_is_not_understood_is_refused(
    rest: str, name: str, given: dict[str, Value], why: str
) -> None:
    assert why in refused(f"{HUGGING_FACE}{rest}\n", name, known(), **given)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("in-process-loading", "add --dataloader_num_workers 0 there"),
        ("persistent-workers", "add --dataloader_persistent_workers True there"),
        ("deeper-prefetch", "add --dataloader_prefetch_factor 4 there"),
    ],
)
def test_workers_of_the_command_line_are_known_from_the_run(name: str, options: str) -> None:
    source = f"{HUGGING_FACE}from transformers import HfArgumentParser\n"
    source += "HfArgumentParser(TrainingArguments)\n"
    assert options in refused(source, name, replace(known(), num_workers=2))


def test_an_iterable_data_set_gets_no_workers_by_the_command_line_either() -> None:
    source = f"{HUGGING_FACE}from transformers import HfArgumentParser\n"
    source += "HfArgumentParser(TrainingArguments)\n"
    told = Known(training=known().training, iterable=True)
    assert "every worker would yield all of it" in refused(source, "loader-workers", told)


def test_what_the_call_says_already_stays() -> None:
    source = f"{HUGGING_FACE}TrainingArguments(out, bf16=True, use_cpu=True)\n"
    unchanged(source, "bf16-autocast", known())
    unchanged(f"{HUGGING_FACE}TrainingArguments(out)\n", "in-process-loading", known())


def test_every_call_is_known_by_its_full_name_or_left_as_advice() -> None:
    written_ones = {one.name for calls in SPELLINGS.values() for one in calls.values()}
    assert set(CALLED) <= written_ones


SLOW = '''\
"""A loader that waits, in the loop of transformers."""

import time

import torch
from torch import nn
from transformers import Trainer, TrainingArguments


class Slow(torch.utils.data.Dataset):
    def __len__(self):
        return 320

    def __getitem__(self, index):
        time.sleep(0.005)
        return {"x": torch.full((16,), float(index)), "labels": float(index)}


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(16, 1)

    def forward(self, x, labels):
        return {"loss": (self.layer(x).squeeze(-1) - labels).square().mean()}


def main():
    args = TrainingArguments("out", report_to=[], save_strategy="no", use_cpu=True)
    trainer = Trainer(Model(), args, train_dataset=Slow())
    trainer.train()
    print(args.dataloader_num_workers, "workers")


if __name__ == "__main__":
    main()
'''


@pytest.mark.slow
@pytest.mark.skipif(find_spec("transformers") is None, reason="no transformers (extra frameworks)")
def test_a_script_of_transformers_is_told_and_written_its_arguments(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(SLOW, "utf-8")
    done = speedprof("run", "--warmup", "2", "train.py", cwd=tmp_path)
    assert done.returncode == 0, done.stderr.decode()
    page = (only_run(tmp_path) / "report.html").read_text("utf-8")
    assert "TrainingArguments(" in page
    assert "dataloader_num_workers=" in page
    (workers,) = [
        one
        for one in said(tmp_path, "report.json")["mitigations"]
        if one["name"] == "loader-workers"
    ]
    assert "the script sets" not in workers["reason"]
    done = speedprof("run", "--apply", "loader-workers", "train.py", cwd=tmp_path)
    assert "in force: loader-workers" in done.stderr.decode()
    done = speedprof("apply", "--remedy", "loader-workers=2", "--write", cwd=tmp_path)
    assert "loader-workers: written" in done.stderr.decode()
    done = bare(sys.executable, "train.py", cwd=tmp_path)
    assert done.stdout.decode().splitlines()[-1] == "2 workers"
