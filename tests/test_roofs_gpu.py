"""Roofs of a GPU: what of the check needs none, and the measurements where there is one."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import msgspec
import pytest
from roofs_made import level, roofs

from speedprof.profiler.device_peaks import device_peaks
from speedprof.profiler.roofs import dispatch, gpu_copies, products

torch = pytest.importorskip("torch")


def test_roofs_below_the_published_ones_are_right(load: Callable[[str], ModuleType]) -> None:
    published = device_peaks(roofs().gpu.name)  # type: ignore[union-attr]
    assert published is not None
    assert load("gpu")._beyond(roofs(), published) == []


def test_roofs_that_no_such_gpu_has_are_wrong(load: Callable[[str], ModuleType]) -> None:
    gpu = roofs().gpu
    assert gpu is not None
    published = device_peaks(gpu.name)
    faster = msgspec.structs.replace(
        gpu, matmul_tflops={"bf16": level(400.0)}, memory_gb_per_s=level(100.0)
    )
    wrong = load("gpu")._beyond(roofs(gpu=faster), published)
    assert [sentence.partition(":")[0] for sentence in wrong] == ["bf16", "memory"]
    swapped = msgspec.structs.replace(
        roofs().transfers, pinned_gb_per_s=level(1.0), pageable_gb_per_s=level(2.0)
    )
    (sentence,) = load("gpu")._beyond(roofs(transfers=swapped), published)
    assert "pageable" in sentence


@pytest.mark.gpu
@pytest.mark.parametrize("what", ["matmul", "convolution"])
def test_a_gpu_multiplies_in_every_type_that_it_has(what: str) -> None:
    found, absent = products.measure(what, "cuda")
    assert set(found) | {name.split()[-1] for name in absent} == set(products.TYPES)
    assert all(one["best"] > 0 for one in found.values())


@pytest.mark.gpu
def test_a_gpu_copies_and_launches() -> None:
    across = gpu_copies.across(8 << 30)
    assert across["pinned_gb_per_s"]["best"] > 0
    assert across["pageable_gb_per_s"]["best"] > 0
    assert gpu_copies.within()["best"] > across["pinned_gb_per_s"]["best"]
    assert dispatch.measure("cuda")["best"] > 0
