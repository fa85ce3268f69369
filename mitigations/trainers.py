"""Remedies in the words of a library's training loop: its arguments in place of lines.

Who trains by `Trainer` of transformers or of Lightning, or by `Accelerator`, writes neither the
loop nor, often, the DataLoader: lines for a loop of one's own would not help there.

Sources: the signatures of `transformers.TrainingArguments` (5.23), of Lightning's `Trainer` and
`DDPStrategy` (2.6), of `accelerate.Accelerator` and what it takes (1.15); the tests hold them
against what is installed.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

from speedprof.mitigations.facts import threads_line
from speedprof.mitigations.mitigation import Fit
from speedprof.mitigations.source_text import written
from speedprof.profiler.run import Run

PARAMETER = re.compile(r"\{(\w+)\}")  # of the fit, in an argument's text
WIDE = 44  # characters: what a card of the report holds in a line
DEFAULT = "default"  # a parameter's value that stands for saying nothing
NAMES = {
    "transformers": "transformers' Trainer",
    "lightning": "Lightning's Trainer",
    "accelerate": "accelerate's Accelerator",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One call of the library's that takes a remedy."""

    name: str  # "TrainingArguments"
    arguments: Mapping[str, str] = field(default_factory=dict)  # name there to source text
    around: str = "{call}"  # where the call stands
    then: str = ""  # what else is to be done, as a comment
    told: bool = False  # and never written: it stands elsewhere, or is for somebody to decide
    gpu: bool = False  # refused by the library, or senseless, without one
    excludes: str | None = None  # an argument that the library refuses beside it

    @property
    def parameters(self) -> set[str]:
        """Return the remedy's parameters that it takes."""
        return {one for text in self.arguments.values() for one in PARAMETER.findall(text)}

    @property
    def is_of_loader(self) -> bool:
        """Whether it concerns a loader that the library builds."""
        return any(name.startswith(OF_LOADER) for name in self.arguments)

    def written(self, values: Mapping[str, object]) -> dict[str, str]:
        """Return the arguments with a remedy's parameters; those that take others are left out."""
        known = {name: value for name, value in values.items() if value not in (None, DEFAULT)}
        return {
            name: PARAMETER.sub(lambda found: written(known[found[1]]), text)
            for name, text in self.arguments.items()
            if all(needed in known for needed in PARAMETER.findall(text))
        }

    def is_named(self, argument: str, named: Collection[str]) -> bool:
        """Tell whether all that an argument takes was asked for by name."""
        needed = PARAMETER.findall(self.arguments[argument])
        return bool(needed) and set(needed) <= set(named)

    def text(self, values: Mapping[str, object]) -> str:
        """Return the call as somebody would write it, one argument a line where it is long."""
        written = self.written(values)
        line = self._line(written)
        if len(line) <= WIDE:
            return f"{line}  # {self.then}" if self.then else line
        arguments = "".join(f"    {name}={text},\n" for name, text in written.items())
        whole = self.around.replace("{call}", f"{self.name}(\n    ...,\n{arguments})")
        return f"{whole}\n# {self.then}" if self.then else whole

    def pattern(self) -> str:
        """Return the call with the parameters' names in capitals where their values belong."""
        line = self._line(
            {n: PARAMETER.sub(lambda one: one[1].upper(), t) for n, t in self.arguments.items()}
        )
        return f"{line}  # {self.then}" if self.then else line

    def _line(self, written: Mapping[str, str]) -> str:
        arguments = ", ".join(f"{name}={text}" for name, text in written.items())
        return self.around.replace("{call}", f"{self.name}(..., {arguments})")


def call(name: str, then: str = "", **arguments: str) -> Call:
    return Call(name=name, arguments=arguments, then=then)


def told(name: str, then: str = "", around: str = "{call}", **arguments: str) -> Call:
    return Call(name=name, arguments=arguments, then=then, around=around, told=True)


def on_gpu(name: str, excludes: str | None = None, **arguments: str) -> Call:
    return Call(name=name, arguments=arguments, excludes=excludes, gpu=True)


HUGGING_FACE = "TrainingArguments"
OF_LOADER = ("dataloader_", "per_device_")
WORKERS = {"dataloader_num_workers": "{num_workers}"}
KEPT = {"dataloader_persistent_workers": "{persistent_workers}"}
AHEAD = {"dataloader_prefetch_factor": "{prefetch_factor}"}
RATE = "and scale the learning rate, with warm-up"
ACCUMULATING = f"with the step under accelerator.accumulate(model), {RATE}"
ELSEWHERE = "where the script makes no optimizer itself"
WITHOUT = "without dataloader_persistent_workers and dataloader_prefetch_factor"
BUCKETS = {
    "bucket_cap_mb": "{bucket_cap_mb}",
    "gradient_as_bucket_view": "True",
    "static_graph": "True",
}

