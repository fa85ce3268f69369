"""What stands in a rewritten forward: attention in one kernel, with the masks as they were."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

FLAT = 3  # axes without one for heads; the fast kernels want four
Scales = Sequence[tuple[Any, bool]]
Masks = Sequence[tuple[str, Any, Any]]


def attend(  # noqa: PLR0917 - the operands of a node
    query: Any,
    transposed: Any,
    value: Any,
    scales: Scales,
    masks: Masks,
    rate: float,
    causal: bool,
) -> Any:
    """Return softmax(query transposed * scale + mask) value, its weights dropped out at `rate`.

    `scales` are factors, or divisors where marked so; `masks` tell how they hide: "fill" what is
    true, "keep" what is true, "add" and "sub" numbers.
    """
    import torch

    scale = 1.0
    for factor, divides in scales:
        if isinstance(factor, torch.Tensor):
            query = query / factor if divides else query * factor
        else:
            scale = scale / factor if divides else scale * factor
    key, mask = transposed.transpose(-2, -1), _mask(query, masks)
    flat = query.dim() == FLAT
    if flat:
        query, key, value = query.unsqueeze(1), key.unsqueeze(1), value.unsqueeze(1)
        mask = mask.unsqueeze(1) if mask is not None and mask.dim() == FLAT else mask
    out = torch.nn.functional.scaled_dot_product_attention(
        query, key, value, attn_mask=mask, dropout_p=rate, is_causal=causal, scale=scale
    )
    return out.squeeze(1) if flat else out


def rate_of(dropout: Any) -> float:
    """Return the rate at which a Dropout drops now."""
    return float(dropout.p) if dropout.training else 0.0


def _mask(query: Any, masks: Masks) -> Any:
    """Return all masks as one: booleans where they only hide, else numbers to add."""
    import torch

    allowed = added = None
    for how, what, filled in masks:
        if how in ("fill", "keep") and filled == -math.inf:
            kept = what if how == "keep" else ~what
            allowed = kept if allowed is None else allowed & kept
            continue
        if how in ("fill", "keep"):
            nothing = torch.zeros((), dtype=query.dtype, device=query.device)
            more = nothing.masked_fill(what if how == "fill" else ~what, filled)
        else:
            more = what if how == "add" else -what
        added = more if added is None else added + more
    if added is None:
        return allowed
    added = added.to(query.dtype)
    return added if allowed is None else added.masked_fill(~allowed, -math.inf)
