"""What speedprof costs a training, and what its nearest peer does.

    python benchmarks/overhead.py --out benchmarks/results          # an hour and a quarter
    python benchmarks/overhead.py --out /tmp/results --quick        # five minutes, wide intervals

Four parts, each a file in `--out`: `always_on` (the probes within one process, see
always_on.py), `processes` (whole commands, bare and under each tool: step time, start, end,
memory, windows), `instructions` (what the processor executes for a step, bare and under each tool;
hardly moved by what runs beside it), `record` (a million steps, simulated).
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import controlled
import counters
import pairs
import tables
import tools

EXAMPLES = Path(__file__).parent.parent / "examples"
ALWAYS_ON = {0.2: 120, 1: 80, 10: 40, 100: 16}  # step in ms -> pairs of blocks
WORKERS = (0, 2)
TOGGLED_STEPS = 10  # on, then off, in an example
STEPS = {
    1: 10_000,
    10: 400,
    100: 90,
}  # of a whole process; 10,000 are what the bar for the end asks for
COUNTED = 3  # rounds: instructions are the same from start to start to a few parts in 100,000
SHORT = 0.3  # of the usual steps
PARTS = ("always_on", "processes", "instructions", "record")
TOOLS = ("bare", "speedprof, no windows", "speedprof", "peer", "peer, marked")


Show = Callable[[dict[str, Any]], str]


@dataclass(frozen=True)
class Plan:
    """How much of everything."""

    rounds: int
    share: float  # of the steps and pairs
    only: str | None  # cases whose name contains this
    tools: tuple[str, ...] = TOOLS  # that whole commands are compared under


def controlled_cases(plan: Plan) -> list[tools.Script]:
    """Return steps of known length; calibrated once, so that every tool gets the same work."""
    cases = []
    for step_ms, steps in STEPS.items():
        size = controlled.calibrate(step_ms)
        for workers in WORKERS:
            arguments = ("--rows", str(size.rows), "--width", str(size.width))
            cases.append(
                tools.Script(
                    name=f"{step_ms} ms, {workers} workers",
                    path=Path(controlled.__file__),
                    arguments=(
                        *arguments,
                        "--workers",
                        str(workers),
                        "--steps",
                        str(_scaled(steps, plan, least=60)),
                    ),
                )
            )
    return cases


def example_cases(plan: Plan, data: Path, *, longer: int = 1) -> list[tools.Script]:
    """Return the examples as their users start them, `longer` times as long as one pair needs."""
    images = ("--data", str(data), "--files", "360", "--epochs", "100")
    images = (*images, "--steps", str(_scaled(110 * longer, plan, least=60)))
    steps = ("--steps", str(_scaled(160 * longer, plan, least=60)))
    script = tools.Script
    return [
        *(
            script(
                name=f"imagefolder, {workers} workers",
                path=EXAMPLES / "imagefolder.py",
                arguments=(*images, "--workers", str(workers)),
            )
            for workers in WORKERS
        ),
        script(name="charlm", path=EXAMPLES / "charlm.py", arguments=steps),
        script(name="ddp", path=EXAMPLES / "ddp.py", arguments=steps, ranks=2),
    ]


def _scaled(steps: int, plan: Plan, *, least: int) -> int:
    return max(least, round(steps * plan.share))


def always_on(plan: Plan) -> list[dict[str, Any]]:
    """Measure the probes within one process, each case in a process of its own."""
    results = []
    for step_ms, count in ALWAYS_ON.items():
        for workers in WORKERS:
            name = f"{step_ms:g} ms, {workers} workers"
            if plan.only and plan.only not in name:
                continue
            command = [
                sys.executable, str(tools.HERE / "always_on.py"), "--step-ms", str(step_ms),
                "--workers", str(workers), "--pairs", str(_scaled(count, plan, least=4)),
            ]  # fmt: skip
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            results.append({"case": name, **json.loads(done.stdout)})
            print(tables.always_on(results[-1]), flush=True)
    return results


def toggled(plan: Plan, folder: Path) -> list[dict[str, Any]]:
    """Measure the always-on probes within one run of each example.

    Installed and removed every few steps.
    """
    results = []
    for script in example_cases(plan, folder / "images", longer=4):
        if plan.only and plan.only not in script.name:
            continue
        ends, on = tools.toggle(script, folder / "toggled" / script.name, every=TOGGLED_STEPS)
        results.append({"case": script.name, **_neighbours(ends, on)})
        print(tables.always_on(results[-1]), flush=True)
    return results


def _neighbours(ends: list[int], on: list[bool]) -> dict[str, Any]:
    """Compare each stretch with probes to the one without them before it."""
    spans = list(zip(controlled.durations(ends), on[1:], strict=True))[TOGGLED_STEPS - 1 :]
    stretches = [spans[i + 1 : i + TOGGLED_STEPS] for i in range(0, len(spans), TOGGLED_STEPS)]
    whole = [stretch for stretch in stretches if len(stretch) == TOGGLED_STEPS - 1]
    middles = [statistics.median(span for span, _ in stretch) / 1e3 for stretch in whole]
    first = 0 if whole[0][0][1] else 1
    both = list(zip(middles[first + 1 :: 2], middles[first::2], strict=False))
    bare_us = statistics.median(bare for bare, _ in both)
    return {
        "step_ms": bare_us / 1e3,
        "bare_us": bare_us,
        "added_us": pairs.estimate([probed - bare for bare, probed in both]),
        "ratio": pairs.estimate([probed / bare for bare, probed in both]),
    }


def processes(
    plan: Plan, folder: Path, peer: Path | None, show: Show = tables.processes
) -> dict[str, Any]:
    """Measure whole commands, interleaved."""
    names = [name for name in plan.tools if peer is not None or not name.startswith("peer")]
    data = folder / "images"
    results = []
    cases = [*controlled_cases(plan), *example_cases(plan, data)]
    for script in cases:
        if plan.only and plan.only not in script.name:
            continue
        tools.start(script, "bare", folder / script.name / "first")  # draws data, warms caches
        rounds: dict[str, list[tools.Measured]] = {name: [] for name in names}
        for number, name in pairs.interleaved(names, plan.rounds):
            place = folder / script.name / f"{number}-{name}"
            rounds[name].append(tools.start(script, name, place, peer=peer))
        results.append({"case": script.name, "tools": _compared(rounds), "rounds": rounds})
        print(show(results[-1]), flush=True)
    return {"peer": tools.PEER if peer else None, "cases": results}


def instructions(plan: Plan, folder: Path, peer: Path | None) -> dict[str, Any]:
    """Count what a step executes under each tool; few short rounds tell it."""
    measured = processes(plan, folder, peer, show=tables.instructions)
    for case in measured["cases"]:
        rounds, found = case.pop("rounds"), case.pop("tools")
        case["instructions"] = pairs.estimate([one.instructions for one in rounds["bare"]])
        case["own_instructions"] = pairs.estimate([one.own_instructions for one in rounds["bare"]])
        for name, key in (
            ("added", "added_instructions"),
            ("added_own", "added_own_instructions"),
        ):
            case[name] = {under: tool[key] for under, tool in found.items()}
    return measured


def _compared(rounds: dict[str, list[tools.Measured]]) -> dict[str, dict[str, Any]]:
    """Return each tool's differences from bare, round by round."""
    bare = rounds["bare"]
    compared = {}
    for name, measured in rounds.items():
        if name == "bare":
            continue
        both = list(zip(bare, measured, strict=True))
        windows = [cost for _, m in both for cost in m.windows_ms]
        more = _more([(b.instructions, m.instructions) for b, m in both])
        own = _more([(b.own_instructions, m.own_instructions) for b, m in both])
        firsts = [m.windows_ms[0] for _, m in both if m.windows_ms]
        compared[name] = {
            "ratio": pairs.estimate([m.median_us / b.median_us for b, m in both]),
            "ratio_of_means": pairs.estimate([m.mean_us / b.mean_us for b, m in both]),
            "added_us": pairs.estimate([m.median_us - b.median_us for b, m in both]),
            "added_instructions": more,
            "added_own_instructions": own,
            "before_first_s": pairs.estimate([m.first_s - b.first_s for b, m in both]),
            "after_last_s": pairs.estimate([m.last_s - b.last_s for b, m in both]),
            "peak_mib": pairs.estimate([(m.peak_kib - b.peak_kib) / 1024 for b, m in both]),
            "window_ms": pairs.estimate(windows) if windows else None,
            "first_window_ms": pairs.estimate(firsts) if firsts else None,
        }
    return compared


