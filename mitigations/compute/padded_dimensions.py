"""Round sizes of layers and vocabularies up to what tensor cores cut evenly.

Does: makes embeddings and linear layers a few rows larger, up to the next multiple of 64.
Helps: matrix products in bf16, fp16 or TF32 with a side that is no multiple of 8.
Avoid: plain float32, which uses no tensor cores; vocabularies whose new logits are neither masked
    nor left untrained; weights that were trained in the old size.
Safety: rounding. The rows added are never asked for; with logits of theirs in the loss, mask them.
Place: system. The same function with unused rows.
Source: nanoGPT (2023): vocabulary of 50,257 rounded up to 50,304, about 25 % faster by its
    author's word, on A100; NVIDIA's guide to matrix products: multiples of 8 in 16 bits, better
    of 64.
"""

from __future__ import annotations

from speedprof.advisor.finding import Finding
from speedprof.advisor.shares import percent
from speedprof.mitigations import facts
from speedprof.mitigations.card import remedy
from speedprof.mitigations.compute import products
from speedprof.mitigations.gains import ceiling, speeding_up
from speedprof.mitigations.kernel_gains import bounded
from speedprof.mitigations.mitigation import Fit, Misfit
from speedprof.profiler.run import Run

MULTIPLE = 64
WORTH = 0.2  # of the step in matrix products
# Between none of the products having an odd side, by time, and all of them; nanoGPT's quarter is
# of a whole step of which its vocabulary is the largest product.
FASTER = (1.0, 1.35)
SHOWN = 4  # sizes


def assess(run: Run, finding: Finding) -> Fit | Misfit:
    told = [size for model in run.models for size in model.odd_dims or []]
    hindrance = _unsuited(run, told)
    if hindrance is not None:
        return Misfit(reason=hindrance)
    share = facts.kinds_share(run, "matmul", "attention")
    if share is None:
        return Misfit(reason="the kinds of operators were not measured")
    if share < WORTH:
        return Misfit(reason=f"only {percent(share)} of the step are matrix products")
    odd = sorted(set(told), reverse=True)
    gain = speeding_up(share, *FASTER, what="matrix products, as far as they have such a side")
    named = ", ".join(f"{size:,}" for size in odd[:SHOWN])
    return Fit(
        reason=f"{percent(share)} of the step are matrix products; sizes such as {named} are no "
        "multiples of 8",
        gain=bounded(gain.low, gain.high, gain.model, most=ceiling(finding.high)),
        by_hand="\n".join(
            f"{_rounded(size)}  # instead of {size}, where that size is set"
            for size in odd[:SHOWN]
        ),
    )


def _rounded(size: int) -> int:
    return -(-size // MULTIPLE) * MULTIPLE


def _unsuited(run: Run, odd: list[int]) -> str | None:
    if not facts.is_gpu(run):
        return f"tensor cores belong to GPUs, the training runs on {run.device}"
    if all(model.odd_dims is None for model in run.models):
        return "the sizes of the model's layers were not recorded"
    if not odd:
        return "all layers of 64 and more have sizes that are multiples of 8"
    cores = products.on_tensor_cores(run)
    if cores is None:
        return "in which type products run was not recorded"
    return None if cores else "products run in plain float32, where odd sizes cost little"


MITIGATION = remedy(
    "padded-dimensions",
    __doc__,
    treats=(("compute", "arithmetic"),),
    assess=assess,
    after=("bf16-autocast", "tf32"),
)
