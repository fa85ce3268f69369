"""Planted: one worker computes samples more slowly than they are used.

True cause: data_loading, cpu_preparation.
"""

import hashlib

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

ROUNDS = 2_500  # about 5 ms of one core


class Decrypted(Dataset):
    def __len__(self) -> int:
        return 800

    def __getitem__(self, index: int) -> torch.Tensor:
        key = hashlib.pbkdf2_hmac("sha256", str(index).encode(), b"salt", ROUNDS, 256)
        return torch.frombuffer(bytearray(key), dtype=torch.uint8) / 255


def main() -> None:
    torch.manual_seed(0)
    loader = DataLoader(Decrypted(), batch_size=8, num_workers=1)
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
