"""Gradients are not exchanged: what training would do if communication were free.

DistributedDataParallel gets torch's own `noop_hook`, made for this very measurement, and leaves
out the broadcast of buffers; all-reduces and barriers that the script calls itself are left out
once training has begun. Each rank trains on its own from then on, which only a trial may do.
"""

from __future__ import annotations

import functools
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from speedprof.profiler.session import Session

REASON = "a trial without communication"
SKIPPED = ("all_reduce", "barrier")


class SkipCollectives:
    """Takes the exchange out of every DistributedDataParallel that is built."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._trains = False
        self._hooked = 0  # hooks of the script's own, left out
        self._models = 0

    def install(self) -> None:
        import torch
        import torch.distributed as dist
        from torch.nn.parallel import DistributedDataParallel as Parallel

        patches = self._session.patches
        register = Parallel.register_comm_hook
        patches.replace(
            Parallel, "__init__", self._building(Parallel.__init__, register), reason=REASON
        )
        for name in ("register_comm_hook", "_register_builtin_comm_hook"):
            patches.replace(Parallel, name, self._registering, reason=REASON)
        patches.replace(Parallel, "_sync_buffers", _nothing, reason=REASON)
        patches.replace(
            torch.autograd, "backward", self._training(torch.autograd.backward), reason=REASON
        )
        for name in SKIPPED:
            patches.replace(dist, name, self._skipping(getattr(dist, name)), reason=REASON)

    def _building(self, original: Any, register: Any) -> Any:
        from torch.distributed.algorithms.ddp_comm_hooks.debugging_hooks import noop_hook

        @functools.wraps(original)
        def __init__(model: Any, *arguments: Any, **named: Any) -> None:
            original(model, *arguments, **named)
            register(model, None, noop_hook)
            self._models += 1
            self._tell()

        return __init__

    def _registering(self, *_arguments: Any, **_named: Any) -> None:
        """Stand in for the registration of the script's own hook."""
        self._hooked += 1
        self._tell()

    def _training(self, original: Any) -> Any:
        import torch

        compiling = torch.compiler.is_compiling

        @functools.wraps(original)
        def backward(*arguments: Any, **named: Any) -> Any:
            if not compiling():
                self._trains = True
            return original(*arguments, **named)

        return backward

    def _skipping(self, original: Any) -> Any:
        @functools.wraps(original)
        def skip(*arguments: Any, **named: Any) -> Any:
            if not self._trains:
                return original(*arguments, **named)
            return _Done() if named.get("async_op") else None

        return skip

    def _tell(self) -> None:
        notes = ["the script's own communication hook was left out"] if self._hooked else []
        self._session.open_record()
        self._session.recorder.fact(
            "trial",
            {
                "kind": "no_communication",
                "at_perf_ns": time.perf_counter_ns(),
                "models": self._models,
                "notes": notes,
            },
        )


class _Done:
    """A piece of work that is done: nothing was sent."""

    def wait(self, *_arguments: Any) -> bool:
        return True

    def is_completed(self) -> bool:
        return True

    def is_success(self) -> bool:
        return True

    def get_future(self) -> Any:
        import torch

        future: Any = torch.futures.Future()
        future.set_result([])
        return future


def _nothing(*_arguments: Any, **_named: Any) -> None:
    """Leave buffers as they are."""
