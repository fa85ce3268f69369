"""Cases of mitigations/copies: where each applies, where not and why, where that is unknown."""

from __future__ import annotations

import runs
from case_runs import COPYING, Case, Make, copying, full_device, gpu

from speedprof.profiler.run import Batch, InForce, Run, Transform

CONVERTING = [Transform(name="ToTensor", ms_per_sample=0.1, calls=640)]
BYTES = Batch(shapes=[[64, 3, 224, 224], [64]], dtypes=["uint8", "int64"], distinct=1, looked_at=8)


def pinned(**facts: object) -> Run:
    """Return a run that waits for copies from pinned memory."""
    copies = runs.copies(pageable_ms=0.0, pinned_ms=25.0, blocking_ms=20.0, bytes=40e6)
    return gpu({COPYING: 0.3}, **({"copies": copies} | facts))


def in_force(name: str) -> InForce:
    return InForce(name=name, parameters={}, effects=1, notes=[])


def floats(**facts: object) -> Run:
    return pinned(**({"loaders": [runs.loader(transforms=CONVERTING)]} | facts))


APPLIES: dict[str, Make] = {
    "pin-memory": copying,
    "non-blocking-copies": copying,
    "prefetch-to-device": pinned,
    "normalise-on-device": floats,
}

MISFITS: dict[str, list[Case]] = {
    "pin-memory": [
        (lambda: copying(loaders=[runs.loader(pin_memory=True)]), "pins its batches already"),
        (lambda: copying(device="cpu"), "runs on cpu"),
        (lambda: copying(loaders=[]), "no DataLoader"),
        (lambda: copying(loaders=[runs.loader(batch_bytes=4 << 30)]), "too much"),
    ],
    "non-blocking-copies": [
        (lambda: copying(device="cpu"), "runs on cpu"),
        (
            lambda: pinned(copies=runs.copies(pinned_ms=25.0, blocking_ms=0.0)),
            "does not wait for its copies",
        ),
        (lambda: pinned(applied=[in_force("non-blocking-copies")]), "already"),
    ],
    "prefetch-to-device": [
        (lambda: pinned(device="cpu"), "runs on cpu"),
        (copying, "pin the batches first"),
        (lambda: pinned(ranks=[full_device(97)]), "97 % full"),
        (lambda: pinned(applied=[in_force("prefetch-to-device")]), "ahead already"),
    ],
    "normalise-on-device": [
        (lambda: floats(device="cpu"), "runs on cpu"),
        (lambda: floats(batch=BYTES), "types are small already"),
        (lambda: floats(loaders=[]), "no DataLoader"),
    ],
}

NOT_MEASURED: dict[str, list[Make]] = {
    "pin-memory": [],
    "non-blocking-copies": [
        lambda: gpu({COPYING: 0.3}),
        lambda: pinned(copies=runs.copies(pinned_ms=25.0)),
    ],
    "prefetch-to-device": [
        lambda: gpu({COPYING: 0.3}),
        lambda: pinned(copies=runs.copies(blocking_ms=20.0)),
    ],
    "normalise-on-device": [
        pinned,
        lambda: floats(
            copies=runs.copies(pinned_ms=25.0),
            loaders=[runs.loader(transforms=CONVERTING, batch_bytes=None)],
        ),
    ],
}
