"""In which precision a GPU kernel multiplies, by its name: that decides which roof it has."""

from __future__ import annotations

import re
from functools import lru_cache

FP64 = "fp64"  # no device here is measured by it
# The first that matches counts. Of cuBLAS and cuDNN: the shape of one tensor instruction stands
# after the type of its sums (s884, h884: fp16 of Volta; s1688 without a type: tf32), sgemm and
# scudnn are of plain cores; nvjet_t is bf16, nvjet_h fp16, nvjet_q fp8. Of Tensile (Cijk_) the
# letters after both operands' layouts: B is bf16, H fp16, S fp32, D fp64.
_TENSILE = r"cijk_[a-z]{4}_[a-z]{4}_"
_PATTERNS = (
    ("fp8", rf"e4m3|e5m2|fp8|float8|nvjet_q|{_TENSILE}[fb]8"),
    ("bf16", rf"bf16|bfloat16|nvjet_t|{_TENSILE}b"),
    ("fp16", rf"fp16|(?<![a-z0-9])f16|f16f16|half|[sh]884|h1688|nvjet_h|{_TENSILE}h"),
    ("tf32", r"tf32|tfloat32|xf32|s1688"),
    (FP64, rf"dgemm|d884|double|{_TENSILE}d"),
    ("fp32", rf"sgemm|scudnn|float|fp32|f32|{_TENSILE}s"),
)
_COMPILED = [(precision, re.compile(pattern)) for precision, pattern in _PATTERNS]


@lru_cache(maxsize=8192)
def precision(kernel: str) -> str | None:
    """Return the precision of a kernel's operands, None where its name does not tell."""
    lowered = kernel.lower()
    return next((found for found, pattern in _COMPILED if pattern.search(lowered)), None)
