"""What a collective does, by the name that any library, vendor or generation gives it."""

from __future__ import annotations

import re

# The first that is found counts. Names lose their signs before. They are those of NCCL, RCCL and
# MSCCL by generation (`ncclAllReduceRingLLKernel_sum_f32`, `ncclDevKernel_AllReduce_Sum_f32`),
# of annotations (`nccl:_all_gather_base`, `gloo:all_reduce`), of the dispatcher
# (`c10d::alltoall_base_`, `_c10d_functional::all_reduce`), of vLLM (`cross_device_reduce_1stage`)
# and of DeepEP (`deep_ep::intranode::combine`).
_KINDS = {
    "all_to_all": r"alltoall|a2a",
    "all_reduce": r"allreduce|crossdevicereduce",
    "reduce_scatter": r"reducescatter",
    "all_gather": r"allgather",
    "broadcast": r"broadcast|bcast",
    "barrier": r"barrier",
    "notify": r"notify",  # expert parallelism: sizes of what will be dispatched
    "dispatch": r"dispatch",
    "combine": r"combine",
    "send_recv": r"send|recv|p2p",
    "reduce": r"reduce",
    "gather": r"gather",
    "scatter": r"scatter",
}
_COMPILED = {kind: re.compile(pattern) for kind, pattern in _KINDS.items()}
_SIGNATURE = re.compile(r"[<(].*$")  # template arguments and parameters
_SIGNS = re.compile(r"[\W_]+")

# No rank can leave these before the last one has come, for each needs something from all. A root
# may leave a broadcast, and a sender a message, before anybody has taken it.
TOGETHER = frozenset(
    {"all_reduce", "reduce_scatter", "all_gather", "all_to_all", "barrier", "dispatch", "combine"}
)


def kind(name: str) -> str:
    """Return what a collective of this name does ("all_reduce"), "" where the name does not tell.

    RCCL's `ncclDevKernel_Generic` runs any of them.
    """
    bare = _SIGNS.sub("", _SIGNATURE.sub("", name.lower()))
    return next((found for found, pattern in _COMPILED.items() if pattern.search(bare)), "")
