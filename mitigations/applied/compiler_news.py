"""What torch's compiler did since it was asked to: graphs, breaks, recompilations, seconds."""

from __future__ import annotations

import os
import time
from collections import Counter
from typing import Any

MOST_REASONS = 3


class News:
    """Counts from `begin` on; Dynamo's own counters are the process's and are left alone."""

    def __init__(self) -> None:
        self.seconds = 0.0  # spent compiling
        self._began = 0
        self._frames = 0
        self._stats: Counter[str] = Counter()
        self._skips = self._reasons = 0
        self._since = 0.0
        self._listening = False

    def begin(self) -> None:
        from torch._dynamo.callback import callback_handler
        from torch._dynamo.utils import counters, graph_break_reasons

        self._stats = Counter(counters["stats"])
        self._skips = counters["inductor"]["cudagraph_skips"]
        self._frames = counters["frames"]["total"]
        self._reasons, self._since = len(graph_break_reasons), time.time()
        callback_handler.register_start_callback(self._starts)
        callback_handler.register_end_callback(self._ends)
        self._listening = True

    def end(self) -> None:
        from torch._dynamo.callback import callback_handler

        self._listening = False
        if self._starts in callback_handler.start_callbacks:  # `torch._dynamo.reset` forgets them
            callback_handler.remove_start_callback(self._starts)
            callback_handler.remove_end_callback(self._ends)

    def _starts(self, *_what: Any) -> None:
        self._began = time.perf_counter_ns()

    def _ends(self, *_what: Any) -> None:
        self.seconds += (time.perf_counter_ns() - self._began) / 1e9

    def changed(self) -> bool:
        """Tell whether anything was compiled since the last time this was asked."""
        from torch._dynamo.utils import counters

        before, self._frames = self._frames, counters["frames"]["total"]
        return bool(self._listening) and before != self._frames

    def graphs(self) -> int:
        return self._grown("unique_graphs")

    def operators(self) -> int:
        """Return the operators in all of these graphs."""
        return self._grown("calls_captured")

    def _grown(self, name: str) -> int:
        from torch._dynamo.utils import counters

        return int(counters["stats"][name] - self._stats[name])

    def graphs_skipped(self) -> int:
        """Return how often CUDA graphs were left out."""
        from torch._dynamo.utils import counters

        return int(counters["inductor"]["cudagraph_skips"] - self._skips)

    def breaks(self) -> int:
        """Return how often a graph ended early, or none was made of a frame."""
        return len(self._broken())

    def reasons(self) -> str:
        """Return why graphs broke, most frequent first, with the script's lines."""
        return _told(Counter(self._broken()))

    def _broken(self) -> list[str]:
        from torch._dynamo.utils import graph_break_reasons

        found = [
            _first_line(one.reason) + _where(*_innermost(one.user_stack))
            for one in graph_break_reasons[self._reasons :]
        ]
        for one in self._metrics():
            if one.fail_reason:  # the frame runs without the compiler
                line = one.fail_user_frame_lineno
                found.append(
                    _first_line(one.fail_reason) + _where(one.fail_user_frame_filename, line)
                )
        return found

    def recompilations(self) -> int:
        return len(self._again())

    def why_again(self) -> str:
        return _told(Counter(map(_first_line, self._again())))

    def _again(self) -> list[str]:
        reasons = (getattr(one, "recompile_reason", None) for one in self._metrics())
        return [reason for reason in reasons if reason]

    def _metrics(self) -> list[Any]:
        """Return what Dynamo kept of each compilation; of many, the last 64."""
        from torch._dynamo.utils import get_compilation_metrics

        return [one for one in get_compilation_metrics() if (one.start_time or 0.0) >= self._since]


def _told(found: Counter[str]) -> str:
    return "; ".join(
        f"{reason} ({times} times)" if times > 1 else reason
        for reason, times in found.most_common(MOST_REASONS)
    )


def _first_line(text: str) -> str:
    lines = [line.strip() for line in text.strip().splitlines() if line.strip()]
    return lines[0] if lines else "no reason given"


def _innermost(stack: Any) -> tuple[str | None, int | None]:
    frames = list(stack or ())
    return (frames[-1].filename, frames[-1].lineno) if frames else (None, None)


def _where(path: str | None, line: int | None) -> str:
    """Return the script's own line, nothing where Dynamo gives none."""
    if path is None or line is None:
        return ""
    return f" at {path.removeprefix(os.getcwd() + os.sep)}:{line}"
