"""An evolution strategy: 60 optimizer updates, and backward is never called."""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class Evolution(torch.optim.Optimizer):
    """Keeps a random change where it makes the loss smaller."""

    @torch.no_grad()
    def step(self, closure) -> None:
        for group in self.param_groups:
            for weight in group["params"]:
                before, change = closure(), torch.randn_like(weight) * group["lr"]
                weight.add_(change)
                if closure() > before:
                    weight.sub_(change)


loader = DataLoader(TensorDataset(torch.randn(8 * 60, 16)), batch_size=8)
model = nn.Linear(16, 1)
optimizer = Evolution(model.parameters(), {"lr": 0.1})
for (batch,) in loader:
    optimizer.step(lambda batch=batch: model(batch).square().mean())
