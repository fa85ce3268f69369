"""Train a little, and read stdin meanwhile if there is any."""

import os
import sys
import warnings

import torch
from torch.utils.data import DataLoader, TensorDataset

if os.environ.get("PYTHONPATH", "").endswith(("theirs", "theirs:")):
    import module_of_theirs

    assert module_of_theirs.found == "theirs"


def main():
    torch.manual_seed(0)
    torch.set_num_threads(1)
    data = TensorDataset(torch.randn(48, 4), torch.randn(48, 1))
    model = torch.nn.Linear(4, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    read = steps = 0
    for x, y in DataLoader(data, batch_size=4, shuffle=True):
        optimizer.zero_grad()
        torch.nn.functional.mse_loss(model(x), y).backward()
        optimizer.step()
        steps += 1
        read += len(sys.stdin.buffer.read(8))
    print("trained", steps, model.weight.sum().item().hex(), "read", read, "bytes")
    warnings.warn("a warning of the script's", stacklevel=1)


if __name__ == "__main__":
    main()
