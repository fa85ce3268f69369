"""Planted: the whole validation set after every fifth step. True cause: outside, evaluation."""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


@torch.no_grad()
def validate(model: nn.Module, loader: DataLoader) -> float:
    model.eval()
    losses = [model(batch).square().mean().item() for (batch,) in loader]
    model.train()
    return sum(losses) / len(losses)


def main() -> None:
    torch.manual_seed(0)
    training = DataLoader(TensorDataset(torch.randn(32 * 120, 256)), batch_size=32, shuffle=True)
    held_out = DataLoader(TensorDataset(torch.randn(64 * 60, 256)), batch_size=64)
    model = nn.Sequential(nn.Linear(256, 512), nn.ReLU(), nn.Linear(512, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for step, (batch,) in enumerate(training, start=1):
        loss = model(batch).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 5 == 0:
            held = validate(model, held_out)
    print(f"loss {loss.item():.3f}, held out {held:.3f}")


if __name__ == "__main__":
    main()
