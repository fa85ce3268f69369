"""Planted: every step waits 40 ms for an answer of another thread.

True cause: host, synchronisation. So do scripts that fetch a reward, a schedule or
weights from a service before each update.
"""

import time
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def ask_service(step: int) -> float:
    time.sleep(0.04)
    return 0.01 / (1 + step)


def main() -> None:
    torch.manual_seed(0)
    loader = DataLoader(TensorDataset(torch.randn(32 * 100, 64)), batch_size=32)
    model = nn.Sequential(nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    with ThreadPoolExecutor(1) as service:
        for step, (batch,) in enumerate(loader):
            loss = model(batch).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.param_groups[0]["lr"] = service.submit(ask_service, step).result()
            optimizer.step()
    print(f"loss {loss.item():.3f}")


if __name__ == "__main__":
    main()
