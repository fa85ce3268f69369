"""Planted: large matrix products. True cause: compute, arithmetic."""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def main() -> None:
    torch.manual_seed(0)
    dataset = TensorDataset(torch.randn(512 * 20, 1024))
    loader = DataLoader(dataset, batch_size=None, sampler=torch.arange(20 * 512).view(20, 512))
    model = nn.Sequential(
        nn.Linear(1024, 2048), nn.ReLU(), nn.Linear(2048, 2048), nn.ReLU(), nn.Linear(2048, 1)
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for _epoch in range(3):
        for (batch,) in loader:
            loss = model(batch).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    print(f"loss {loss.item():.3f}")


if __name__ == "__main__":
    main()
