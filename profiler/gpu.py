"""What this node's GPUs are doing, asked of NVIDIA's driver; without one: none, and no noise.

Every question may be unsupported on some card (MIG slices, vGPUs, consumer cards), so each fails
alone. API: docs.nvidia.com/deploy/nvml-api.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from speedprof.profiler.run import GpuSample

KB = 1024  # nvmlDeviceGetPcieThroughput answers in KB/s
# reasons worth naming: those that slow a busy GPU down (nvmlClocksEventReasons)
THROTTLES = {
    0x0000000000000004: "power cap",
    0x0000000000000008: "hardware slowdown",
    0x0000000000000010: "slowed with its sync group",
    0x0000000000000020: "software thermal limit",
    0x0000000000000040: "hardware thermal limit",
    0x0000000000000080: "power brake",
    0x0000000000000002: "clocks set by an application",
}


class Gpus:
    """The GPUs that the run may use; `names` is empty where there are none or no driver."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self._handles: list[tuple[int, Any]] = []
        self._turn = 0
        try:
            import pynvml
        except ImportError:
            return
        self._nvml: Any = pynvml
        try:
            pynvml.nvmlInit()
            self._handles = self._visible(os.environ.get("CUDA_VISIBLE_DEVICES"))
        except pynvml.NVMLError:
            return  # no driver
        self.names = [self._name(handle) for _, handle in self._handles]

    def close(self) -> None:
        if self._handles:
            self._ask(self._nvml.nvmlShutdown)
            self._handles = []

    def sample(self) -> list[GpuSample]:
        """Look at each GPU once; at PCIe counters, which take 20 ms each, of one GPU in turn."""
        self._turn += 1
        chosen = self._turn % len(self._handles) if self._handles else 0
        return [
            self._look(index, handle, traffic=place == chosen)
            for place, (index, handle) in enumerate(self._handles)
        ]

    def _visible(self, listed: str | None) -> list[tuple[int, Any]]:
        nvml = self._nvml
        handles = [
            self._ask(nvml.nvmlDeviceGetHandleByIndex, i) for i in range(nvml.nvmlDeviceGetCount())
        ]
        everything = [(i, handle) for i, handle in enumerate(handles) if handle is not None]
        if listed is None:
            return everything
        wanted = [name.strip() for name in listed.split(",") if name.strip()]
        if any(not (name.lstrip("-").isdigit() or name.startswith("GPU-")) for name in wanted):
            return everything  # MIG slices and the like: their utilisation is not told apart
        return [
            (index, handle)
            for index, handle in everything
            if str(index) in wanted or self._identifier(handle).startswith(_prefixes(wanted))
        ]

    def _identifier(self, handle: Any) -> str:
        return _text(self._ask(self._nvml.nvmlDeviceGetUUID, handle) or "")

    def _name(self, handle: Any) -> str:
        return _text(self._ask(self._nvml.nvmlDeviceGetName, handle) or "NVIDIA GPU")

    def _look(self, index: int, handle: Any, *, traffic: bool) -> GpuSample:
        nvml, ask = self._nvml, self._ask
        rates = ask(nvml.nvmlDeviceGetUtilizationRates, handle)
        memory = ask(nvml.nvmlDeviceGetMemoryInfo, handle)
        milliwatts = ask(nvml.nvmlDeviceGetPowerUsage, handle)
        return GpuSample(
            index=index,
            utilisation=None if rates is None else rates.gpu / 100,
            memory_bytes=None if memory is None else memory.used,
            pcie_received_bytes_per_s=self._traffic(handle, nvml.NVML_PCIE_UTIL_RX_BYTES, traffic),
            pcie_sent_bytes_per_s=self._traffic(handle, nvml.NVML_PCIE_UTIL_TX_BYTES, traffic),
            sm_mhz=ask(nvml.nvmlDeviceGetClockInfo, handle, nvml.NVML_CLOCK_SM),
            max_sm_mhz=ask(nvml.nvmlDeviceGetMaxClockInfo, handle, nvml.NVML_CLOCK_SM),
            power_w=None if milliwatts is None else milliwatts / 1000,
            throttled=throttle(ask(nvml.nvmlDeviceGetCurrentClocksThrottleReasons, handle)),
        )

    def _traffic(self, handle: Any, direction: int, wanted: bool) -> float | None:
        if not wanted:
            return None
        kilobytes = self._ask(self._nvml.nvmlDeviceGetPcieThroughput, handle, direction)
        return None if kilobytes is None else float(kilobytes * KB)

    def _ask(self, question: Callable[..., Any], *arguments: Any) -> Any:
        """Return the driver's answer, None where it has none."""
        try:
            return question(*arguments)
        except self._nvml.NVMLError:
            return None


def throttle(reasons: int | None) -> str | None:
    """Name what slows a GPU down, None where nothing does or the driver does not tell."""
    named = [name for bit, name in THROTTLES.items() if reasons and reasons & bit]
    return ", ".join(named) or None


def _prefixes(wanted: list[str]) -> tuple[str, ...]:
    return tuple(name for name in wanted if name.startswith("GPU-"))


def _text(answer: str | bytes) -> str:
    """Return a name as text; older bindings answer in bytes."""
    return answer.decode("utf-8", "replace") if isinstance(answer, bytes) else answer
