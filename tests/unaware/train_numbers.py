"""Train with everything that draws random numbers, then say every number to the last bit."""

# ruff: noqa: E402 - the first look comes before torch is imported

import sys

from look import look

first = look()

import hashlib
import io
import json
import random

import torch
from torch.utils.data import DataLoader, TensorDataset


def digest(tensors):
    whole = hashlib.sha256()
    for tensor in tensors:
        whole.update(tensor.detach().contiguous().numpy().tobytes())
    return whole.hexdigest()


torch.manual_seed(0)
random.seed(0)
model = torch.nn.Sequential(
    torch.nn.Linear(16, 32),
    torch.nn.Dropout(0.5),
    torch.nn.BatchNorm1d(32),
    torch.nn.Linear(32, 1),
)
optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
# 252 steps: whatever the lengths of windows, the last one is over by then, the next is not due
data = TensorDataset(torch.randn(672, 16), torch.randn(672, 1))
after_import = look()
losses = []
for epoch in range(3):
    model.train()
    for x, y in DataLoader(data, batch_size=8, shuffle=True, num_workers=epoch):
        optimizer.zero_grad()
        loss = torch.nn.functional.mse_loss(model(x), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    model.eval()
    with torch.no_grad():
        losses.append(torch.nn.functional.mse_loss(model(data.tensors[0]), data.tensors[1]))
checkpoint = io.BytesIO()
torch.save(model.state_dict(), checkpoint)
numbers = {
    "weights": digest(model.state_dict().values()),
    "losses": digest(losses),
    "optimizer": digest(value for state in optimizer.state.values() for value in state.values()),
    "torch random": digest([torch.get_rng_state()]),
    "random": [random.random(), torch.initial_seed()],
    "settings": [
        torch.get_num_threads(),
        torch.get_num_interop_threads(),
        torch.get_default_dtype() is torch.float32,
        torch.is_grad_enabled(),
        torch.are_deterministic_algorithms_enabled(),
        torch.backends.cudnn.benchmark,
        torch.get_float32_matmul_precision(),
        torch.cuda.is_initialized(),
        torch.autograd._profiler_enabled(),
    ],
    "checkpoint": hashlib.sha256(checkpoint.getvalue()).hexdigest(),
}
json.dump(
    {"first": first, "after import": after_import, "last": look(), "numbers": numbers}, sys.stdout
)
