"""Train a tiny causal language model with Hugging Face's Trainer, accumulating two batches."""

import io
import os
from contextlib import redirect_stdout

import torch
from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainerCallback, TrainingArguments
from transformers.utils import logging

logging.set_verbosity_error()
logging.disable_progress_bar()
torch.set_num_threads(1)
torch.manual_seed(0)
model = LlamaForCausalLM(
    LlamaConfig(
        vocab_size=64,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
    )
)
rows = [
    {"input_ids": list(row), "labels": list(row)}
    for row in torch.randint(0, 64, (96, 12), generator=torch.Generator().manual_seed(1)).tolist()
]


class Quiet(TrainerCallback):
    def on_log(self, _arguments, _state, control, logs=None, **_rest):
        losses.append(round(logs.get("loss", 0), 9))
        return control


losses = []
arguments = TrainingArguments(
    output_dir=os.environ["TMPDIR"] + "/out-" + str(os.getpid()),
    per_device_train_batch_size=2,
    per_device_eval_batch_size=2,  # the loader of evaluation looks like that of training
    gradient_accumulation_steps=2,
    max_steps=30,
    logging_steps=10,
    eval_strategy="steps",
    eval_steps=15,
    save_strategy="no",
    report_to=[],
    use_cpu=True,
    disable_tqdm=True,
    seed=1,
)
trainer = Trainer(
    model=model, args=arguments, train_dataset=rows, eval_dataset=rows[:8], callbacks=[Quiet()]
)
with redirect_stdout(io.StringIO()):  # its own log lines hold the seconds that it took
    trainer.train()
print("steps", trainer.state.global_step)
print(losses, sum(p.sum().item() for p in model.parameters()).hex())
