"""Train until a signal comes, saying so once training is under way."""

import os
import signal
import sys
import time

import torch
from torch.utils.data import DataLoader, TensorDataset

MANNER = sys.argv[1] if len(sys.argv) > 1 else "default"


def ended(number, _frame):
    print("caught", signal.Signals(number).name, flush=True)
    sys.exit(9)


if MANNER == "catches":
    signal.signal(signal.SIGINT, ended)
    signal.signal(signal.SIGTERM, ended)

torch.set_num_threads(1)
data = TensorDataset(torch.randn(64, 4))
model = torch.nn.Linear(4, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
steps = 0
try:
    while True:
        for (x,) in DataLoader(data, batch_size=4, num_workers=1 if MANNER == "workers" else 0):
            optimizer.zero_grad()
            model(x).square().mean().backward()
            optimizer.step()
            steps += 1
            if steps < 40:
                time.sleep(0.03)
            elif steps == 40:
                print("training", flush=True)
                os.write(int(os.environ["READY"]), b"%d" % os.getpid())
            else:
                time.sleep(0.001)
except KeyboardInterrupt:
    print("interrupted", flush=True)
    raise
