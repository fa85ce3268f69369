"""Cases of mitigations/training: where each applies, where not and why, where that is unknown."""

from __future__ import annotations

import runs
from case_runs import CONVOLUTIONS, DDP, KINDS, Case, Make, full_device, gpu, hosting, talking

from speedprof.profiler.run import Batch, Run, Transform

LOADING = "data_loading"
ATTENTIVE = {"matmul": 60.0, "attention": 30.0, "elementwise": 10.0}
HEAVY = [
    Transform(name="RandAugment", ms_per_sample=0.4, calls=640),
    Transform(name="ToTensor", ms_per_sample=0.1, calls=640),
]


def batch(*shapes: list[int], dtype: str = "float32") -> Batch:
    return Batch(shapes=list(shapes), dtypes=[dtype] * len(shapes), distinct=1, looked_at=8)


def seeing(side: int = 224, **facts: object) -> Run:
    """Return a step of 95 % computing on images."""
    inside = runs.compute(kinds=CONVOLUTIONS, optimizer_ms=5.0)
    images = batch([64, 3, side, side])
    return gpu({"host": 0.05}, **({"compute": inside, "batch": images} | facts))


def reading(length: int = 1024, **facts: object) -> Run:
    """Return a step of 95 % computing on sequences of tokens."""
    inside = runs.compute(kinds=ATTENTIVE)
    tokens = batch([8, length], dtype="int64")
    given = {"compute": inside, "batch": tokens, "models": [runs.model()]}
    return gpu({"host": 0.05}, **(given | facts))


def blind(**facts: object) -> Run:
    """Return a step of 95 % computing of nobody knows what."""
    return gpu({"host": 0.05}, **facts)


def unphased() -> Run:
    return seeing(phases=None)


def late(workers: int = 2, **facts: object) -> Run:
    """Return a run whose workers deliver too late, on two cores that are used up."""
    loader = runs.preparing(workers, 190.0, transforms=HEAVY)
    return runs.run({LOADING: 0.6}, **({"loaders": [loader], "device": "cuda"} | facts))


def trained_with(name: str) -> Run:
    return seeing(optimizers=[runs.optimizer(name=name)])


def waiting_little() -> Run:
    return runs.run({LOADING: 0.1}, loaders=[runs.preparing(2, 190.0, transforms=HEAVY)])


def no_samples() -> Run:
    return seeing(loaders=[runs.loader(iterable=True)])


def evaluating() -> Run:
    return seeing(loaders=[runs.loader(), runs.loader(number=2, role="evaluation")])


def frozen() -> Run:
    return seeing(models=[runs.model(trainable=5_000_000)])


BALANCED: Case = (lambda: seeing(phases=runs.phases(host=0.5)), "what costs no quality")
BALANCED_TEXT: Case = (lambda: reading(phases=runs.phases(host=0.5)), "what costs no quality")
NO_IMAGES: Case = (reading, "hold no images")
NO_TOKENS: Case = (seeing, "no sequences of tokens")
ON_TIME: Case = (waiting_little, "waiting for data takes only 10 %")
WORKERS_FIRST: Case = (
    lambda: late(loaders=[runs.preparing(0, 60.0, transforms=HEAVY)]),
    "loader-workers comes first",
)

APPLIES: dict[str, Make] = {
    "larger-batch": lambda: hosting(loaders=[runs.loader()]),
    "growing-batch": lambda: talking(**DDP, loaders=[runs.loader()]),
    "lighter-augmentation": late,
    "data-echoing": late,
    "fuller-device": late,
    "progressive-resizing": seeing,
    "lower-resolution": seeing,
    "colout": seeing,
    "sequence-warmup": reading,
    "alibi": reading,
    "token-dropping": reading,
    "structured-matrices": reading,
    "weight-averaging": seeing,
    "shorter-schedule": seeing,
    "warm-start": seeing,
    "quality-buyers": seeing,
    "early-stopping": evaluating,
    "deduplication": seeing,
    "data-pruning": seeing,
    "progressive-growth": reading,
    "mixture-of-experts": reading,
    "selective-backprop": seeing,
    "importance-sampling": seeing,
    "layer-freezing": reading,
    "layer-dropping": seeing,
    "low-rank-factors": seeing,
    "sparse-weights": seeing,
    "curriculum": seeing,
    "sharpness-aware": seeing,
    "other-optimizer": lambda: trained_with("AdamW"),
}

