"""Two loaders side by side, labelled and unlabelled: 60 steps of one batch of each."""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

labelled = DataLoader(TensorDataset(torch.randn(8 * 60, 16)), batch_size=8)
unlabelled = DataLoader(TensorDataset(torch.randn(16 * 70, 16)), batch_size=16)
model = nn.Linear(16, 1)
optimizer = torch.optim.Adam(model.parameters())
for (one,), (other,) in zip(labelled, unlabelled, strict=False):
    loss = model(one).square().mean() + model(other).abs().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
