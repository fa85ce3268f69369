"""Compute attention without writing its matrix of weights: SDPA, FlashAttention.

Does: replaces softmax(q k^T) v by `torch.nn.functional.scaled_dot_product_attention`.
Helps: attention over long sequences, whose softmax, mask and dropout each read and write a matrix
    of length x length.
Avoid: code that needs the attention weights themselves; sequences of a few dozen tokens.
Safety: rounding. Exact attention, summed in another order.
Place: system. The same function in one kernel.
Source: FlashAttention (NeurIPS 2022): 15 % end to end for BERT-large at 512 tokens against MLPerf
    1.1's record, on 8 A100; 3x for GPT-2 at 1,024 tokens against Hugging Face's code of 2022.
"""

from __future__ import annotations

from speedprof.advisor.finding import Finding
from speedprof.advisor.shares import number, percent
from speedprof.mitigations import facts
from speedprof.mitigations.card import remedy
from speedprof.mitigations.gains import ceiling, removing
from speedprof.mitigations.kernel_gains import bounded
from speedprof.mitigations.mitigation import Fit, Misfit
from speedprof.profiler.run import Operator, Run

CALLS = 4  # of softmax a step: two layers, forward and backward; a loss alone has two
WORTH = 0.02  # of the step in that softmax
CERTAIN = 0.8  # of the softmax goes: one pass over q, k and v stays
# Mask, scale and dropout each pass over the same matrix as softmax, and both products read or
# write it: all of that goes at best.
AROUND = 2.5  # times the softmax
LOSSES = ("log_softmax", "logsoftmax", "cross_entropy")
BY_HAND = """\
# instead of softmax(q @ k.transpose(-2, -1) / size**0.5) @ v, each (batch, heads, length, size):
out = torch.nn.functional.scaled_dot_product_attention(q, k, v)  # is_causal=True for a decoder
# models of transformers: from_pretrained(..., attn_implementation="sdpa")"""
FUSED = ("flash", "mem_efficient", "cudnn")  # SDPA's backends, as in Environment.flags
ENABLE = """\
torch.backends.cuda.enable_flash_sdp(True)  # the script turned off all but the plain kernels
torch.backends.cuda.enable_mem_efficient_sdp(True)
"""
MULTI_HEAD = "\n# torch.nn.MultiheadAttention: call it with need_weights=False"


def assess(run: Run, finding: Finding) -> Fit | Misfit:
    compute, share = run.compute, run.share("compute")
    if compute is None or share is None or not compute.operators:
        return Misfit(reason="the costliest operators were not measured")
    softmax = [one for one in compute.operators if _is_softmax(one)]
    calls = sum(one.calls for one in softmax)
    if calls < CALLS:
        return Misfit(reason="no softmax of attention is among the costliest operators")
    spent = sum(one.ms for one in softmax)
    fused = compute.kinds.get("attention", 0.0)
    if fused > spent:
        return Misfit(reason=f"attention runs in fused kernels already, {number(fused)} ms a step")
    of_step = share * spent / max(sum(compute.kinds.values()), spent)
    if of_step < WORTH:
        return Misfit(reason=f"softmax takes only {percent(of_step)} of the step")
    streams = facts.kinds_share(run, "reduction", "elementwise", "matmul") or of_step
    most = max(of_step, min(AROUND * of_step, streams))
    gain = removing(CERTAIN * of_step, most, what="softmax of attention and what is around it")
    heads = any("MultiheadAttention" in (model.modules or {}) for model in run.models)
    return Fit(
        reason=f"{number(calls)} softmax operators take {percent(of_step)} of the step, and no "
        "fused attention takes more",
        gain=bounded(gain.low, gain.high, gain.model, most=ceiling(finding.high)),
        by_hand=(ENABLE if _turned_off(run) else "") + BY_HAND + (MULTI_HEAD if heads else ""),
    )


def _turned_off(run: Run) -> bool:
    enabled = run.environment.flags.get("sdpa")
    return enabled is not None and not any(name in enabled for name in FUSED)


def _is_softmax(operator: Operator) -> bool:
    name = operator.name.lower()
    return "softmax" in name and not any(word in name for word in LOSSES)


MITIGATION = remedy(
    "fused-attention",
    __doc__,
    treats=(("compute", "memory_bandwidth"), ("compute", "arithmetic")),
    assess=assess,
    how="patch",
    after=("bf16-autocast",),
)
