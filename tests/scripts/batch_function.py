"""Planted: a `get_batch` function that prepares its pieces in Python.

True cause: data_loading, cpu_preparation, although nothing but the function's name says that it
loads data.
"""

import random

import torch
from torch import nn

CONTEXT, BATCH = 64, 32


def get_batch(text: str, alphabet: dict[str, int]) -> tuple[torch.Tensor, torch.Tensor]:
    rows = []
    for _ in range(BATCH):
        start = random.randrange(len(text) - 40 * CONTEXT)
        piece = text[start : start + 40 * CONTEXT]
        cleaned = [alphabet[letter] for letter in piece if letter in alphabet]
        smoothed = [sum(cleaned[at : at + 5]) / 5 for at in range(len(cleaned) - 5)]
        rows.append(smoothed[: CONTEXT + 1])
    pieces = torch.tensor(rows)
    return pieces[:, :-1], pieces[:, 1:]


def main() -> None:
    torch.manual_seed(0)
    random.seed(0)
    text = "the quick brown fox jumps over the lazy dog " * 5000
    alphabet = {letter: number for number, letter in enumerate(sorted(set(text)))}
    model = nn.Sequential(nn.Linear(CONTEXT, 16), nn.ReLU(), nn.Linear(16, CONTEXT))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.001)
    for _step in range(100):
        inputs, targets = get_batch(text, alphabet)
        loss = (model(inputs) - targets).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(f"loss {loss.item():.3f}")


if __name__ == "__main__":
    main()
