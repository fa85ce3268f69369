"""LBFGS calls its closure several times in each of 60 updates."""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

loader = DataLoader(TensorDataset(torch.randn(8 * 60, 16)), batch_size=8)
model = nn.Linear(16, 1)
optimizer = torch.optim.LBFGS(model.parameters(), lr=0.1, max_iter=5)
for (batch,) in loader:

    def closure(batch: torch.Tensor = batch) -> torch.Tensor:
        optimizer.zero_grad()
        loss = model(batch).square().mean()
        loss.backward()
        return loss

    optimizer.step(closure)
