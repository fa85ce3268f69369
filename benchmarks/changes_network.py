"""The network that planted scripts train on the scoreboard, in place of a few hundred weights.

What the tests plant is nearly all of a step, so that nobody can miss it. Advice is held to what
it is given for: a stall beside computing of about twenty milliseconds a step. Where there is
nothing but the stall, the gain of removing it says how fast an idle machine is, and little else.
"""

from __future__ import annotations

from remedied import Change, lines

CHANNELS = 48
PIXELS = 8192  # of a batch; a convolution of it, there and back, are about 1 GFLOP
TOY = "nn.Sequential(nn.Linear({features}, 16), nn.ReLU(), nn.Linear(16, {outputs}))"


def ordinary(batch: int, features: int, *, outputs: str = "1", toy: str = TOY) -> Change:
    """Return the change for a script with so many features, a square number, in each sample."""
    width, side = round(features**0.5), round((PIXELS / batch) ** 0.5)
    convolution = f"nn.Conv2d({CHANNELS}, {CHANNELS}, 3, padding=1), nn.ReLU()"
    network = (
        f"nn.Sequential(nn.Unflatten(1, (1, {width}, {width})), nn.Upsample(({side}, {side})), "
        f"nn.Conv2d(1, {CHANNELS}, 3, padding=1), nn.ReLU(), {convolution}, "
        f"nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear({CHANNELS}, {outputs}))"
    )
    return lines(
        "a network of convolutions", (toy.format(features=features, outputs=outputs), network)
    )


NETWORKS = {
    "storage": ordinary(8, 256),
    "storage_workers": ordinary(8, 256),
    "cpu_preparation": ordinary(8, 256),
    "cpu_preparation_worker": ordinary(8, 256),
    "generator": ordinary(32, 64),
    "batch_function": ordinary(
        32,
        64,
        outputs="CONTEXT",
        toy="nn.Sequential(nn.Linear(CONTEXT, 16), nn.ReLU(), nn.Linear(16, {outputs}))",
    ),
    "worker_handoff": ordinary(32, 64, toy="nn.Linear({features}, {outputs})"),
    "startup": ordinary(16, 256),
    "straggler": ordinary(8, 64),
    "python_work": ordinary(32, 64),
    "synchronisation": ordinary(32, 64),
    "checkpoint": ordinary(32, 64),
    "slow_logging": ordinary(32, 64),
}
