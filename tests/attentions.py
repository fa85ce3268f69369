"""Modules that write attention out, as people do, and some that only look like it."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as fn

WIDTH, HEADS, LENGTH, BATCH = 32, 4, 12, 3


class Projected(nn.Module):
    """Makes queries, keys and values, and what comes of them."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        self.all, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.dropout = nn.Dropout(dropout)
        self.heads = HEADS
        future = torch.tril(torch.ones(2 * LENGTH, 2 * LENGTH)).view(1, 1, 2 * LENGTH, 2 * LENGTH)
        self.register_buffer("past", future, persistent=False)

    def split(self, x: Tensor) -> Any:
        batch, length, width = x.size()
        query, key, value = self.all(x).split(WIDTH, dim=2)
        return tuple(
            part.view(batch, length, self.heads, width // self.heads).transpose(1, 2)
            for part in (query, key, value)
        )

    def join(self, seen: Tensor) -> Tensor:
        batch, heads, length, width = seen.shape
        return self.out(seen.transpose(1, 2).contiguous().view(batch, length, heads * width))


class NanoGPT(Projected):
    def forward(self, x: Tensor) -> Tensor:
        length = x.size(1)
        query, key, value = self.split(x)
        att = (query @ key.transpose(-2, -1)) * (1.0 / math.sqrt(key.size(-1)))
        att = att.masked_fill(self.past[:, :, :length, :length] == 0, float("-inf"))
        att = fn.softmax(att, dim=-1)
        att = self.dropout(att)
        return self.join(att @ value)


class Flat(Projected):
    """One head, three axes, the scale as a power."""

    def forward(self, x: Tensor) -> Tensor:
        _, length, _ = x.shape
        query, key, value = self.all(x).chunk(3, dim=-1)
        weights = query @ key.transpose(-2, -1) * key.shape[-1] ** -0.5
        weights = weights.masked_fill(self.past[0, 0, :length, :length] == 0, float("-inf"))
        weights = self.dropout(weights.softmax(dim=-1))
        return self.out(weights @ value)


class Timm(Projected):
    """Queries are scaled before, nothing is hidden."""

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = self.split(x)
        query = query * (WIDTH // HEADS) ** -0.5
        attn = query @ key.transpose(-2, -1)
        attn = self.dropout(attn.softmax(dim=-1))
        return self.join(attn @ value)


class Layered(Projected):
    """Softmax and dropout are modules, parts come out of a loop over chunks."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__(dropout)
        self.attend = nn.Softmax(dim=-1)

    def forward(self, x: Tensor) -> Tensor:
        batch, length, _ = x.shape
        parts = self.all(x).chunk(3, dim=-1)
        query, key, value = (
            part.reshape(batch, length, HEADS, -1).transpose(1, 2) for part in parts
        )
        dots = torch.matmul(query, key.transpose(-1, -2)) / 3.0
        return self.join(torch.matmul(self.dropout(self.attend(dots)), value))


class Separate(Projected):
    """Keys with a bias of their own, whose gradient is nothing but rounding."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__(dropout)
        self.query, self.key, self.value = (nn.Linear(WIDTH, WIDTH) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = self.query(x), self.key(x), self.value(x)
        scores = torch.bmm(query, key.transpose(1, 2)).div(WIDTH**0.5)
        return self.out(torch.bmm(self.dropout(torch.softmax(scores, dim=2)), value))


class Einsum(Projected):
    def forward(self, x: Tensor) -> Tensor:
        batch, length, _ = x.shape
        query, key, value = self.all(x).view(batch, length, 3, HEADS, -1).unbind(2)
        scores = torch.einsum("bqhd,bkhd->bhqk", query, key) / math.sqrt(WIDTH // HEADS)
        seen = torch.einsum("bhqk,bkhd->bqhd", torch.softmax(scores, -1), value)
        return self.out(seen.reshape(batch, length, WIDTH))


class Masked(Projected):
    """A mask that is given, and dropout by the function."""

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        query, key, value = self.split(x)
        scores = query @ key.transpose(-2, -1) / math.sqrt(key.size(-1))
        if mask is not None:
            scores = scores.masked_fill(mask, -1e9)
        weights = fn.dropout(scores.softmax(-1), p=self.dropout.p, training=self.training)
        return self.join(weights @ value)


class Added(Projected):
    """A learned bias for each head is added."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__(dropout)
        self.bias = nn.Parameter(torch.randn(1, HEADS, LENGTH, LENGTH))

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = self.split(x)
        scores = query @ key.transpose(-2, -1) * 0.3 + self.bias
        return self.join(self.dropout(scores.softmax(-1)) @ value)


class Built(Projected):
    """The mask is made anew at each call, and in the shape of this call."""

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = self.split(x)
        scores = query @ key.transpose(-2, -1) * 0.3
        length = x.shape[1]
        hidden = torch.triu(torch.ones(length, length, dtype=torch.bool, device=x.device), 1)
        return self.join(scores.masked_fill(hidden, float("-inf")).softmax(-1) @ value)


class Filled(Projected):
    """Scale and what is hidden are tensors of one number, as in GPT-2's older code."""

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = self.split(x)
        scores = torch.matmul(query, key.transpose(-1, -2))
        like = {"dtype": scores.dtype, "device": scores.device}
        scores = scores / torch.full([], value.size(-1) ** 0.5, **like)
        past = self.past[:, :, : x.size(1), : x.size(1)].bool()
        least = torch.finfo(scores.dtype).min
        scores = torch.where(past, scores, torch.full([], least, **like))
        weights = fn.softmax(scores, dim=-1, dtype=torch.float32).type(value.dtype)
        return self.join(torch.matmul(self.dropout(weights), value))


def attention(query: Tensor, key: Tensor, value: Tensor, dropout: Any = None) -> Tensor:
    scores = torch.matmul(query, key.transpose(-2, -1)) / math.sqrt(query.size(-1))
    weights = scores.softmax(dim=-1)
    if dropout is not None:
        weights = dropout(weights)
    return torch.matmul(weights, value)


class Annotated(Projected):
    """Attention is a function of its own."""

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = self.split(x)
        return self.join(attention(query, key, value, dropout=self.dropout))


class Torchs(nn.Module):
    """Torch's own heads, asked for weights that nobody looks at."""

    def __init__(self) -> None:
        super().__init__()
        self.heads = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        seen, _ = self.heads(x, x, x)
        return seen


# -- what has to stay as it is


class Keeping(NanoGPT):
    """Somebody may look at the weights later."""

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = self.split(x)
        self.weights = (query @ key.transpose(-2, -1) * 0.3).softmax(-1)
        return self.join(self.weights @ value)


class Returning(Projected):
    def forward(self, x: Tensor) -> Any:
        query, key, value = self.split(x)
        weights = (query @ key.transpose(-2, -1) * 0.3).softmax(-1)
        return self.join(weights @ value), weights.mean()


class Looking(Projected):
    """Its path depends on what tensors hold."""

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = self.split(x)
        weights = (query @ key.transpose(-2, -1) * 0.3).softmax(-1)
        if x.abs().max() > 1e6:
            return x
        return self.join(weights @ value)


class Sideways(Projected):
    """Softmax over the other axis: no attention that a kernel knows."""

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = self.split(x)
        return self.join((query @ key.transpose(-2, -1) * 0.3).softmax(-2) @ value)


class Choosing(Projected):
    """A softmax that has nothing to do with attention."""

    def forward(self, x: Tensor) -> Tensor:
        return self.out(x) * self.all(x)[..., :WIDTH].softmax(-1)


class Hiding(Projected):
    """A mask that tracing loses, since a proxy is no tensor."""

    def forward(self, x: Tensor, mask: Any = None) -> Tensor:
        query, key, value = self.split(x)
        scores = query @ key.transpose(-2, -1) * 0.3
        if isinstance(mask, Tensor):
            scores = scores.masked_fill(mask, float("-inf"))
        return self.join(scores.softmax(-1) @ value)


UNDERSTOOD = (
    NanoGPT, Flat, Timm, Layered, Separate, Einsum, Masked, Added, Built, Filled, Annotated,
    Torchs,
)  # fmt: skip
LEFT = (Keeping, Returning, Looking, Sideways)


class Model(nn.Module):
    """Two layers of one kind of attention in a residual stream."""

    def __init__(self, kind: Any, *arguments: Any) -> None:
        super().__init__()
        self.layers = nn.ModuleList(kind(*arguments) for _ in range(2))
        self.last = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor, *masks: Tensor) -> Tensor:
        for layer in self.layers:
            made = layer(x, *masks)
            x = x + (made[0] if isinstance(made, tuple) else made)
        return self.last(x)
