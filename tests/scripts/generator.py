"""Planted: a hand-written generator that tokenises in Python, and no DataLoader.

True cause: data_loading, cpu_preparation, at the generator's lines.
"""

import re
from collections.abc import Iterator

import torch
from torch import nn

WORD = re.compile(r"\w+|[^\w\s]")


def batches(text: str, count: int) -> Iterator[torch.Tensor]:
    for number in range(count):
        words = [word.lower() for word in WORD.findall(text)]
        rows = [hash_of(word, number) for word in words[: 32 * 64]]
        yield torch.tensor(rows, dtype=torch.float32).view(32, 64) / 1000


def hash_of(word: str, seed: int) -> int:
    value = seed
    for letter in word:
        value = (value * 31 + ord(letter)) % 1000
    return value


def main() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    text = (
        "It is a truth universally acknowledged, that a step must be in want of a batch. " * 6000
    )
    for batch in batches(text, 100):
        loss = model(batch).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(f"loss {loss.item():.3f}")


if __name__ == "__main__":
    main()
