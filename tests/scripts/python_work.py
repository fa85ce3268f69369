"""Planted: a metric computed in Python, word by word, in every step. True cause: host, python."""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def edit_distance(left: list[int], right: list[int]) -> int:
    above = list(range(len(right) + 1))
    for row, a in enumerate(left, start=1):
        here = [row]
        for column, b in enumerate(right, start=1):
            here.append(min(above[column] + 1, here[-1] + 1, above[column - 1] + (a != b)))
        above = here
    return above[-1]


def main() -> None:
    torch.manual_seed(0)
    loader = DataLoader(TensorDataset(torch.randn(32 * 100, 64)), batch_size=32)
    model = nn.Sequential(nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    worst = 0
    for step, (batch,) in enumerate(loader):
        loss = model(batch).square().mean()
        worst = max(worst, edit_distance(list(range(step, step + 420)), list(range(420))))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(f"loss {loss.item():.3f}, distance {worst}")


if __name__ == "__main__":
    main()
