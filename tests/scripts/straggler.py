"""Planted: rank 1 does 60 ms of Python before each of its steps, and rank 0 waits for it.

True cause: communication, straggler. Run by torchrun.
"""

import time

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, TensorDataset


def count_words(text: str) -> int:
    return sum(len(word) for _ in range(60) for word in text.split())


def main() -> None:
    dist.init_process_group("gloo")
    torch.manual_seed(0)
    model = DistributedDataParallel(nn.Sequential(nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 1)))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    loader = DataLoader(TensorDataset(torch.randn(8 * 80, 64)), batch_size=8)
    text = "all ranks are equal but some are less equal " * 2000
    for (batch,) in loader:
        if dist.get_rank() == 1:
            count_words(text)
        loss = model(batch).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    if dist.get_rank() == 0:
        print(f"loss {loss.item():.3f}", flush=True)
    time.sleep(0.2)  # gloo aborts a process that ends while its threads let go of tensors
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
