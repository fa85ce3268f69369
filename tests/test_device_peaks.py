"""What devices can do at best, and which device a name means."""

from __future__ import annotations

import pytest

from speedprof.profiler.device_peaks import PRECISIONS, DevicePeaks, all_peaks, device_peaks

NAMES = {
    "Tesla V100-SXM2-32GB": "V100 SXM2",
    "Tesla V100-SXM2-16GB": "V100 SXM2",
    "Tesla V100-DGXS-32GB": "V100 DGX Station",
    "Tesla V100-PCIE-32GB": "V100 PCIe",
    "Tesla V100S-PCIE-32GB": "V100S PCIe",
    "Tesla T4": "T4",
    "NVIDIA GeForce RTX 2080 Ti": "RTX 2080 Ti",
    "GeForce RTX 2080 Ti": "RTX 2080 Ti",
    "NVIDIA A100-PG509-200": "A100 40GB",
    "NVIDIA A100-SXM4-40GB": "A100 40GB",
    "A100-SXM4-40GB": "A100 40GB",
    "NVIDIA A100-SXM4-80GB": "A100 80GB SXM",
    "NVIDIA A100-PCIE-40GB": "A100 40GB",
    "NVIDIA A100 80GB PCIe": "A100 80GB PCIe",
    "NVIDIA A800-SXM4-80GB": "A100 80GB SXM",
    "NVIDIA A10": "A10",
    "NVIDIA A40": "A40",
    "NVIDIA RTX A6000": "RTX A6000",
    "NVIDIA GeForce RTX 3090": "RTX 3090",
    "NVIDIA GeForce RTX 3090 Ti": "RTX 3090 Ti",
    "NVIDIA GeForce RTX 4090": "RTX 4090",
    "NVIDIA L4": "L4",
    "NVIDIA L40": "L40",
    "NVIDIA L40S": "L40S",
    "NVIDIA H100 80GB HBM3": "H100 SXM",
    "NVIDIA H100 PCIe": "H100 PCIe",
    "NVIDIA H100 NVL": "H100 NVL",
    "NVIDIA H200": "H200 SXM",
    "NVIDIA GH200 480GB": "GH200 96GB",
    "NVIDIA B200": "B200 SXM",
    "AMD Instinct MI300X": "MI300X",
    "AMD Instinct MI210": "MI210",
    "AMD Instinct MI250X": "MI250X, one die",
    "AMD Instinct MI250X / MI250": "MI250X, one die",
    "AMD Instinct MI250": "MI250, one die",
}


@pytest.mark.parametrize("name", NAMES)
def test_a_device_is_known_by_the_name_it_gives_itself(name):
    found = device_peaks(name)
    assert found is not None
    assert found.device == NAMES[name]


@pytest.mark.parametrize(
    "name",
    [
        None, "", "GPU", "NVIDIA A100X", "NVIDIA A10G", "NVIDIA GeForce RTX 4090 Laptop GPU",
        "NVIDIA GeForce RTX 4090 D", "NVIDIA H20", "Tesla T40", "NVIDIA GB200", "NVIDIA A1000",
        "NVIDIA GeForce RTX 3080 Laptop GPU", "NVIDIA H100 PCIe MIG 1g.10gb",
        "NVIDIA A100-SXM4-40GB MIG 3g.20gb", "NVIDIA H200 MIG 1g.18gb", "Apple M2",
    ],
)  # fmt: skip
def test_another_device_is_not_taken_for_a_known_one(name):
    assert device_peaks(name) is None


@pytest.mark.parametrize("peaks", all_peaks(), ids=lambda peaks: peaks.device)
def test_every_entry_has_its_source_and_lower_precision_is_never_slower(peaks: DevicePeaks):
    assert any(vendor in peaks.source for vendor in ("NVIDIA", "AMD"))
    assert "20" in peaks.source
    rates = [peaks.tflops[name] for name in reversed(PRECISIONS) if name in peaks.tflops]
    if peaks.device != "MI100":  # its bf16 runs at half the rate of its fp16
        assert rates == sorted(rates)
    assert set(peaks.tflops) <= set(PRECISIONS)
    assert {"fp32", "fp16"} <= set(peaks.tflops)
    assert 5 < peaks.tflops["fp32"] < 200
    assert 5 < 1000 * peaks.tflops["fp16"] / peaks.gb_per_s < 600  # FLOPs per byte


def test_no_entry_stands_twice():
    devices = [peaks.device for peaks in all_peaks()]
    assert len(devices) == len(set(devices))
