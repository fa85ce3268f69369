"""Scaled gradients: 60 batches through GradScaler, which skips two whose gradients overflow."""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

loader = DataLoader(TensorDataset(torch.randn(8 * 60, 16)), batch_size=8)
model = nn.Linear(16, 1)
optimizer = torch.optim.Adam(model.parameters())
scaler = torch.amp.GradScaler("cpu")
for number, (batch,) in enumerate(loader):
    optimizer.zero_grad()
    loss = model(batch).square().mean()
    if number in (20, 40):
        loss = loss * float("inf")
    scaler.scale(loss).backward()
    scaler.step(optimizer)
    scaler.update()
