"""What images are between two transforms, and the refusal of what has no equal there."""

from __future__ import annotations

from dataclasses import dataclass


class RefusedError(Exception):
    """Something has no equal in DALI; the text says why."""


@dataclass
class Stage:
    """PIL's images, tensors of bytes, or tensors of floats."""

    kind: str = "PIL"  # or "bytes", "floats"
    channels: int = 3
    normalised: bool = False

    def need_colour(self) -> None:
        if self.channels != 3:
            raise RefusedError("the images have one channel")

    def need_bytes(self) -> None:
        if self.kind == "floats":
            raise RefusedError("DALI does it on bytes, and these are floats")
