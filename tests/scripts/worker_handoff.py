"""Planted: batches of 96 MB that cost nothing to make and much to hand over.

True cause: data_loading, worker_handoff. A worker copies each into shared memory before the
training thread sees it.
"""

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

ROWS, COLUMNS = 1024, 24_576


class Ready(Dataset):
    """Whole batches, already in memory."""

    def __init__(self) -> None:
        self.batch = np.ones((ROWS, COLUMNS), dtype=np.float32)

    def __len__(self) -> int:
        return 80

    def __getitem__(self, index: int) -> np.ndarray:
        return self.batch


def main() -> None:
    torch.manual_seed(0)
    loader = DataLoader(Ready(), batch_size=None, num_workers=1)
    model = nn.Linear(64, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for batch in loader:
        loss = model(batch[:32, :64]).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(f"loss {loss.item():.3f}")


if __name__ == "__main__":
    main()
