"""Batches replayed from the device: those that arrived there are kept, and copied there again.

Neither loading nor the copy to the device costs anything then but a copy within the device. A
tensor that the replay hands out is known by its identity; the first time that the script moves it
(`Tensor.to`, `Tensor.cuda`) the result is kept, and later the result is a clone of what was kept.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from speedprof.profiler.trials.batches import clone, leaves
from speedprof.profiler.trials.replay import Kept, Replay
from speedprof.profiler.trials.training_batches import Feed

if TYPE_CHECKING:
    from speedprof.profiler.session import Session

MOVES = ("to", "cuda")


class DeviceReplay(Replay):
    """A replay whose batches are on the device already."""

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self._origin: dict[int, tuple[Any, tuple[Any, ...]]] = {}  # id -> (tensor, where from)
        self._arrived: dict[tuple[Any, ...], Any] = {}
        self._told_arrival = False

    def install(self, reason: str) -> None:
        import torch

        super().install(reason)
        for name in MOVES:
            self.session.patches.replace(
                torch.Tensor,
                name,
                self._moving(name, getattr(torch.Tensor, name)),
                reason="replay batches from the device",
            )

    def handed(self, feed: Feed, number: int, batch: Any) -> None:
        # the batch before was moved by now, or never will be
        self._origin = {
            id(leaf): (leaf, (id(feed), number, place)) for place, leaf in enumerate(leaves(batch))
        }

    def state(self, kept: Kept) -> dict[str, Any]:
        return super().state(kept) | {"kind": "on_device_pending"}

    def _moving(self, name: str, original: Any) -> Any:
        import torch

        compiling = torch.compiler.is_compiling

        @functools.wraps(original)
        def move(tensor: Any, *arguments: Any, **named: Any) -> Any:
            if compiling() or id(tensor) not in self._origin:
                return original(tensor, *arguments, **named)
            held, where = self._origin[id(tensor)]
            if held is not tensor:
                return original(tensor, *arguments, **named)
            key = (*where, name, str(arguments), str(sorted(named.items())))
            known = self._arrived.get(key)
            if known is not None:
                self._tell()
                return clone(known)
            moved = original(tensor, *arguments, **named)
            if moved.device != tensor.device:
                self._arrived[key] = clone(moved)
            return moved

        return move

    def _tell(self) -> None:
        """Say from when on batches come from the device."""
        if self._told_arrival:
            return
        self._told_arrival = True
        kept = max(self.kept.values(), key=lambda one: len(one.batches))
        self.session.recorder.fact("trial", super().state(kept) | {"kind": "on_device"})
