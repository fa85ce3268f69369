"""Batches that are copied to the GPU on a stream of their own before the script asks for it."""

from __future__ import annotations

import threading
from typing import Any

from speedprof.mitigations.applied.pinned_tensors import (
    NO_GPU,
    UNPINNED,
    Pass,
    Pinned,
    PinnedTensors,
    around_copies,
)
from speedprof.mitigations.applied.process import Applied, Process

AHEAD = 2  # batches on the device that nobody has asked for yet


def apply(process: Process, one: Applied) -> None:
    """Begin copies in the thread that pins, of what the script copied of the batch before."""
    import torch
    from torch.utils.data import _utils

    if not torch.cuda.is_available():
        one.note(NO_GPU)
        return
    ahead = Ahead(one)
    pinned = process.fence.guard(f"remedy {one.name}: copy ahead", ahead.pinned)
    pin_memory = ahead.tensors.pinning(_utils.pin_memory.pin_memory, pinned)
    process.patches.replace(
        _utils.pin_memory, "pin_memory", pin_memory, reason=f"{one.name}: what is pinned"
    )
    around_copies(process, one, ahead.tensors, ahead.asked)
    process.at_end.append(ahead.tell)
    process.changed(f"batches on the device: {one.name}", ahead.stop)


class Ahead:
    """Copies that were begun, until the script asks for them or lets their batch go.

    The script still gets batches in host memory: what it does with them there stays right. Its
    `.to(device)` finds the copy made, unless the batch was written to meanwhile.
    """

    def __init__(self, one: Applied) -> None:
        self._one = one
        self.tensors = PinnedTensors()
        self._streams: dict[Any, Any] = {}
        self._copy: Any = None  # torch's own Tensor.to, once the script was seen to call it
        self._stopped = self._asked = False

    def pinned(self, tensor: Any, source: Pass, place: int) -> None:
        """Begin the copy of a tensor, if the one at its place was copied in the batch before."""
        import torch

        found = self.tensors.add(tensor, source, place, self._gone)
        device = source.wanted.get(place)
        in_time = threading.current_thread() is not threading.main_thread()
        if device is None or self._stopped or not in_time:
            return
        if len(source.waiting) >= AHEAD * len(source.wanted):
            return
        stream = self._stream(device)
        try:
            with torch.cuda.stream(stream):
                found.copy = self._copy(tensor, device, non_blocking=True)
                found.ready = stream.record_event()
        except torch.cuda.OutOfMemoryError:
            self._stopped = True
            self._one.note("the device has no room for a batch more")
            return
        source.waiting.add(id(found))

    def asked(self, original: Any, tensor: Any, device: Any) -> Any:
        """Return the copy that was begun, None where there is none; remember what is wanted."""
        import torch

        found = self.tensors.find(tensor)
        if found is None or tensor.requires_grad or torch.cuda.is_current_stream_capturing():
            return None
        self._copy, self._asked = original, True
        found.source.wanted[found.place] = device
        copy, ready = found.copy, found.ready
        if copy is None:
            return None
        self._taken(found)
        if copy.device != device or tensor._version != found.version:
            return None
        stream = torch.cuda.current_stream(device)
        stream.wait_event(ready)
        copy.record_stream(stream)  # its memory is not given away before this stream is done
        self._one.effects += 1
        return copy

    def tell(self) -> None:
        if self._one.effects:
            return
        if not self.tensors.seen:
            self._one.note(UNPINNED)
        elif not self._asked:
            self._one.note("the script copies no pinned batch with .to(device) or .cuda()")
        else:
            self._one.note("no batch was pinned ahead: workers make none while the step runs")

    def stop(self) -> None:
        self._stopped = True

    def _gone(self, found: Pinned) -> None:
        """A batch was let go; what was copied of it in vain is not copied again."""
        if found.copy is not None:
            found.source.wanted.pop(found.place, None)
            self._taken(found)

    @staticmethod
    def _taken(found: Pinned) -> None:
        found.copy = found.ready = None
        found.source.waiting.discard(id(found))

    def _stream(self, device: Any) -> Any:
        import torch

        if device not in self._streams:
            self._streams[device] = torch.cuda.Stream(device)
        return self._streams[device]
