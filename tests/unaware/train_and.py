"""Train, do in the middle of it what the first argument says, and say the result."""

import os
import shutil
import sys
import time

import torch
from torch.utils.data import DataLoader, TensorDataset

deed = sys.argv[1] if len(sys.argv) > 1 else ""
run = os.environ.get("SPEEDPROF_RUN")
torch.set_num_threads(1)
torch.manual_seed(0)
model = torch.nn.Linear(4, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
if deed == "no step":
    for _ in DataLoader(TensorDataset(torch.zeros(12, 4)), batch_size=4):
        model(torch.zeros(1, 4))
    sys.exit()
for step, (batch,) in enumerate(DataLoader(TensorDataset(torch.randn(160, 4)), batch_size=4)):
    optimizer.zero_grad()
    model(batch).square().mean().backward()
    optimizer.step()
    time.sleep(0.03)  # long enough for what is written twice a second
    if step == 15 and run:
        if deed == "delete":
            shutil.rmtree(run)
        elif deed == "fill":
            try:
                with open(os.path.join(os.path.dirname(run), "fill"), "wb", 0) as file:
                    while file.write(b"x" * 512):
                        pass
            except OSError:
                pass
        elif deed == "file":
            shutil.rmtree(run)
            with open(run, "w"):
                pass
print("trained", model.weight.sum().item().hex())