SPELLINGS: dict[str, dict[str, Call]] = {  # by profiler.trainers.TRAINERS and the remedy's name
    "transformers": {
        "loader-workers": call(HUGGING_FACE, **WORKERS, **KEPT, **AHEAD),
        "in-process-loading": call(HUGGING_FACE, WITHOUT, **WORKERS),
        "persistent-workers": call(HUGGING_FACE, **KEPT),
        "deeper-prefetch": call(HUGGING_FACE, **AHEAD),
        "pin-memory": on_gpu(HUGGING_FACE, dataloader_pin_memory="{pin_memory}"),
        "non-blocking-copies": told(HUGGING_FACE, accelerator_config="dict(non_blocking=True)"),
        "bf16-autocast": Call(name=HUGGING_FACE, arguments={"bf16": "True"}, excludes="fp16"),
        "fp16-autocast": on_gpu(HUGGING_FACE, "bf16", fp16="True"),
        "tf32": on_gpu(HUGGING_FACE, tf32="True"),
        "compile-model": call(HUGGING_FACE, torch_compile="True", torch_compile_mode="{mode}"),
        "fused-optimizer": told(HUGGING_FACE, ELSEWHERE, optim='"adamw_torch_fused"'),
        # since 5.0 also called activation_checkpointing
        "activation-checkpointing": told(
            HUGGING_FACE, "for models of transformers", gradient_checkpointing="True"
        ),
        "adafactor": told(HUGGING_FACE, ELSEWHERE, optim='"adafactor"'),
        "eight-bit-optimizer": told(HUGGING_FACE, ELSEWHERE, optim='"adamw_8bit"'),
        "ddp-buckets": call(HUGGING_FACE, ddp_bucket_cap_mb="{bucket_cap_mb}"),
        "fewer-exchanges": told(HUGGING_FACE, RATE, gradient_accumulation_steps="{every}"),
        "gradient-accumulation": told(
            HUGGING_FACE,
            per_device_train_batch_size="{batch_size}",
            gradient_accumulation_steps="{batches}",
        ),
        "larger-batch": told(HUGGING_FACE, RATE, per_device_train_batch_size="{batch_size}"),
        "length-buckets": told(
            HUGGING_FACE,
            "and a data_collator that pads to the longest sample of a batch; before transformers "
            "5: group_by_length=True",
            train_sampling_strategy='"group_by_length"',
        ),
        "rarer-evaluation": told(
            HUGGING_FACE,
            "with more eval_steps between; per_device_eval_batch_size may be twice as large",
            eval_strategy='"steps"',
        ),
        "rarer-checkpoints": told(
            HUGGING_FACE, "with more save_steps between", save_strategy='"steps"'
        ),
    },
    "lightning": {
        "bf16-autocast": call("Trainer", precision='"bf16-mixed"'),
        "fp16-autocast": on_gpu("Trainer", precision='"16-mixed"'),
        "cudnn-benchmark": on_gpu("Trainer", "deterministic", benchmark="True"),
        "ddp-buckets": told("DDPStrategy", around="Trainer(..., strategy={call})", **BUCKETS),
        "fewer-exchanges": told("Trainer", RATE, accumulate_grad_batches="{every}"),
        "compile-model": told("trainer.fit", model="torch.compile(model)"),
        "no-debugging": told("Trainer", detect_anomaly="False"),
        "rarer-evaluation": told(
            "Trainer",
            "or a larger val_check_interval; not where a scheduler needs its metric more often",
            check_val_every_n_epoch="2",
        ),
        "rarer-checkpoints": told(
            "ModelCheckpoint",
            around="Trainer(..., callbacks=[{call}])",
            every_n_epochs="{times_rarer}",
        ),
    },
    "accelerate": {
        "bf16-autocast": call("Accelerator", mixed_precision='"bf16"'),
        "fp16-autocast": on_gpu("Accelerator", mixed_precision='"fp16"'),
        "non-blocking-copies": told(
            "DataLoaderConfiguration",
            around="Accelerator(..., dataloader_config={call})",
            non_blocking="True",
        ),
        "ddp-buckets": told(
            "DistributedDataParallelKwargs",
            around="Accelerator(..., kwargs_handlers=[{call}])",
            **BUCKETS,
        ),
        "fewer-exchanges": told(
            "Accelerator", ACCUMULATING, gradient_accumulation_steps="{every}"
        ),
    },
}
# TrainingArguments refuses bf16 where there is no GPU, unless the script is kept on the CPU
KEPT_THERE = replace(told(HUGGING_FACE, bf16="True", use_cpu="True"), excludes="fp16")
ON_CPU = {"bf16-autocast": KEPT_THERE}
ADAMW = "AdamW"  # what TrainingArguments(optim="adamw_torch_fused") stands for


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """What decides how a remedy is spelled."""

    trainer: str  # one of `NAMES`
    device: str
    optimizer: str  # the one with the most weights
    own_loader: bool = False  # the script builds the training loader itself

    def call(self, name: str) -> Call | None:
        """Return what takes a remedy; None where the lines for a loop of one's own do."""
        if name == "fused-optimizer" and self.optimizer != ADAMW:
            return None
        if (self.trainer, self.device) == ("transformers", "cpu") and name in ON_CPU:
            return ON_CPU[name]
        found = SPELLINGS[self.trainer].get(name)
        if found is None or (found.is_of_loader and self.own_loader):
            return None
        return None if found.gpu and self.device == "cpu" else found


def patterns(name: str) -> dict[str, str]:
    """Return what takes a remedy, by the loop's name: "Trainer(..., precision=...)"."""
    found = {trainer: calls.get(name) for trainer, calls in SPELLINGS.items()}
    return {NAMES[trainer]: one.pattern() for trainer, one in found.items() if one is not None}


def training(run: Run) -> Training | None:
    """Return the library's loop that trains; None: the script's own."""
    largest = max(run.optimizers, key=lambda one: one.elements or 0, default=None)
    if largest is None or largest.trainer not in SPELLINGS:
        return None
    loader = run.training_loader()
    return Training(
        trainer=largest.trainer,
        device=run.device,
        optimizer=largest.name,
        own_loader=loader is not None and loader.where is not None and loader.library is None,
    )


def spelled(name: str, fit: Fit, run: Run) -> Fit:
    """Return the fit with what the run's training loop takes, where that is known."""
    known = training(run)
    how = None if known is None else known.call(name)
    if how is None:
        return fit
    fewer = fit.beside.get("fewer-threads", {}).get("threads")
    threads = threads_line(fewer if isinstance(fewer, int) else None)
    return replace(fit, by_hand=f"{how.text(fit.parameters)}\n{threads}".strip())
