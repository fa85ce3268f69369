"""Planted: AdamW over a table of eight million weights, of which each batch needs a few.

True cause: compute, memory_bandwidth. Reading and writing the weights and their two moments is
all the step does.
"""

import torch
from torch import nn


def main() -> None:
    torch.manual_seed(0)
    table, head = nn.Embedding(60_000, 128), nn.Linear(128, 1)
    optimizer = torch.optim.AdamW([*table.parameters(), *head.parameters()], lr=1e-3)
    for _step in range(80):
        tokens = torch.randint(60_000, (32,))
        loss = head(table(tokens)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(f"loss {loss.item():.3f}")


if __name__ == "__main__":
    main()
