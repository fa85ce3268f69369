"""Planted: two workers that wait for slow storage. True cause: data_loading, storage.

Each sample is waited for 15 ms; eight of them, over two workers, make 60 ms for every batch.
"""

import time

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset


class SlowRecords(Dataset):
    def __len__(self) -> int:
        return 960

    def __getitem__(self, index: int) -> torch.Tensor:
        time.sleep(0.015)
        return torch.full((256,), index / len(self))


def main() -> None:
    torch.manual_seed(0)
    loader = DataLoader(SlowRecords(), batch_size=8, shuffle=True, num_workers=2)
    model = nn.Sequential(nn.Linear(256, 16), nn.ReLU(), nn.Linear(16, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for batch in loader:
        loss = model(batch).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(f"loss {loss.item():.3f}")


if __name__ == "__main__":
    main()
