"""Three epochs of 20 steps, and a validation of 10 batches after each: 60 training steps."""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

training = DataLoader(TensorDataset(torch.randn(8 * 20, 16)), batch_size=8, shuffle=True)
held_out = DataLoader(TensorDataset(torch.randn(8 * 10, 16)), batch_size=8)
model = nn.Linear(16, 1)
optimizer = torch.optim.Adam(model.parameters())
for _epoch in range(3):
    model.train()
    for (batch,) in training:
        optimizer.zero_grad()
        model(batch).square().mean().backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        for (batch,) in held_out:
            model(batch)