def _more(both: list[tuple[float | None, float | None]]) -> pairs.Estimate | None:
    found = [m - b for b, m in both if b is not None and m is not None]
    return pairs.estimate(found) if found else None


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure what speedprof costs.")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--quick", action="store_true", help="few rounds, short runs")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--part", choices=PARTS)
    parser.add_argument("--only", help="cases whose name contains this")
    parser.add_argument("--share", type=float, help="of the usual steps and pairs")
    parser.add_argument(
        "--tool", action="append", choices=TOOLS[1:], help="beside bare; may be repeated"
    )
    parser.add_argument("--no-peer", action="store_true")
    parser.add_argument(
        "--peer-venv", type=Path, default=Path(tempfile.gettempdir()) / "speedprof-peer"
    )
    options = parser.parse_args()
    rounds = options.rounds or (2 if options.quick else 7)
    plan = Plan(
        rounds=rounds,
        share=options.share or (0.1 if options.quick else 1.0),
        only=options.only,
        tools=("bare", *options.tool) if options.tool else TOOLS,
    )
    wanted = options.part
    if wanted in (None, "record"):
        import record_size

        result = record_size.simulate(1_000_000 if not options.quick else 100_000)
        print(tables.record(result), flush=True)
        pairs.write(options.out, "record", result)
    if wanted in (None, "always_on"):
        with tempfile.TemporaryDirectory(prefix="speedprof-bench-") as folder:
            cases = [*always_on(plan), *toggled(plan, Path(folder))]
        pairs.write(options.out, "always_on", {"cases": cases})
    beside = wanted in (None, "processes", "instructions") and not options.no_peer
    peer = tools.prepare_peer(options.peer_venv) if beside else None
    if wanted in (None, "processes"):
        with tempfile.TemporaryDirectory(prefix="speedprof-bench-") as folder:
            pairs.write(options.out, "processes", processes(plan, Path(folder), peer))
    if wanted in (None, "instructions"):
        if counters.instructions() is None:
            raise SystemExit("this machine does not let instructions be counted (perf_event_open)")
        few = replace(plan, rounds=min(COUNTED, plan.rounds), share=min(SHORT, plan.share))
        with tempfile.TemporaryDirectory(prefix="speedprof-bench-") as folder:
            pairs.write(options.out, "instructions", instructions(few, Path(folder), peer))


if __name__ == "__main__":
    main()
