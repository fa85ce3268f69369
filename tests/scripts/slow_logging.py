"""Planted: a log handler that takes 30 ms a line, as one that posts to a server does.

True cause: outside, logging.
"""

import logging
import time

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class Posting(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        self.format(record)
        time.sleep(0.03)


def main() -> None:
    torch.manual_seed(0)
    log = logging.getLogger("training")
    log.setLevel(logging.INFO)
    log.addHandler(Posting())
    loader = DataLoader(TensorDataset(torch.randn(32 * 100, 64)), batch_size=32)
    model = nn.Sequential(nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for step, (batch,) in enumerate(loader):
        loss = model(batch).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        log.info("step %d: loss %.3f", step, loss.item())
    print(f"loss {loss.item():.3f}")


if __name__ == "__main__":
    main()
