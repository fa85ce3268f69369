"""Train on two ranks over gloo: one of them under torchrun, starting both where it is alone."""

import os
import socket
import time

import torch
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

STEPS = 20


def train(rank):
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", rank=rank, world_size=2)
    torch.manual_seed(0)
    data = TensorDataset(torch.randn(8 * STEPS, 4))
    model = DistributedDataParallel(torch.nn.Linear(4, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for (batch,) in DataLoader(data, batch_size=4, sampler=DistributedSampler(data)):
        optimizer.zero_grad()
        model(batch).square().mean().backward()
        optimizer.step()
    weights = [None, None]
    torch.distributed.all_gather_object(weights, model.module.weight.sum().item().hex())
    if rank == 0:
        print("trained", weights, flush=True)
    torch.distributed.barrier()
    time.sleep(1)  # gloo aborts a rank that is still in the barrier when the other goes
    torch.distributed.destroy_process_group()


def main():
    if "RANK" in os.environ:
        return train(int(os.environ["RANK"]))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.multiprocessing.spawn(train, nprocs=2)
    return None


if __name__ == "__main__":
    main()
