"""Planted: each sample is read from slow storage. True cause: data_loading, storage.

Reading a file takes as long as on a loaded network disk: 6 ms until the first byte, waited for
and not computed.
"""

import tempfile
import time
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

FILES, BATCH, LATENCY_S = 64, 8, 0.006


class SlowFiles(Dataset):
    def __init__(self, folder: Path) -> None:
        self.paths = sorted(folder.glob("*.bin"))

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> torch.Tensor:
        time.sleep(LATENCY_S)
        data = bytearray(self.paths[index].read_bytes())
        return torch.frombuffer(data, dtype=torch.float32)


def main() -> None:
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for index in range(FILES):
            (folder / f"{index:03d}.bin").write_bytes(torch.randn(256).numpy().tobytes())
        loader = DataLoader(SlowFiles(folder), batch_size=BATCH, shuffle=True)
        model = nn.Sequential(nn.Linear(256, 16), nn.ReLU(), nn.Linear(16, 1))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
        for _epoch in range(12):
            for batch in loader:
                loss = model(batch).square().mean()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        print(f"loss {loss.item():.3f}")


if __name__ == "__main__":
    main()
