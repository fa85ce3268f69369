"""Planted: samples are computed in pure Python, by the training thread itself.

True cause: data_loading, cpu_preparation.
"""

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset


class Parsed(Dataset):
    """Parses one long line of text for each sample, as for a CSV file read by hand."""

    def __init__(self) -> None:
        self.line = ",".join(f"{value / 7:.6f}" for value in range(256))

    def __len__(self) -> int:
        return 960

    def __getitem__(self, index: int) -> torch.Tensor:
        values = []
        for repeat in range(80):
            values = [(float(word) + index + repeat) % 3.0 for word in self.line.split(",")]
        return torch.tensor(values)


def main() -> None:
    torch.manual_seed(0)
    loader = DataLoader(Parsed(), batch_size=8, shuffle=True)
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
