"""A model, and its losses, for remedies that fail while a training runs."""

from __future__ import annotations

import random
from typing import Any

import torch
from torch import Tensor, nn

WIDTH = 8
ASKS = "create" + "_graph"  # not written out: remedies read this file for it


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(WIDTH, 16), nn.Linear(16, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.sin(self.first(x)) * 2.0)


def losses(
    kind: Any = Net,
    *,
    steps: int = 10,
    size: Any = lambda _step: 4,
    again: int = 1,
    shape: Any = (WIDTH,),
) -> Any:
    """Train from a fixed seed; return the model and its losses."""
    torch.manual_seed(0)
    random.seed(0)
    model = kind()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    found = []
    for step in range(steps):
        loss = model(torch.randn(size(step), *shape)).float().square().mean()
        optimizer.zero_grad()
        for _ in range(again - 1):
            loss.backward(retain_graph=True)
        loss.backward()
        optimizer.step()
        found.append(loss.item())
    return model, found
