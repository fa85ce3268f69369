"""Planted: 64 MB are saved after every second step. True cause: outside, checkpoint."""

import tempfile
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def main() -> None:
    torch.manual_seed(0)
    loader = DataLoader(TensorDataset(torch.randn(32 * 100, 64)), batch_size=32)
    frozen = nn.Embedding(250_000, 64).requires_grad_(False)
    model = nn.Sequential(nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    with tempfile.TemporaryDirectory() as folder:
        for step, (batch,) in enumerate(loader):
            loss = model(batch + frozen.weight[step]).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if step % 2 == 1:
                state = {"model": model.state_dict(), "table": frozen.state_dict()}
                torch.save(state, Path(folder) / "last.pt")
    print(f"loss {loss.item():.3f}")


if __name__ == "__main__":
    main()
