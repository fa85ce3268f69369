"""The benchmarks' figures as lines to read, each against its bar."""

from __future__ import annotations

from typing import Any

import pairs

# The bars of the project: at most so much added
STEP_US, STEP_SHARE_10_MS = 30.0, 0.01
FIRST_S, LAST_S, MEMORY_MIB, RECORD_MIB = 0.3, 2.0, 60.0, 64.0


def _met(value: float, bar: float) -> str:
    return "met" if value <= bar else "MISSED"


def _read(value: Any) -> pairs.Estimate:
    return value if isinstance(value, pairs.Estimate) else pairs.Estimate(**value)


def always_on(result: dict[str, Any]) -> str:
    added, ratio = _read(result["added_us"]), _read(result["ratio"])
    line = (
        f"{result['case']:22} bare {result['bare_us']:9.1f} us  always-on adds {added} us, "
        f"ratio {ratio}; "
        f"{STEP_US:.0f} us {_met(added.median, STEP_US)}"
    )
    if "added_cpu_us" in result:
        line += f"; CPU time adds {_read(result['added_cpu_us'])} us"
    if result["step_ms"] >= 10:
        line += f"; 1 % {_met(ratio.median - 1, STEP_SHARE_10_MS)}"
    return line


def processes(result: dict[str, Any]) -> str:
    rounds = result["rounds"]["bare"]
    lines = [f"{result['case']}: bare {_middle(rounds) / 1e3:.2f} ms a step, {len(rounds)} rounds"]
    for name, tool in result["tools"].items():
        estimates = {key: _read(value) for key, value in tool.items() if value is not None}
        line = (
            f"  {name:22} ratio {estimates['ratio']}  added {estimates['added_us']} us  "
            f"first {estimates['before_first_s'].median:+.2f} s  "
            f"last {estimates['after_last_s'].median:+.2f} s  "
            f"memory {estimates['peak_mib'].median:+.0f} MiB"
        )
        if "window_ms" in estimates:
            first = estimates["first_window_ms"].median
            line += f"  window {estimates['window_ms'].median:.0f} ms (first {first:.0f})"
        lines.append(line)
    return "\n".join(lines)


def instructions(result: dict[str, Any]) -> str:
    bare = [one.instructions for one in result["rounds"]["bare"] if one.instructions is not None]
    lines = [f"{result['case']}: bare {sum(bare) / max(len(bare), 1):,.0f} instructions a step"]
    for name, tool in result["tools"].items():
        for what, key in (("", "added_instructions"), (", own", "added_own_instructions")):
            added = tool[key]
            if added is not None:
                around = f"[{added.low:,.0f}..{added.high:,.0f}]"
                lines.append(f"  {name + what:28} adds {added.median:,.0f} {around}")
    return "\n".join(lines)


def _middle(rounds: list[Any]) -> float:
    return sorted(r.median_us for r in rounds)[len(rounds) // 2]


def record(result: dict[str, Any]) -> str:
    size = result["bytes"] / 2**20
    met = _met(size, RECORD_MIB)
    return f"record of {result['steps']:,} steps: {size:.1f} MiB; {RECORD_MIB:.0f} MiB {met}"
