"""How long the advice takes for a long training on many ranks.

    python benchmarks/advice_speed.py --out benchmarks/results

Reading the run's folder, judging it, choosing remedies and planning are timed apart, each in a
process of its own that never imports torch. The folder is made up (`synthetic_records.py`).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pairs
import synthetic_records

RANKS, STEPS, ROUNDS = 64, 100_000, 5
BAR_S = 1.0  # for judging and choosing remedies
SCRIPT = """
import json, pathlib, resource, sys, time
from speedprof.advisor.judgement import judge
from speedprof.mitigations.catalogue import advise
from speedprof.mitigations.plans import outlook
from speedprof.profiler import attribution
clock, marks = time.perf_counter, []
def timed(call, *arguments):
    begin, cpu = clock(), time.process_time()
    answer = call(*arguments)
    marks.append((clock() - begin, time.process_time() - cpu))
    return answer
run = timed(attribution.load, pathlib.Path(sys.argv[1]))
judgement = timed(judge, run)
advice = timed(advise, run, judgement)
timed(outlook, run, advice)
assert "torch" not in sys.modules
print(json.dumps({
    **dict(zip(("load", "judge", "advise", "outlook"), marks, strict=True)),
    "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    "findings": [found.rule for found in judgement.findings],
    "remedies": [one.mitigation.name for one in advice],
}))
"""


def measure(folder: Path, rounds: int) -> dict[str, Any]:
    """Return seconds of wall and CPU time for each part, as medians over rounds."""
    answers = [_once(folder) for _ in range(rounds)]
    parts: dict[str, Any] = {}
    for part in ("load", "judge", "advise", "outlook"):
        for index, clock in enumerate(("wall_s", "cpu_s")):
            parts[f"{part}_{clock}"] = pairs.estimate([one[part][index] for one in answers])
    both = [one["judge"][0] + one["advise"][0] for one in answers]
    first = answers[0]
    return {
        **parts,
        "judge_and_advise_s": pairs.estimate(both),
        "peak_mib": max(one["peak_mib"] for one in answers),
        "findings": first["findings"],
        "remedies": first["remedies"],
    }


def _once(folder: Path) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(folder)], check=True, capture_output=True, text=True
    )
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def line(result: dict[str, Any]) -> str:
    """Say what was measured, beside its bar."""
    took = result["judge_and_advise_s"]
    met = "met" if took.median <= BAR_S else "MISSED"
    return (
        f"{result['ranks']} ranks, {result['steps']:,} steps, {result['bytes'] / 1e6:.0f} MB: "
        f"load {result['load_wall_s']} s, judge {result['judge_wall_s']} s, "
        f"advise {result['advise_wall_s']} s, outlook {result['outlook_wall_s']} s, "
        f"{result['peak_mib']:.0f} MiB; judge and advise {took} s, bar {BAR_S:g} s {met}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Time the advice for a long run of many ranks.")
    parser.add_argument("--ranks", type=int, default=RANKS)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--out", type=Path, help="folder to write advice_speed.json to")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "run"
        size = synthetic_records.write(folder, ranks=options.ranks, steps=options.steps)
        measured = measure(folder, options.rounds)
    result = {"ranks": options.ranks, "steps": options.steps, "bytes": size, **measured}
    print(line(result))
    if options.out:
        document = {"machine": pairs.machine(), "bar_s": BAR_S, **result}
        options.out.mkdir(parents=True, exist_ok=True)
        text = json.dumps(document, indent=1, default=pairs.plain) + "\n"
        (options.out / "advice_speed.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
