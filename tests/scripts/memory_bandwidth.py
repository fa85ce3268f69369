"""Planted: long chains of additions and multiplications over tensors that fit no cache.

True cause: compute, memory_bandwidth.
"""

import torch
from torch import nn


class Chain(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.scale, self.shift = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for _ in range(3):
            x = x * self.scale + self.shift
        return x.square().mean()


def main() -> None:
    torch.manual_seed(0)
    model = Chain(1024)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    batch = torch.randn(2048, 1024)
    for _step in range(80):
        loss = model(batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(f"loss {loss.item():.3f}")


if __name__ == "__main__":
    main()
