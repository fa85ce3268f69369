"""Train on one rank over gloo, and end while gloo's threads may still let go of the last step."""

import os

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel


def hold_back_gloo():
    """Let gloo's threads have the core only where nothing else wants it."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    for thread in os.listdir("/proc/self/task"):
        with open(f"/proc/self/task/{thread}/comm") as name:
            if name.read().startswith("pt_gloo"):
                os.sched_setaffinity(int(thread), os.sched_getaffinity(0))
                os.sched_setscheduler(int(thread), os.SCHED_IDLE, os.sched_param(0))


def main():
    torch.set_num_threads(1)
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    model = DistributedDataParallel(torch.nn.Linear(4, 1))
    hold_back_gloo()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _step in range(20):
        optimizer.zero_grad()
        model(torch.ones(2, 4)).sum().backward()
        optimizer.step()
    dist.destroy_process_group()
    print("trained")


if __name__ == "__main__":
    main()
