"""Parts put together: what is measured anew replaces what was known, and nothing else."""

from __future__ import annotations

from pathlib import Path

import msgspec
from roofs_made import level, roofs
from test_roofs_cache import A_MACHINE

from speedprof.profiler.roofs.collecting import Collection
from speedprof.profiler.roofs.roofs import Roofs

TORCH = {"python": "3.11.7", "torch": "2.9.0", "cuda": None}
LEVEL = msgspec.to_builtins(level(1.0))


def _collection(known: Roofs | None = None, *, torch: str = "2.9.0") -> Collection:
    collection = Collection(A_MACHINE, known, storage=Path("/"))
    collection.versions(TORCH | {"torch": torch})
    return collection


def test_a_new_machine_begins_with_nothing_but_its_name() -> None:
    found = _collection().roofs()
    assert (found.machine, found.cores, found.gpus) == (A_MACHINE.id, 4, ["NVIDIA A100"] * 2)
    assert (found.storage, found.memory, found.gpu, found.measured_at) == ([], None, None, {})


def test_what_is_not_measured_anew_is_kept() -> None:
    collection = _collection(roofs())
    collection.part("memory", {"memory": {"bytes": 1, "threads": 1}}, {})
    found = collection.roofs()
    assert found.memory is not None
    assert found.memory.all_threads_gb_per_s is None
    assert found.gpu == roofs().gpu
    assert found.decoding == roofs().decoding


def test_what_another_torch_measured_is_left_behind() -> None:
    found = _collection(roofs(), torch="2.10.0").roofs()
    assert (found.torch, found.memory, found.storage) == ("2.10.0", None, [])


def test_matmul_and_dispatch_share_a_processor() -> None:
    collection = _collection()
    collection.part("matmul", {"processor": {"matmul_tflops": {"fp32": LEVEL}}}, {})
    collection.part("dispatch", {"processor": {"operators_per_s": LEVEL}}, {})
    found = collection.roofs().processor
    assert found is not None
    assert found.name == "an x86 CPU"
    assert found.matmul_tflops == {"fp32": level(1.0)}
    assert found.operators_per_s == level(1.0)


def test_each_file_system_has_its_own_storage() -> None:
    known = roofs()
    collection = _collection(known)
    collection.part("storage", {"storage": {"sequential_gb_per_s": LEVEL}}, {})
    mounts = {one.mount: one for one in collection.roofs().storage}
    assert set(mounts) == {"/", "/data"}
    assert mounts["/"].sequential_gb_per_s == level(1.0)
    assert mounts["/data"] == known.storage[1]


def test_all_reduce_is_kept_by_backend_and_ranks() -> None:
    collection = _collection(roofs())
    collection.part("all-reduce", {"all_reduce": {"backend": "nccl", "ranks": 8, "nodes": 1}}, {})
    collection.part("all-reduce", {"all_reduce": {"backend": "gloo", "ranks": 2, "nodes": 1}}, {})
    found = [(one.backend, one.ranks, len(one.sizes)) for one in collection.roofs().all_reduce]
    assert found == [("nccl", 8, 0), ("gloo", 2, 0)]


def test_what_can_no_longer_be_measured_is_absent_with_its_reason() -> None:
    collection = _collection(roofs())
    collection.part("copies", {}, {"copies": "no GPU"})
    collection.part("matmul", {"processor": {"matmul_tflops": {}}}, {"matmul: cuda": "no GPU"})
    found = collection.roofs()
    assert found.transfers is None
    assert found.gpu is not None
    assert found.gpu.matmul_tflops == {}
    assert found.gpu.convolution_tflops == roofs().gpu.convolution_tflops  # type: ignore[union-attr]
    assert found.absent == {"copies": "no GPU", "matmul: cuda": "no GPU"}


def test_a_reason_goes_when_its_part_is_measured() -> None:
    collection = _collection(roofs(absent={"decode: dali": "not here", "memory": "too little"}))
    collection.part("decode", {}, {"decode": "nothing to decode"})
    assert collection.roofs().absent == {"memory": "too little", "decode": "nothing to decode"}
