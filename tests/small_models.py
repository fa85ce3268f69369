"""A small model, and the ways in which trainings run one forward."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

Forward = Callable[[Any, Any], Any]


def plain(model: Any, batch: Any) -> Any:
    return model(batch).float().sum()


def autocast(model: Any, batch: Any) -> Any:
    with torch.autocast("cpu", torch.bfloat16):
        return plain(model, batch)


def recomputed(model: Any, batch: Any, *, reentrant: bool = False) -> Any:
    from torch.utils.checkpoint import checkpoint

    return checkpoint(model, batch.requires_grad_(), use_reentrant=reentrant).sum()


def reentrant(model: Any, batch: Any) -> Any:
    return recomputed(model, batch, reentrant=True)


def layers() -> Any:
    return nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2))
