"""What a device can do at best, by the name that it gives itself, as its vendor publishes it.

Dense throughput, without the doubling for structured sparsity that datasheets like to show
first, at the boost clock. `fp32` is that of plain cores (on AMD's Instinct of its matrix cores,
which rocBLAS and MIOpen use for it), the others that of tensor or matrix cores where there are
any; GeForce cards halve their rate where sums are kept in fp32, as PyTorch has them, and that
half stands here. One PyTorch device of an MI250 or MI250X is one of the card's two dies, and
has half of the card's figures.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

# Of the roof of its precision. Large products reach 0.5 to 0.9 of it; one that reaches less than
# this waits for memory or has too little work to fill the device, and faster arithmetic units
# would not help it.
REACHED = 0.3
PRECISIONS = ("fp8", "bf16", "fp16", "tf32", "fp32")  # fastest first


@dataclass(frozen=True, slots=True, kw_only=True)
class DevicePeaks:
    """One device's roofs; a precision that it has no units for is not listed."""

    device: str
    tflops: dict[str, float]  # TFLOP/s by PRECISIONS
    gb_per_s: float  # of its memory
    source: str


def device_peaks(name: str | None) -> DevicePeaks | None:
    """Return the roofs of the device of this name, None where it is not known."""
    plain = " ".join((name or "").split())
    if _LESS.search(plain):
        return None
    return next((peaks for pattern, peaks in _KNOWN if pattern.search(plain)), None)


def all_peaks() -> list[DevicePeaks]:
    return [peaks for _, peaks in _KNOWN]


