"""Run a training script as it is, and write down when each of its optimizer steps ended.

    python benchmarks/watched.py --times times.json examples/charlm.py --steps 100

The same watch is laid around every tool, so it is in both halves of every pair. With `--peer` the
loop around
`optimizer.step()` is marked for traceml-ai as its manual asks; with `--toggle N` speedprof's
always-on probes are installed and removed every N steps, so that both halves of a pair run in one
process.
"""

from __future__ import annotations

import argparse
import ast
import atexit
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import counters


class Watch:
    """Remembers the end of each step, and writes them last of all when the process ends."""

    def __init__(self, path: Path) -> None:
        rank = os.environ.get("RANK", "0")
        self._path = path.with_suffix(f".{rank}.json") if rank != "0" else path
        self.ends: list[int] = []
        self.on: list[bool] = []  # whether speedprof was installed during the step, when toggling
        self.armed = False
        self.counts: list[int] = []  # instructions at the end of each step, where they are counted
        self.own: list[int] = []  # those of the training thread alone
        self._counter, self._own = counters.instructions(), counters.instructions(own=True)
        self._owner = os.getpid()
        atexit.register(self._write)

    def step(self) -> None:
        self.ends.append(time.perf_counter_ns())
        self.on.append(self.armed)
        if self._counter is not None and self._own is not None:
            self.counts.append(self._counter.read())
            self.own.append(self._own.read())

    def _write(self) -> None:
        if os.getpid() != self._owner:
            return
        content = {
            "ends": self.ends, "on": self.on, "counts": self.counts, "own": self.own,
            "peak_kib": _peak_kib(),
        }  # fmt: skip
        self._path.write_text(json.dumps(content), encoding="utf-8")


def _peak_kib() -> int:
    """Return the most that this process held; getrusage would count what forked it, too."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def lay_around_optimizers(after: Callable[[], None]) -> None:
    """Call `after` at the end of each optimizer step, outside torch's own step hooks."""
    import torch

    for kind in (torch.optim.SGD, torch.optim.Adam):  # AdamW has Adam's
        kind.step = _followed(torch.optim.Optimizer.profile_hook_step(kind.step), after)


def _followed(step: Any, after: Callable[[], None]) -> Any:
    def followed(*arguments: Any, **keywords: Any) -> Any:
        result = step(*arguments, **keywords)
        after()
        return result

    followed.hooked = True  # type: ignore[attr-defined]  # torch wraps a step that does not say so
    return followed


class Toggle:
    """Installs and removes the always-on probes every so many steps."""

    def __init__(self, watch: Watch, every: int, folder: str) -> None:
        self._watch, self._every, self._folder = watch, every, folder
        self._session: Any = None

    def step(self) -> None:
        self._watch.step()
        if len(self._watch.ends) % self._every == 0:
            self.switch()

    def switch(self) -> None:
        from speedprof.profiler.session import Options, Session

        if self._session is None:
            self._session = Session(self._folder, Options(windows=False))
            self._session.begin({})
        else:
            self._session.end()
            self._session = None
        self._watch.armed = self._session is not None


def marked(source: str, path: str) -> Any:
    """Compile a script with its training loop's body in traceml-ai's `trace_step(model)`."""
    tree = ast.parse(source, path)
    loop = _innermost_loop_that_steps(tree)
    block = ast.parse("with traceml_ai.trace_step(model): pass").body[0]
    assert isinstance(block, ast.With)
    block.body, loop.body = loop.body, [block]
    first = 1 if ast.get_docstring(tree) else 0
    first += sum(
        isinstance(line, ast.ImportFrom) and line.module == "__future__" for line in tree.body
    )
    tree.body[first:first] = ast.parse("import traceml_ai\ntraceml_ai.init()").body
    return compile(ast.fix_missing_locations(tree), path, "exec")


def _innermost_loop_that_steps(tree: ast.AST) -> ast.For:
    found = [
        loop
        for loop in ast.walk(tree)
        if isinstance(loop, ast.For)
        and any("optimizer.step" in ast.unparse(line) for line in loop.body)
    ]
    if not found:
        raise SystemExit(
            "the script has no `for` around `optimizer.step()`; there is nothing to mark"
        )
    return found[-1]  # ast.walk goes from outside to inside


def main() -> None:
    parser = argparse.ArgumentParser(description="Time the steps of a training script.")
    parser.add_argument("--times", type=Path, required=True)
    parser.add_argument("--toggle", type=int, metavar="N")
    parser.add_argument("--peer", action="store_true")
    parser.add_argument("script")
    parser.add_argument("arguments", nargs=argparse.REMAINDER)
    options = parser.parse_args()
    watch = Watch(options.times)
    step = watch.step
    if options.toggle:
        step = Toggle(watch, options.toggle, str(options.times.parent)).step
    lay_around_optimizers(step)
    source = Path(options.script).read_text(encoding="utf-8")
    code = (
        marked(source, options.script) if options.peer else compile(source, options.script, "exec")
    )
    sys.argv = [options.script, *options.arguments]
    sys.path[0] = str(Path(options.script).parent)
    module = sys.modules["__main__"]
    vars(module)["__file__"] = options.script
    exec(code, vars(module))  # the script is the user's own


if __name__ == "__main__":
    main()
