"""Train with Lightning: two epochs, validation, accumulation over two batches."""

import logging
import os
import sys
import warnings

import lightning
import torch
from torch.utils.data import DataLoader, TensorDataset

warnings.filterwarnings("ignore")
logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
torch.set_num_threads(1)


class Tiny(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(8, 1)

    def training_step(self, batch, _index):
        return self.layer(batch[0]).square().mean()

    def validation_step(self, batch, _index):
        self.log("seen", self.layer(batch[0]).square().mean())

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=0.01)


lightning.seed_everything(1, verbose=False)
data = TensorDataset(torch.randn(64, 8))
trainer = lightning.Trainer(
    accelerator="cpu",
    devices=1,
    max_epochs=2,
    accumulate_grad_batches=2,
    logger=False,
    enable_checkpointing=False,
    enable_model_summary=False,
    enable_progress_bar=False,
    default_root_dir=os.environ["TMPDIR"],
)
model = Tiny()
trainer.fit(model, DataLoader(data, batch_size=2, shuffle=True), DataLoader(data, batch_size=16))
print("steps", trainer.global_step)
print(model.layer.weight.sum().item().hex(), file=sys.stdout)