# Device; then fp32, tf32, fp16, bf16, fp8 in TFLOP/s (0: has none), GB/s; pattern of its names;
# where this is published
_TABLE = """
V100 SXM2           | 15.7 0 125 0 0            | 900  | V100.SXM2
V100S PCIe          | 16.4 0 130 0 0            | 1134 | V100S
V100 PCIe           | 14 0 112 0 0              | 900  | V100.PCIE
= NVIDIA V100 Tensor Core GPU datasheet (2020)
V100 DGX Station    | 15.7 0 125 0 0            | 900  | V100.DGXS
= NVIDIA DGX Station datasheet (2018), a quarter of its 500 TFLOP/s; fp32 as of the V100 SXM2
P100 SXM2           | 10.6 0 21.2 0 0           | 732  | P100.SXM2
P100 PCIe 16GB      | 9.3 0 18.7 0 0            | 732  | P100.PCIE-16GB
= NVIDIA Tesla P100 datasheet (2016)
T4                  | 8.1 0 65 0 0              | 320  | (Tesla|NVIDIA) T4$
= NVIDIA T4 datasheet (2019)
Quadro RTX 6000     | 16.3 0 130.5 0 0          | 672  | Quadro RTX (6000|8000)
RTX 2080 Ti         | 13.4 0 53.8 0 0           | 616  | RTX 2080 Ti
= NVIDIA Turing GPU Architecture whitepaper (2018), reference cards
A100 80GB SXM       | 19.5 156 312 312 0        | 2039 | A[18]00.SXM.*80GB
A100 80GB PCIe      | 19.5 156 312 312 0        | 1935 | A[18]00.*(80GB.*PCIe|PCIe.*80GB)
A100 40GB           | 19.5 156 312 312 0        | 1555 | A100.(SXM|PCIE|PG509)
A30                 | 10.3 82 165 165 0         | 933  | A30$
A40                 | 37.4 74.8 149.7 149.7 0   | 696  | A40$
A10                 | 31.2 62.5 125 125 0       | 600  | A10$
= NVIDIA A100, A30, A40 and A10 Tensor Core GPU datasheets (2021)
RTX A6000           | 38.7 77.4 154.8 154.8 0   | 768  | RTX A6000
RTX 3090 Ti         | 40 40 80 80 0             | 1008 | RTX 3090 Ti
RTX 3090            | 35.6 35.6 71 71 0         | 936  | RTX 3090
RTX 3080            | 29.8 29.8 59.5 59.5 0     | 760  | RTX 3080$
RTX 3070            | 20.3 20.3 40.6 40.6 0     | 448  | RTX 3070$
= NVIDIA Ampere GA102 GPU Architecture whitepaper (2021)
L40S                | 91.6 183 362 362 733      | 864  | L40S
L40                 | 90.5 90.5 181 181 362     | 864  | L40$
L4                  | 30.3 60 121 121 242       | 300  | L4$
= NVIDIA L40S, L40 and L4 Tensor Core GPU datasheets (2023)
RTX 6000 Ada        | 91.1 182.1 364.2 364.2 728.5 | 960 | RTX 6000 Ada
= NVIDIA RTX 6000 Ada Generation datasheet (2023)
RTX 4090            | 82.6 82.6 165.2 165.2 330.3 | 1008 | RTX 4090$
RTX 4080            | 48.7 48.7 97.5 97.5 194.9 | 717  | RTX 4080$
RTX 4070 Ti         | 40.1 40.1 80.2 80.2 160.4 | 504  | RTX 4070 Ti$
= NVIDIA Ada GPU Architecture whitepaper (2023)
H100 PCIe           | 51 378 756 756 1513       | 2039 | H100.PCIe
H100 NVL            | 60 417.5 835.5 835.5 1670.5 | 3938 | H100.NVL
H100 SXM            | 67 494.7 989.4 989.4 1978.9 | 3352 | H100.(80GB.HBM3|SXM)
= NVIDIA H100 Tensor Core GPU datasheet (2023)
H200 NVL            | 60 417.5 835.5 835.5 1670.5 | 4800 | H200.NVL
H200 SXM            | 67 494.7 989.4 989.4 1978.9 | 4800 | H200
= NVIDIA H200 Tensor Core GPU datasheet (2024)
GH200 144GB         | 67 494.7 989.4 989.4 1978.9 | 4900 | GH200 144G
GH200 96GB          | 67 494.7 989.4 989.4 1978.9 | 4000 | GH200 (480GB|120GB)
= NVIDIA GH200 Grace Hopper Superchip datasheet (2024)
B200 SXM            | 75 1125 2250 2250 4500    | 7700 | (^|[^G])B200
= NVIDIA HGX B200 specifications (2025), an eighth of the board
RTX 5090            | 104.8 104.8 209.5 209.5 419 | 1792 | RTX 5090$
= NVIDIA RTX Blackwell GPU Architecture whitepaper (2025)
MI100               | 46.1 0 184.6 92.3 0       | 1229 | MI100
= AMD Instinct MI100 brochure (2020)
MI210               | 45.3 0 181 181 0          | 1638 | MI210
MI250X, one die     | 47.9 0 191.5 191.5 0      | 1638 | MI250X
MI250, one die      | 45.3 0 181 181 0          | 1638 | MI250
= AMD Instinct MI200 Series datasheet (2022)
MI300A              | 122.6 490.3 980.6 980.6 1961.2 | 5300 | MI300A
MI300X              | 163.4 653.7 1307.4 1307.4 2614.9 | 5325 | MI300X
MI325X              | 163.4 653.7 1307.4 1307.4 2614.9 | 6000 | MI325X
= AMD Instinct MI300A, MI300X and MI325X Accelerator datasheets (2023, 2024)
MI350X              | 144.2 0 2306.9 2306.9 4613.7 | 8000 | MI350X
MI355X              | 157.3 0 2516.6 2516.6 5033.2 | 8000 | MI355X
= AMD Instinct MI350X and MI355X GPU datasheets (2025)
"""
_LESS = re.compile(r"\bMIG\b|Laptop|Max-Q")  # a slice of a device, or a slower namesake
_COLUMNS = ("fp32", "tf32", "fp16", "bf16", "fp8")


def _read(table: str) -> list[tuple[re.Pattern[str], DevicePeaks]]:
    """Read the table; the source of a group of lines stands below it."""
    known, group = [], []
    for line in table.strip().splitlines():
        if not line.startswith("= "):
            group.append([cell.strip() for cell in line.split("|", 3)])
            continue
        for device, rates, bandwidth, pattern in group:
            each = zip(_COLUMNS, map(float, rates.split()), strict=True)
            peaks = DevicePeaks(
                device=device,
                tflops={name: rate for name, rate in each if rate},
                gb_per_s=float(bandwidth),
                source=line[2:],
            )
            known.append((re.compile(rf"\b{pattern}" if pattern[0] != "(" else pattern), peaks))
        group = []
    return known


_KNOWN = _read(_TABLE)
