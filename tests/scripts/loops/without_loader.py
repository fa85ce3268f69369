"""No DataLoader: 60 updates on one batch."""

import torch
from torch import nn

batch = torch.randn(8, 16)
model = nn.Linear(16, 1)
optimizer = torch.optim.Adam(model.parameters())
for _step in range(60):
    optimizer.zero_grad()
    model(batch).square().mean().backward()
    optimizer.step()
