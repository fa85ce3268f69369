"""No optimizer at all: 60 updates by hand, the batches wrapped in `speedprof.step(...)`."""

import torch

import speedprof

weights = torch.randn(16, 1)
for batch in speedprof.step(torch.randn(60, 8, 16)):
    weights -= 0.01 * batch.T @ (batch @ weights)
