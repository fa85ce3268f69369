"""Gradient accumulation: 60 updates, each of four batches."""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

loader = DataLoader(TensorDataset(torch.randn(8 * 240, 16)), batch_size=8)
model = nn.Linear(16, 1)
optimizer = torch.optim.Adam(model.parameters())
for number, (batch,) in enumerate(loader, start=1):
    (model(batch).square().mean() / 4).backward()
    if number % 4 == 0:
        optimizer.step()
        optimizer.zero_grad()
