"""Train one model on several processes with DistributedDataParallel.

    torchrun --nproc-per-node 2 examples/ddp.py
    speedprof run -- torchrun --nproc-per-node 2 examples/ddp.py

Wide layers on small batches: little arithmetic, and 53 MB of gradients to agree on in every step.
Over gloo, the backend for CPUs, most of a step is the all-reduce; with NCCL it is up to the link.
"""

from __future__ import annotations

import argparse
import os

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

FEATURES, CLASSES = 256, 10


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Train one model on several processes.")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--batch-size", type=int, default=8, help="of each process")
    parser.add_argument("--width", type=int, default=2048)
    parser.add_argument("--layers", type=int, default=3, help="each of width x width weights")
    parser.add_argument("--lr", type=float, default=0.05)
    parser.add_argument("--bf16-gradients", action="store_true", help="halve what is exchanged")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def make_dataset(samples: int, seed: int) -> TensorDataset:
    """Return points around one centre a class, the same on every rank."""
    random = torch.Generator().manual_seed(seed)
    centres = torch.randn(CLASSES, FEATURES, generator=random)
    labels = torch.randint(CLASSES, (samples,), generator=random)
    noise = torch.randn(samples, FEATURES, generator=random)
    return TensorDataset(centres[labels] + 2 * noise, labels)


def make_model(options: argparse.Namespace) -> nn.Module:
    hidden: list[nn.Module] = []
    for _ in range(options.layers):
        hidden += [nn.Linear(options.width, options.width), nn.ReLU()]
    return nn.Sequential(
        nn.Linear(FEATURES, options.width), nn.ReLU(), *hidden, nn.Linear(options.width, CLASSES)
    )


def wrap(model: nn.Module, options: argparse.Namespace) -> DistributedDataParallel:
    wrapped = DistributedDataParallel(model)
    if options.bf16_gradients:
        from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import bf16_compress_hook

        wrapped.register_comm_hook(None, bf16_compress_hook)
    return wrapped


def train(options: argparse.Namespace, device: torch.device) -> None:
    rank, ranks = dist.get_rank(), dist.get_world_size()
    dataset = make_dataset(options.steps * options.batch_size * ranks, options.seed)
    sampler: DistributedSampler[tuple[Tensor, ...]] = DistributedSampler(dataset)
    loader = DataLoader(dataset, batch_size=options.batch_size, sampler=sampler)
    model = wrap(make_model(options).to(device), options)
    optimizer = torch.optim.SGD(model.parameters(), lr=options.lr)
    if rank == 0:
        megabytes = sum(p.numel() * p.element_size() for p in model.parameters()) / 1e6
        print(f"{ranks} ranks, {megabytes:.0f} MB of gradients a step", flush=True)
    for step, (points, labels) in enumerate(loader, start=1):
        loss = nn.functional.cross_entropy(model(points.to(device)), labels.to(device))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if rank == 0 and step % 20 == 0:
            print(f"step {step}: loss {loss.item():.3f}", flush=True)


def main() -> None:
    options = parse()
    torch.manual_seed(options.seed)
    on_gpu = torch.cuda.is_available()
    local_rank = int(os.environ["LOCAL_RANK"])
    device = torch.device("cuda", local_rank) if on_gpu else torch.device("cpu")
    if on_gpu:
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if on_gpu else "gloo")
    try:
        train(options, device)
    finally:
        dist.destroy_process_group()


if __name__ == "__main__":
    main()
