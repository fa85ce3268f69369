"""Every check that needs a GPU, in one command of less than ten minutes and one file of results.

    python benchmarks/gpu.py --out benchmarks/results

Each check starts `benchmarks/gpu_training.py`, bare or under `speedprof run`, and compares what
the script measured of itself (its clock, CUDA events) with what the record and the report say. A
check that fails says how and the next one goes on. Without a GPU there is nothing to do.

Not yet run on a GPU.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gpu_training
import pairs
import records
import tools

DEADLINE_S, CHECK_S = 560.0, 100.0  # of all checks, of one command
CLOCKS_AGREE = 0.02  # CUDA events against the profiler's device times
TOLERANCE, TOLERANCE_MS = 0.02, 0.3  # of a stall, as in truth.py
ALWAYS_ON_US = 60.0  # with CUDA events; the bar without a GPU is 30
STALL_MS = 20.0
ROOFS_S = 90.0
OF_PUBLISHED = (0.4, 1.05)  # of a vendor's figure, what matrix products and copies come to
NO_GPU = "no CUDA device is in use here: run this on a machine where torch.cuda.is_available()"

Check = Callable[["Bench"], dict[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Ran:
    """One way of training, under speedprof: its own truth, its run, its record's rows."""

    truth: dict[str, Any]
    run: Any
    rows: list[tuple[int, ...]]
    folder: Path


class Bench:
    """Runs commands within the time that is left."""

    def __init__(self, folder: Path, device: str = "cuda") -> None:
        self.folder, self.device = folder, device
        self._began, self._runs = time.monotonic(), 0

    def left_s(self) -> float:
        return DEADLINE_S - (time.monotonic() - self._began)

    def under(self, way: str, *options: str, ms: float = 0.0, steps: int = 120) -> Ran:
        """Train one way under `speedprof run`; raises CommandError where that fails."""
        place = self._place()
        ours = [sys.executable, "-m", "speedprof", "run", "--quiet", "--out", str(place), *options]
        self._start([*ours, "--", *self._training(way, place, ms, steps)], place)
        from speedprof.profiler import attribution

        (folder,) = {path.parent for path in place.glob("*/run.json")}
        (record,) = folder.glob("rank-*.rec")
        return Ran(
            truth=json.loads((place / "truth.json").read_text()),
            run=attribution.load(folder),
            rows=records.rows(record),
            folder=folder,
        )

    def bare(self, way: str, *, ms: float = 0.0, steps: int = 120) -> dict[str, Any]:
        """Train one way by itself; return its truth."""
        place = self._place()
        self._start(self._training(way, place, ms, steps), place)
        truth: dict[str, Any] = json.loads((place / "truth.json").read_text())
        return truth

    def _place(self) -> Path:
        self._runs += 1
        return self.folder / str(self._runs)

    def _training(self, way: str, place: Path, ms: float, steps: int) -> list[str]:
        script = [sys.executable, str(tools.HERE / "gpu_training.py"), "--way", way]
        script += ["--ms", str(ms), "--steps", str(steps), "--device", self.device]
        return [*script, "--truth", str(place / "truth.json")]

    def _start(self, command: list[str], place: Path) -> None:
        limit = min(CHECK_S, self.left_s())
        if limit <= 0:
            raise tools.CommandError("no time was left for this check")
        tools.run(command, place, timeout_s=limit)


def device_clock(bench: Bench) -> dict[str, Any]:
    """Compare CUDA events at step boundaries with the profiler's device times, step by step."""
    ran = bench.under("plain", steps=160)
    exact = _device_steps(ran.folder)
    events = _device_walls(ran.rows)
    both = [(exact[start], events[start]) for start in exact if events.get(start, -1) > 0]
    if not both:
        return {"right": False, "why": "no traced step has both clocks", "windows": len(exact)}
    errors = [event / window - 1 for window, event in both]
    middle = statistics.median(abs(error) for error in errors)
    measured = sum(wall > 0 for wall in events.values())
    return {
        "right": middle <= CLOCKS_AGREE, "steps": len(both), "median_error": middle,
        "largest_error": max(errors, key=abs), "steps_with_device_time": measured / len(events),
    }  # fmt: skip


def _device_steps(folder: Path) -> dict[int, int]:
    """Return each traced step's length on the device (ns), by the host time of its start."""
    steps: dict[int, int] = {}
    for path in sorted(folder.glob("window-*.json")):
        window = json.loads(path.read_text())
        crossed = window["boundaries"]
        spans = [end - begin for begin, end in itertools.pairwise(crossed)]
        steps.update(zip(window["starts"], spans, strict=True))
    return steps


def _device_walls(rows: list[tuple[int, ...]]) -> dict[int, int]:
    from speedprof.profiler.record import COLUMN

    return {row[COLUMN["start"]]: row[COLUMN["device_wall"]] for row in rows}


