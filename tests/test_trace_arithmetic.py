"""FLOPs and kinds of kernels in traces that others recorded; see ../shared/traces."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from pathlib import Path

import pytest

from speedprof.profiler import trace_run, trace_set
from speedprof.profiler.attribution import load
from speedprof.profiler.device_activity import COLLECTIVE_KERNEL
from speedprof.profiler.operators import kind
from speedprof.profiler.run import Run

TRACES = Path(__file__).resolve().parents[2] / "shared" / "traces"
pytestmark = pytest.mark.skipif(
    not TRACES.is_dir(), reason="the recorded traces are not in ../shared/traces"
)

# ResNet-50 on 224 x 224: 4.0871 G multiply-adds in convolutions for an image (He et al. 2016,
# with the stride in the 3 x 3 as torchvision has it), and 2.048 M in the last layer
CONVOLUTIONS, LAST = 4.087136256e9, 2.048e6
FIRST = 112 * 112 * 64 * 3 * 7 * 7  # whose input needs no gradient


def analysed(name: str, folder: Path) -> Run:
    sources = trace_run.sources([TRACES / name])
    trace_set.analyze(sources, folder, name="x", version="0", progress=lambda _: None)
    return load(folder)


@pytest.mark.parametrize("workers", ["workers0", "workers4", "workers4_bare_list"])
def test_resnet50_has_the_flops_that_its_layers_have(workers: str, tmp_path: Path):
    """PyTorch 1.8 recorded no strides: forward and backward passes tell each other's."""
    run = analysed(f"resnet50_v100_{workers}.json.gz", tmp_path)
    assert run.compute is not None
    counted = run.compute.arithmetic
    assert counted is not None
    by_hand = 2 * 32 * (3 * (CONVOLUTIONS + LAST) - FIRST)
    assert counted.flops == pytest.approx(by_hand, rel=1e-3)
    assert counted.coverage > 0.99
    assert set(counted.precisions) == {"fp32"}
    assert 10 < counted.tflops_per_s < 15.7
    assert run.compute.bound == "arithmetic"


def test_mfu_is_flops_over_step_time_and_roof(tmp_path: Path):
    run = analysed("resnet50_v100_workers0.json.gz", tmp_path)
    assert run.compute is not None
    assert run.compute.arithmetic is not None
    assert run.step_ms is not None
    counted = run.compute.arithmetic
    assert counted.device == "V100 DGX Station"
    assert counted.mfu == pytest.approx(
        counted.flops / (run.step_ms.mean_ms / 1e3) / 15.7e12, rel=1e-3
    )


@pytest.mark.parametrize(
    ("name", "precision", "mfu"),
    [
        ("bert_small_h100.json.gz", "bf16", (0.001, 0.003)),
        ("owlv2_h100_data_bound.json.gz", "bf16", (0.02, 0.03)),
        ("transformer_h100_launch_bound.json", "tf32", (0.02, 0.04)),
        ("ddp_a100_rank3of8.json.gz", "tf32", (0.03, 0.05)),
        ("resnet_mi300_act_checkpoint.json.gz", "bf16", (0.004, 0.008)),
        ("edge/torch_compile_triton.json.gz", "bf16", (0.3, 0.4)),
    ],
)
def test_recorded_shapes_give_an_mfu(name, precision, mfu, tmp_path: Path):
    run = analysed(name, tmp_path)
    assert run.compute is not None
    counted = run.compute.arithmetic
    assert counted is not None
    assert next(iter(counted.precisions)) == precision
    assert counted.mfu is not None
    assert mfu[0] < counted.mfu < mfu[1]
    assert all(0 < kind.of_peak < 1 for kind in counted.kinds.values() if kind.of_peak)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("ns_timestamps_v100.json.gz", "no operator shapes were recorded"),
        ("nccl_metadata_a100.json.gz", "no operator shapes were recorded"),
        ("resnet_2080ti_data_bound_no_steps.json.gz", "no operator shapes were recorded"),
        ("recsys_a100_host_bound.json.gz", "not enough recorded"),
    ],
)
def test_where_shapes_are_missing_the_reason_is_said(name, why, tmp_path: Path):
    run = analysed(name, tmp_path)
    assert run.compute is not None
    assert run.compute.arithmetic is None
    gaps = {gap.what: gap.why for gap in run.not_measured}
    assert gaps["arithmetic"].startswith(why)


def traces() -> list[Path]:
    found = sorted(TRACES.rglob("*.json")) + sorted(TRACES.rglob("*.json.gz"))
    left_out = ("reference.json", "h100_before_fix.json")  # its kernels are all called "Kernel"
    return [path for path in found if path.name not in left_out]


@pytest.mark.parametrize("path", traces(), ids=lambda path: str(path.relative_to(TRACES)))
def test_nearly_all_kernel_time_has_a_kind(path: Path):
    packed = path.read_bytes()
    content = json.loads(gzip.decompress(packed) if path.suffix == ".gz" else packed)
    events = content if isinstance(content, list) else content["traceEvents"]
    times: Counter[str] = Counter()
    for event in events:
        if event.get("cat") in ("kernel", "Kernel") and "dur" in event:
            times[event["name"]] += float(event["dur"])
    computing = {n: t for n, t in times.items() if not COLLECTIVE_KERNEL.search(n)}
    unknown = sum(time for name, time in computing.items() if kind(name) == "other")
    assert unknown <= 0.01 * sum(computing.values())
