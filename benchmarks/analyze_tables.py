"""What was measured of `speedprof analyze` as lines to read, each figure beside its bar."""

from __future__ import annotations

from typing import Any

# The bars of the project
WALL_S, PEAK_MIB, TIMES_FASTER, PEAK_OF_2_GB_MIB = 1.5, 250.0, 4.0, 1536.0
RATIOS = {
    "ratio_of_commands": "whole commands, both with their imports",
    "ratio_without_imports": "the work alone, both without their imports",
    "ratio_command_to_hta_without_imports": "our whole command, HTA without its imports",
}


def _met(value: float, bar: float) -> str:
    return "met" if value <= bar else "MISSED"


def paired_lines(result: dict[str, Any]) -> str:
    """Return both tools' figures, ours against their bars."""
    wall, peak = result["wall_s"].median, result["peak_mib"]
    bars = f"{WALL_S} s {_met(wall, WALL_S)}, {PEAK_MIB:.0f} MiB {_met(peak, PEAK_MIB)}"
    lines = [
        f"{result['trace']}, {result['wall_s'].rounds} interleaved pairs",
        f"  speedprof analyze  {result['wall_s']} s  {peak:.0f} MiB; {bars}",
        f"  {result['hta']}  {result['hta_wall_s']} s  {result['hta_peak_mib']:.0f} MiB",
        f"  without imports: {result['work_s']} s, HTA {result['hta_work_s']} s",
    ]
    for name, text in RATIOS.items():
        ratio = result[name]
        met = _met(TIMES_FASTER, ratio.median)
        lines.append(f"  {text}: {ratio} times faster; {TIMES_FASTER:.0f} {met}")
    return "\n".join(lines)


def size_line(result: dict[str, Any]) -> str:
    """Return what one size took."""
    took, peak = result["took"], result["took"].peak_mib
    return (
        f"{result['bytes'] / 1e6:7.0f} MB  {result['events']:10,} events  {took.wall_s:6.2f} s  "
        f"CPU {took.cpu_s:.2f} s  {result['seconds_per_million']:.2f} s a million events  "
        f"{peak:5.0f} MiB; {PEAK_OF_2_GB_MIB:.0f} MiB {_met(peak, PEAK_OF_2_GB_MIB)}"
    )


def ranks_line(result: dict[str, Any]) -> str:
    """Return what a folder of ranks took."""
    took = result["took"]
    child = "no child" if took.child_mib is None else f"largest child {took.child_mib:.0f} MiB"
    return (
        f"{result['ranks']:5} ranks  {result['events']:9,} events  {took.wall_s:6.2f} s  "
        f"CPU {took.cpu_s:.2f} s  {took.own_mib:.0f} MiB, {child}"
    )