def copies(bench: Bench) -> dict[str, Any]:
    """Compare the copies that the report saw with CUDA events around them, pageable and pinned."""
    result: dict[str, Any] = {}
    for way in ("pageable", "pinned"):
        ran = bench.under(way)
        ms = statistics.median(ran.truth["special_ms"])
        seen = ran.run.copies
        result[way] = {
            "ms": ms,
            "gb_per_s": gpu_training.COPIED / ms / 1e6,
            "report": _fields(seen),
        }
        result[way]["phase_ms"] = {name: p.ms for name, p in (ran.run.phases or {}).items()}
    pageable, pinned = (result[way]["report"] or {} for way in ("pageable", "pinned"))
    result["right"] = (
        (pageable.get("pageable_ms") or 0) > 0
        and (pageable.get("blocking_ms") or 0) > 0
        and (pinned.get("pinned_ms") or 0) > 0
        and result["pinned"]["gb_per_s"] > result["pageable"]["gb_per_s"]
    )
    return result


def _fields(value: Any) -> dict[str, Any] | None:
    import msgspec

    return None if value is None else dict(msgspec.to_builtins(value))


def sync_calls(bench: Bench) -> dict[str, Any]:
    """Look for the one line that synchronises in every step."""
    ran = bench.under("item")
    line = f"gpu_training.py:{gpu_training.waiting_line()}"
    found = [call for call in ran.run.sync_calls if call.where.endswith(line)]
    calls = sum(call.calls_per_step for call in found)
    return {
        "right": 0.95 <= calls <= 1.05,
        "calls_per_step": calls,
        "seen": [_fields(call) for call in ran.run.sync_calls[:5]],
    }


def launch_bound(bench: Bench) -> dict[str, Any]:
    """Look for `host: launch` where kernels are shorter than their launch."""
    ran = bench.under("launch", steps=300)
    return {**_verdict(ran.run), "right": _verdict(ran.run)["cause"] == "launch"}


def _verdict(run: Any) -> dict[str, Any]:
    from speedprof.advisor.judgement import judge

    finding = judge(run).verdict.finding
    return {
        "phase": None if finding is None else finding.phase,
        "cause": None if finding is None else finding.cause,
        "phases": {name: phase.share for name, phase in (run.phases or {}).items()},
    }


def attribution(bench: Bench) -> dict[str, Any]:
    """Inject a stall into each phase and look for it there, and nowhere else."""
    base = bench.under("plain")
    result: dict[str, Any] = {"right": True}
    for way, phase in (
        ("loader-sleep", "data_loading"), ("host-sleep", "host"), ("compute-burn", "compute"),
    ):  # fmt: skip
        ran = bench.under(way, ms=STALL_MS)
        injected = _injected(way, ran.truth)
        moved = {n: ran.run.phases[n].ms - base.run.phases[n].ms for n in base.run.phases}
        bar = max(TOLERANCE * injected, TOLERANCE_MS)
        others = max(abs(ms) for name, ms in moved.items() if name != phase)
        right = abs(moved[phase] - injected) <= bar and others <= bar
        result[way] = {"injected_ms": injected, "moved_ms": moved, "bar_ms": bar, "right": right}
        result["right"] = result["right"] and right
    return result


def _injected(way: str, truth: dict[str, Any]) -> float:
    return statistics.fmean(truth["special_ms"]) if way == "compute-burn" else STALL_MS


def overhead(bench: Bench) -> dict[str, Any]:
    """Measure the always-on probes with CUDA events, in blocks with and without them."""
    import always_on

    result: dict[str, Any] = {"right": True}
    for step_ms in (0.5, 10):
        one = always_on.measure(step_ms, workers=0, count=20, device=bench.device)
        result[f"{step_ms:g} ms"] = one
        result["right"] = result["right"] and one["added_us"].median <= ALWAYS_ON_US
    return result


def windows(bench: Bench) -> dict[str, Any]:
    """Measure what a window costs the steps around it; the first one starts CUPTI."""
    ran = bench.under("plain", steps=300)
    stretches = records.stretches(ran.rows)
    spans = list(itertools.pairwise(ran.truth["ends"]))
    plain = [
        step[1] - step[0]
        for step in spans[20:]
        if not any(records.inside(step, stretch) for stretch in stretches)
    ]
    middle = statistics.median(plain)
    costs = [records.cost_ms(spans, stretch, middle) for stretch in stretches]
    return {
        "right": bool(costs), "step_ms": middle / 1e6, "first_ms": costs[0] if costs else None,
        "later_ms": statistics.median(costs[1:]) if costs[1:] else None, "count": len(costs),
    }  # fmt: skip


def compiled(bench: Bench) -> dict[str, Any]:
    """Compare the graphs and the step of a compiled model, bare and measured."""
    bare, ran = bench.bare("compile"), bench.under("compile")
    return {
        "right": bare["graphs"] == ran.truth["graphs"],
        "graphs": [bare["graphs"], ran.truth["graphs"]],
        "step_ms": [_middle_ms(bare["ends"]), _middle_ms(ran.truth["ends"])],
    }


def _middle_ms(ends: list[int]) -> float:
    return statistics.median(b - a for a, b in itertools.pairwise(ends)) / 1e6


