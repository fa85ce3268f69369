"""Planted: 64 MB of gradients to sum over two ranks, and hardly anything else to do.

True cause: communication, transfer. Run by torchrun.
"""

import time

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel


def main() -> None:
    dist.init_process_group("gloo")
    torch.manual_seed(0)
    model = DistributedDataParallel(nn.Sequential(nn.Linear(4096, 4096, bias=False)))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    batch = torch.randn(1, 4096)
    for _step in range(60):
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
