"""Be interrupted in the middle of a garbage collection."""

import gc
import signal

import torch

model = torch.nn.Linear(4, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for _ in range(20):
    optimizer.zero_grad()
    model(torch.ones(2, 4)).square().mean().backward()
    optimizer.step()
heap = [[number] for number in range(3_000_000)]  # takes long to look through
signal.signal(signal.SIGALRM, signal.default_int_handler)
signal.setitimer(signal.ITIMER_REAL, 0.05)
try:
    for _ in range(3):
        gc.collect()
    print("not interrupted")
except KeyboardInterrupt:
    print("interrupted", len(heap))