def bf16(bench: Bench) -> dict[str, Any]:
    """Look at a bfloat16 run: matrix products dominate, and the report can tell what bounds it."""
    ran = bench.under("bf16")
    compute = ran.run.compute
    kinds = {} if compute is None else dict(compute.kinds)
    return {"right": "matmul" in kinds, "kinds": kinds, "bound": getattr(compute, "bound", None)}


def dali(bench: Bench) -> dict[str, Any]:
    """Decode JPEG files on the GPU where DALI is installed."""
    try:
        from nvidia.dali import fn, pipeline_def, types
    except ImportError as missing:
        return {"right": None, "why": f"DALI is not installed here ({missing})"}
    files = _pictures(bench.folder / "pictures")

    @pipeline_def(batch_size=32, num_threads=4, device_id=0)  # type: ignore[untyped-decorator]
    def decoding() -> Any:
        encoded, _ = fn.readers.file(file_root=str(files), random_shuffle=False)
        return fn.decoders.image(encoded, device="mixed", output_type=types.RGB)

    pipeline = decoding()
    pipeline.build()
    pipeline.run()  # warm-up
    began, batches = time.perf_counter(), 10
    for _ in range(batches):
        pipeline.run()
    return {"right": True, "images_per_s": 32 * batches / (time.perf_counter() - began)}


def _pictures(folder: Path) -> Path:
    import numpy as np
    from PIL import Image

    (folder / "one").mkdir(parents=True)
    random = np.random.default_rng(0)
    for number in range(64):
        coarse = Image.fromarray(random.integers(0, 255, (60, 80, 3), dtype=np.uint8))
        coarse.resize((800, 600)).save(folder / "one" / f"{number}.jpg", quality=92)
    return folder


def roofs(bench: Bench) -> dict[str, Any]:
    """Measure this machine's roofs; hold the GPU's against what its vendor publishes."""
    import msgspec

    from speedprof.profiler.device_peaks import device_peaks
    from speedprof.profiler.errors import SpeedprofError
    from speedprof.profiler.roofs import machine, process
    from speedprof.profiler.roofs.order import PARTS

    wish = process.Wish(
        python=sys.executable, machine=machine.this_machine(), parts=tuple(PARTS),
        storage=bench.folder,
    )  # fmt: skip
    began = time.monotonic()
    try:
        found = process.measure(wish, lambda _part: None)
    except SpeedprofError as error:
        return {"right": False, "why": str(error)}
    taken = time.monotonic() - began
    published = device_peaks(found.gpu.name if found.gpu is not None else None)
    wrong = _beyond(found, published) if found.gpu is not None else ["no GPU was measured"]
    if taken > ROOFS_S:
        wrong.append(f"it took {taken:.0f} s")
    return {
        "right": not wrong, "why": "; ".join(wrong), "took_s": round(taken, 1),
        "published": published.device if published is not None else None,
        "roofs": msgspec.to_builtins(found),
    }  # fmt: skip


def _beyond(found: Any, published: Any) -> list[str]:
    """Return which roofs no such GPU can have, or an idle one exceeds by far."""
    gpu, transfers = found.gpu, found.transfers
    if transfers is None or gpu.operators_per_s is None or gpu.memory_gb_per_s is None:
        return [f"parts are missing: {found.absent}"]
    wrong = []
    if transfers.pinned_gb_per_s.best < transfers.pageable_gb_per_s.best:
        wrong.append("pageable copies are faster than pinned ones")
    if published is None:
        return wrong
    rates = {name: (level.best, published.tflops.get(name))
             for name, level in gpu.matmul_tflops.items()}  # fmt: skip
    rates["memory"] = (gpu.memory_gb_per_s.best, published.gb_per_s)
    low, high = OF_PUBLISHED
    return wrong + [
        f"{name}: {seen:.4g} where {known:.4g} are published"
        for name, (seen, known) in rates.items()
        if known is not None and not low <= seen / known <= high
    ]


CHECKS: tuple[Check, ...] = (
    device_clock, windows, attribution, copies, sync_calls, launch_bound, overhead, compiled, bf16,
    dali, roofs,
)  # fmt: skip


def check_all(bench: Bench, checks: tuple[Check, ...] = CHECKS) -> dict[str, dict[str, Any]]:
    """Run one check after the other; one whose command fails says so, and the next goes on."""
    results: dict[str, dict[str, Any]] = {}
    for check in checks:
        began = time.monotonic()
        try:
            result = check(bench)
        except (tools.CommandError, subprocess.TimeoutExpired) as failure:
            result = {"right": False, "why": str(failure)}
        results[check.__name__] = {**result, "seconds": round(time.monotonic() - began, 1)}
        print(f"{check.__name__:14} {_word(result['right'])}  {result.get('why', '')}", flush=True)
    return results


def _word(right: bool | None) -> str:
    return "not run" if right is None else "right" if right else "WRONG"


def main() -> None:
    parser = argparse.ArgumentParser(description="Check everything that needs a GPU.")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    import torch

    if not torch.cuda.is_available():
        raise SystemExit(NO_GPU)
    with tempfile.TemporaryDirectory(prefix="speedprof-gpu-") as folder:
        results = check_all(Bench(Path(folder)))
    pairs.write(options.out, "gpu", {"checks": results})


if __name__ == "__main__":
    main()
