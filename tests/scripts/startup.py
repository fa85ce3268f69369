"""Planted: epochs of four batches, and workers that are started anew for each of them.

True cause: data_loading, startup. Every worker builds its index before the first batch.
"""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def build_index(worker: int) -> None:
    words = {f"{worker}-{number}": number for number in range(250_000)}
    assert len(words) == 250_000


def main() -> None:
    torch.manual_seed(0)
    dataset = TensorDataset(torch.randn(64, 256))
    loader = DataLoader(dataset, batch_size=16, num_workers=2, worker_init_fn=build_index)
    model = nn.Sequential(nn.Linear(256, 16), nn.ReLU(), nn.Linear(16, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for _epoch in range(30):
        for (batch,) in loader:
            loss = model(batch).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    print(f"loss {loss.item():.3f}")


if __name__ == "__main__":
    main()