MISFITS: dict[str, list[Case]] = {
    "larger-batch": [
        (lambda: hosting(loaders=[runs.loader()], ranks=[full_device(90)]), "90 % full")
    ],
    "growing-batch": [(lambda: talking(loaders=[runs.loader()]), "1 rank")],
    "lighter-augmentation": [
        ON_TIME,
        WORKERS_FIRST,
        (
            lambda: late(loaders=[runs.preparing(2, 190.0, transforms=HEAVY[1:])]),
            "is heavy augmentation",
        ),
        (lambda: late(loaders=[]), "no DataLoader"),
    ],
    "data-echoing": [ON_TIME, WORKERS_FIRST, (lambda: late(loaders=[]), "no DataLoader")],
    "fuller-device": [ON_TIME, WORKERS_FIRST, (lambda: late(device="cpu"), "runs on cpu")],
    "progressive-resizing": [BALANCED, NO_IMAGES],
    "lower-resolution": [BALANCED, NO_IMAGES, (lambda: seeing(32), "no detail to spare")],
    "colout": [BALANCED, NO_IMAGES],
    "sequence-warmup": [BALANCED_TEXT, NO_TOKENS],
    "alibi": [
        BALANCED_TEXT,
        NO_TOKENS,
        (lambda: reading(128), "128 tokens are short already"),
        (lambda: reading(compute=runs.compute(kinds=KINDS)), "of the step are attention"),
    ],
    "token-dropping": [BALANCED_TEXT, NO_TOKENS],
    "structured-matrices": [
        (
            lambda: reading(
                compute=runs.compute(kinds={"matmul": 9.0}), phases=runs.phases(host=0.3)
            ),
            "what costs no quality",
        ),
        (seeing, "0.0 % of the step are matrix products"),
    ],
    "weight-averaging": [BALANCED],
    "shorter-schedule": [BALANCED],
    "warm-start": [BALANCED],
    "quality-buyers": [BALANCED, NO_IMAGES],
    "early-stopping": [(seeing, "no evaluation was seen")],
    "deduplication": [BALANCED, (no_samples, "no indexed samples")],
    "data-pruning": [BALANCED, (no_samples, "no indexed samples")],
    "progressive-growth": [BALANCED_TEXT, NO_TOKENS],
    "mixture-of-experts": [BALANCED_TEXT, NO_TOKENS],
    "selective-backprop": [BALANCED],
    "importance-sampling": [BALANCED],
    "layer-freezing": [BALANCED_TEXT, (frozen, "80 % of the parameters are frozen")],
    "layer-dropping": [BALANCED],
    "low-rank-factors": [BALANCED],
    "sparse-weights": [BALANCED],
    "curriculum": [BALANCED, (no_samples, "no indexed samples")],
    "sharpness-aware": [BALANCED, NO_IMAGES],
    "other-optimizer": [(lambda: trained_with("Lion"), "is Lion already")],
}

NOT_MEASURED: dict[str, list[Make]] = {
    **{name: [unphased] for name in APPLIES},
    "larger-batch": [hosting],
    "growing-batch": [lambda: talking(**DDP)],
    "lighter-augmentation": [
        lambda: late(phases=None),
        lambda: late(loaders=[runs.preparing(2, 190.0)]),
    ],
    "data-echoing": [lambda: late(phases=None)],
    "fuller-device": [lambda: late(phases=None)],
    "progressive-resizing": [unphased, blind],
    "lower-resolution": [unphased, blind],
    "colout": [unphased, blind],
    "sequence-warmup": [lambda: reading(phases=None), blind],
    "alibi": [blind, lambda: reading(compute=None)],
    "token-dropping": [lambda: reading(phases=None), blind],
    "structured-matrices": [lambda: reading(compute=None)],
    "quality-buyers": [unphased, blind],
    "early-stopping": [lambda: blind(loaders=[]), unphased],
    "deduplication": [unphased, lambda: blind(loaders=[])],
    "data-pruning": [unphased, lambda: blind(loaders=[])],
    "progressive-growth": [blind],
    "mixture-of-experts": [blind],
    "layer-freezing": [blind, lambda: reading(phases=None)],
    "sharpness-aware": [unphased, blind],
    "other-optimizer": [blind],
}
