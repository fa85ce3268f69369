"""No optimizer at all: 60 updates by hand, each marked with `with speedprof.step()`."""

import torch

import speedprof

weights = torch.randn(16, 1)
for _step in range(60):
    with speedprof.step():
        batch = torch.randn(8, 16)
        weights -= 0.01 * batch.T @ (batch @ weights)
