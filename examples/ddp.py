"""Train one model on several processes with DistributedDataParallel.

    torchrun --nproc-per-node 2 examples/ddp.py
    speedprof run -- torchrun --nproc-per-node 2 examples/ddp.py

A classifier of short documents with a large vocabulary: little arithmetic, and 51 MB of gradients
to agree on in every step, most of them of the first layer, whose gradient comes last. Over gloo,
the backend for CPUs, the step waits for that all-reduce; with NCCL it is up to the link.
"""

from __future__ import annotations

import argparse
import os

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

CLASSES, WORDS = 10, 32  # of a document


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Train one model on several processes.")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--batch-size", type=int, default=32, help="of each process")
    parser.add_argument("--vocabulary", type=int, default=50_000)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--lr", type=float, default=1.0)
    parser.add_argument("--bf16-gradients", action="store_true", help="halve what is exchanged")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def make_dataset(documents: int, vocabulary: int, seed: int) -> TensorDataset:
    """Return documents with a few words of their class's own in each, the same on every rank."""
    random = torch.Generator().manual_seed(seed)
    labels = torch.randint(CLASSES, (documents,), generator=random)
    words = torch.randint(vocabulary, (documents, WORDS), generator=random)
    telling = torch.randint(50, (documents, WORDS // 4), generator=random)
    words[:, : WORDS // 4] = labels[:, None] * 50 + telling
    return TensorDataset(words, labels)


def make_model(options: argparse.Namespace) -> nn.Module:
    return nn.Sequential(
        nn.EmbeddingBag(options.vocabulary, options.width),
        nn.Linear(options.width, options.width),
        nn.ReLU(),
        nn.Linear(options.width, CLASSES),
    )


def wrap(model: nn.Module, options: argparse.Namespace) -> DistributedDataParallel:
    wrapped = DistributedDataParallel(model)
    if options.bf16_gradients:
        from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import bf16_compress_hook

        wrapped.register_comm_hook(None, bf16_compress_hook)
    return wrapped


def train(options: argparse.Namespace, device: torch.device) -> None:
    rank, ranks = dist.get_rank(), dist.get_world_size()
    documents = options.steps * options.batch_size * ranks
    dataset = make_dataset(documents, options.vocabulary, options.seed)
    sampler: DistributedSampler[tuple[Tensor, ...]] = DistributedSampler(dataset)
    loader = DataLoader(dataset, batch_size=options.batch_size, sampler=sampler)
    model = wrap(make_model(options).to(device), options)
    optimizer = torch.optim.SGD(model.parameters(), lr=options.lr)
    if rank == 0:
        megabytes = sum(p.numel() * p.element_size() for p in model.parameters()) / 1e6
        print(f"{ranks} ranks, {megabytes:.0f} MB of gradients a step", flush=True)
    for step, (words, labels) in enumerate(loader, start=1):
        loss = nn.functional.cross_entropy(model(words.to(device)), labels.to(device))
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
