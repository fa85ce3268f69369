"""Cases of mitigations/loading: where each applies, where not and why, where that is unknown."""

from __future__ import annotations

import runs
from case_runs import AUGMENTED, CHAIN, LOADING, Case, Make, generated, gpu, loading
from msgspec.structs import replace

from speedprof.profiler.run import (
    Batch,
    Environment,
    InForce,
    Loader,
    Run,
    StepTimes,
    Transform,
)

UNEVEN = StepTimes(count=200, mean_ms=100.0, median_ms=60.0, p10_ms=50.0, p90_ms=200.0)
IMAGES = Batch(shapes=[[64, 3, 224, 224], [64]], dtypes=["float32", "int64"], distinct=1,
               looked_at=8)  # fmt: skip
TOKENS = Batch(shapes=[[64, 512], [64, 512]], dtypes=["int64", "int64"], distinct=1, looked_at=8)
PADDED = Batch(shapes=[[64, 512]], dtypes=["int64"], distinct=8, looked_at=8, padding=0.4)
TRANSFORMER = runs.model(modules={"MultiheadAttention": 12, "Linear": 48})
JITTER = [Transform(name="ColorJitter", ms_per_sample=0.4, calls=640), *CHAIN[1:]]
FOLDER = {"dataset": "ImageFolder", "transforms": CHAIN}
ODD_CHAIN = [
    Transform(name=name, ms_per_sample=0.1, calls=9) for name in ("MyTransform", "Lambda")
]
TO_TENSOR = Transform(name="ToTensor", ms_per_sample=0.7, calls=9)
LARGE_JPEG = 64 * 110e3  # bytes of a batch
KEPT = InForce(name="cache-samples", parameters={}, effects=640, notes=[])


def uneven(workers: int = 4, cpu_ms: float = 100.0, **facts: object) -> Run:
    """Return a run whose workers are fast enough on average, but not always."""
    run = loading(runs.preparing(workers, cpu_ms), 0.4, environment=Environment(torch="2.9.1"))
    return replace(run, **({"step_ms": UNEVEN} | facts))


def on_gpu(loader: Loader, share: float = 0.5, **facts: object) -> Run:
    return gpu({LOADING: share, "host": 0.1}, loaders=[loader], **facts)


def pictures(cpu_ms: float = 300.0, read: float | None = LARGE_JPEG, **facts: object) -> Loader:
    """Return four workers that decode photographs and shrink them."""
    return runs.preparing(4, cpu_ms, **{"transforms": CHAIN, "read_bytes": read, **facts})


def shrinking(share: float = 0.5, **facts: object) -> Run:
    return loading(pictures(**facts), share, batch=IMAGES)


def small(side_bytes: int = 12 << 10, **facts: object) -> Loader:
    normalise = [Transform(name="Normalize", ms_per_sample=0.02, calls=640)]
    given = {"transforms": normalise, "batch_bytes": 64 * side_bytes, "dataset": "CIFAR10"}
    return runs.preparing(0, 3.0, **(given | facts))


def texts(batch: Batch | None = TOKENS, cpu_ms: float = 50.0) -> Run:
    return loading(runs.preparing(0, cpu_ms, dataset="Corpus"), batch=batch)


def handing(batch: Batch | None = IMAGES, **facts: object) -> Run:
    return loading(runs.preparing(2, 10.0, **{"batch_bytes": 64 << 20, **facts}), batch=batch)


def padding(batch: Batch | None = PADDED, **facts: object) -> Run:
    given = {"loaders": [runs.loader()], "models": [TRANSFORMER], "batch": batch}
    return gpu(compute=runs.compute("arithmetic"), **(given | facts))


def ids(share: float) -> Batch:
    return Batch(shapes=[[64, 512]], dtypes=["int64"], distinct=8, looked_at=8, padding=share)


def sharded_alike(repeated: int | None) -> Run:
    """Return a run of four epochs, so many of them in the order of the one before."""
    return loading(runs.loader(repeated_orders=repeated, iterations=4), 0.1)


APPLIES: dict[str, Make] = {
    "loader-workers": lambda: loading(runs.preparing(0, 50.0)),
    "persistent-workers": lambda: loading(
        runs.preparing(2, 90.0, iterations=20, startup_ms=300.0, first_batch_ms=500.0)
    ),
    "deeper-prefetch": uneven,
    "out-of-order-batches": uneven,
    "set-epoch": lambda: sharded_alike(3),
    "in-process-loading": lambda: loading(runs.preparing(2, 10.0)),
    "generator-to-loader": generated,
    "cache-samples": lambda: loading(runs.preparing(0, 50.0, transforms=CHAIN)),
    "nearer-storage": lambda: loading(runs.fetching(0, 50.0)),
    "sharded-files": lambda: loading(runs.fetching(2, 150.0, read_bytes=2e6)),
    "faster-decoding": lambda: loading(runs.preparing(0, 50.0, transforms=CHAIN)),
    "dali-loading": lambda: loading(runs.preparing(0, 50.0, **FOLDER)),
    "decode-on-gpu": lambda: on_gpu(pictures()),
    "smaller-images": shrinking,
    "raw-pixels": lambda: loading(pictures(read=64 * 60e3, length=2000)),
    "ffcv-loader": lambda: loading(pictures(900.0)),
    "batched-transforms": lambda: loading(small()),
    "augment-on-device": lambda: on_gpu(runs.preparing(4, 60.0, transforms=JITTER)),
    "tokenise-offline": texts,
    "fewer-threads": lambda: loading(runs.preparing(1, 90.0, queued_ms=40.0)),
    "smaller-batches": handing,
    "length-buckets": padding,
    "sequence-packing": padding,
}

MISFITS: dict[str, list[Case]] = {
    "loader-workers": [
        (lambda: loading(runs.preparing(2, 150.0)), "more workers than 2 gain nothing"),
        (lambda: loading(runs.preparing(0, 50.0, iterable=True)), "every worker would yield all"),
        (
            lambda: loading(runs.preparing(0, 50.0, picklable=False, start_method="spawn")),
            "cannot be pickled",
        ),
        (generated, "no DataLoader"),
    ],
    "persistent-workers": [
        (
            lambda: loading(runs.preparing(2, persistent_workers=True, startup_ms=9.0)),
            "kept already",
        ),
        (lambda: loading(runs.preparing(0)), "no worker processes"),
    ],
    "deeper-prefetch": [
        (lambda: uneven(0), "no worker makes batches ahead"),
        (lambda: uneven(4, 400.0), "too slow on average"),
        (lambda: loading(runs.preparing(4, 100.0), 0.4), "steps are even"),
        (
            lambda: uneven(4, machines=[runs.machine(8, memory_bytes=32 << 20)]),
            "are made ahead already",
        ),
        (generated, "no worker"),
    ],
    "set-epoch": [(lambda: sharded_alike(0), "no order was repeated")],
    "out-of-order-batches": [
        (lambda: uneven(1, 50.0), "one worker finishes its batches in order"),
        (lambda: uneven(environment=Environment(torch="2.5.1")), "2.6 is needed"),
        (lambda: uneven(4, 400.0), "too slow on average"),
        (
            lambda: uneven(loaders=[runs.preparing(4, 100.0, explicit=["in_order"])]),
            "chooses in_order itself",
        ),
    ],
    "in-process-loading": [
        (lambda: loading(runs.preparing(2, 80.0)), "more than waiting for them"),
        (lambda: loading(runs.preparing(0)), "already"),
    ],
    "generator-to-loader": [(lambda: loading(runs.preparing(0)), "do not come from")],
    "cache-samples": [
        (lambda: loading(runs.preparing(0, length=10_000_000)), "would be kept"),
        (lambda: loading(runs.preparing(0, iterable=True)), "no indexed samples"),
        (lambda: loading(runs.preparing(0), applied=[KEPT]), "are kept already"),
        (lambda: loading(runs.preparing(0, 50.0, transforms=AUGMENTED)), "the same each time"),
        (generated, "no DataLoader"),
    ],
    "nearer-storage": [(generated, "no DataLoader")],
    "sharded-files": [
        (lambda: loading(runs.fetching(2, 150.0, read_bytes=64 * 8e6)), "sequential already"),
        (lambda: loading(runs.fetching(2, 50.0, read_bytes=6.4e6)), "as fast as from one large"),
        (lambda: loading(runs.fetching(2, 150.0, iterable=True)), "as a stream already"),
        (generated, "no DataLoader"),
    ],
    "faster-decoding": [
        (lambda: loading(runs.preparing(0, dataset="TokenDataset")), "not seen to decode images"),
        (
            lambda: loading(
                runs.preparing(
                    0, 50.0, transforms=[Transform(name="ToTensor", ms_per_sample=0.7, calls=9)]
                )
            ),
            "only",
        ),
        (generated, "no DataLoader"),
    ],
    "dali-loading": [
        (lambda: loading(runs.preparing(0, 50.0, dataset="CIFAR10")), "is no torchvision"),
        (
            lambda: loading(runs.preparing(0, 50.0, **FOLDER | {"transforms": ODD_CHAIN})),
            "DALI has no equal of Lambda, MyTransform",
        ),
        (
            lambda: loading(
                runs.preparing(0, 50.0, **FOLDER | {"transforms": [*CHAIN[1:], TO_TENSOR]})
            ),
            "decoding and resizing are only",
        ),
        (generated, "no DataLoader"),
    ],
    "decode-on-gpu": [
        (lambda: loading(pictures()), "needs an NVIDIA GPU"),
        (lambda: on_gpu(pictures(), 0.1), "computes for 80 % of the step already"),
        (lambda: on_gpu(pictures(dataset="Corpus", transforms=[])), "not seen to decode"),
        (
            lambda: on_gpu(pictures(60.0, transforms=[JITTER[0], *AUGMENTED[1:]] * 2)),
            "decoding and resizing are only",
        ),
        (lambda: gpu({LOADING: 0.5}, loaders=[], input_kind="generator"), "no DataLoader"),
    ],
    "smaller-images": [
        (lambda: shrinking(read=64 * 30e3), "at about the training size it would have"),
        (lambda: shrinking(transforms=CHAIN[1:]), "not seen to shrink"),
        (generated, "no DataLoader"),
    ],
    "raw-pixels": [
        (lambda: loading(pictures(length=1_281_167)), "raw pixels are slower than JPEG"),
        (lambda: loading(pictures(iterable=True)), "not seen to decode indexed"),
        (lambda: loading(pictures(40.0)), "decoding is only"),
        (generated, "no DataLoader"),
    ],
    "ffcv-loader": [
        (lambda: loading(pictures(150.0)), "by its own benchmark FFCV takes 6.61"),
        (lambda: loading(pictures(iterable=True)), "not seen to decode indexed"),
        (generated, "no DataLoader"),
    ],
    "batched-transforms": [
        (lambda: loading(small(600 << 10)), "its own work outweighs the calls"),
        (lambda: loading(small(transforms=AUGMENTED[:1])), "only 0.0 % of making a batch"),
        (lambda: loading(small(batch_size=1, batch_bytes=12 << 10)), "a batch is one sample"),
        (generated, "no DataLoader"),
    ],
    "augment-on-device": [
        (lambda: loading(runs.preparing(4, 60.0, transforms=JITTER)), "no other processor"),
        (
            lambda: on_gpu(runs.preparing(4, 60.0, transforms=JITTER), 0.1),
            "computes for 80 % of the step already",
        ),
        (lambda: on_gpu(pictures()), "transforms that can be moved"),
        (lambda: gpu({LOADING: 0.5}, loaders=[], input_kind="generator"), "no DataLoader"),
    ],
    "tokenise-offline": [
        (lambda: texts(IMAGES), "not made of token ids"),
        (lambda: texts(cpu_ms=2.0), "reading 32,768 finished ids about"),
        (generated, "no DataLoader"),
    ],
    "fewer-threads": [
        (
            lambda: loading(runs.preparing(2), machines=[runs.machine(16)]),
            "fit on 16 cores",
        ),
        (
            lambda: loading(runs.preparing(4), environment=Environment(threads=1)),
            "alone fill",
        ),
    ],
    "smaller-batches": [
        (lambda: handing(batch_bytes=4096), "its size is not what it costs"),
        (
            lambda: handing(
                Batch(shapes=[[64, 3, 224, 224]], dtypes=["uint8"], distinct=1, looked_at=8)
            ),
            "in small types already",
        ),
    ],
    "length-buckets": [
        (lambda: padding(ids(0.05)), "only 5.0 % of what batches hold is padding"),
        (lambda: padding(loaders=[runs.loader(iterable=True)]), "no DataLoader draws"),
        (lambda: padding(loaders=[runs.loader(batch_size=1)]), "a batch is one sample"),
    ],
    "sequence-packing": [
        (lambda: padding(ids(0.05)), "only 5.0 % of what batches hold is padding"),
        (lambda: padding(models=[runs.model(modules={"LSTM": 2})]), "carry its state"),
        (lambda: padding(models=[runs.model(modules={"Linear": 2})]), "no attention was seen"),
    ],
}

NOT_MEASURED: dict[str, list[Make]] = {
    "loader-workers": [
        lambda: loading(runs.loader()),
        lambda: loading(runs.preparing(0), machines=[]),
    ],
    "persistent-workers": [lambda: loading(runs.preparing(2))],
    "deeper-prefetch": [
        lambda: uneven(loaders=[runs.loader(4)]),
        lambda: uneven(step_ms=None),
        lambda: uneven(machines=[]),
        lambda: uneven(loaders=[runs.preparing(4, 100.0, batch_bytes=None)]),
    ],
    "set-epoch": [lambda: sharded_alike(None), generated],
    "out-of-order-batches": [
        lambda: uneven(loaders=[runs.loader(4)]),
        lambda: uneven(environment=Environment()),
    ],
    "in-process-loading": [lambda: loading(runs.loader(2))],
    "generator-to-loader": [lambda: generated(machines=[])],
    "cache-samples": [
        lambda: loading(runs.loader()),
        lambda: loading(runs.preparing(0, batch_bytes=None)),
        lambda: loading(runs.preparing(0), machines=[]),
    ],
    "nearer-storage": [lambda: loading(runs.loader())],
    "sharded-files": [
        lambda: loading(runs.loader()),
        lambda: loading(runs.fetching(2, 150.0, read_bytes=None)),
    ],
    "faster-decoding": [lambda: loading(runs.preparing(0)), lambda: loading(runs.loader())],
    "dali-loading": [
        lambda: loading(runs.preparing(0, dataset="ImageFolder")),
        lambda: loading(runs.preparing(0, 50.0, **FOLDER), machines=[]),
    ],
    "decode-on-gpu": [lambda: on_gpu(runs.loader()), lambda: on_gpu(pictures(transforms=[]))],
    "smaller-images": [
        lambda: loading(pictures()),
        lambda: shrinking(read=None),
        lambda: shrinking(getitem_cpu_ms=None, collate_cpu_ms=None),
    ],
    "raw-pixels": [
        lambda: loading(runs.loader()),
        lambda: loading(pictures(read=None)),
        lambda: loading(pictures(), machines=[]),
    ],
    "ffcv-loader": [lambda: loading(runs.loader()), lambda: loading(pictures(900.0, None))],
    "batched-transforms": [
        lambda: loading(small(batch_bytes=None)),
        lambda: loading(small(transforms=[])),
        lambda: loading(runs.loader()),
    ],
    "augment-on-device": [lambda: on_gpu(runs.loader()), lambda: on_gpu(runs.preparing(4))],
    "tokenise-offline": [
        lambda: texts(None),
        lambda: loading(runs.loader(), batch=TOKENS),
    ],
    "fewer-threads": [
        lambda: loading(runs.preparing(2), machines=[]),
        lambda: loading(runs.preparing(2), environment=Environment()),
    ],
    "smaller-batches": [lambda: handing(batch_bytes=None), lambda: handing(None)],
    "length-buckets": [
        lambda: padding(None),
        lambda: padding(TOKENS),
    ],
    "sequence-packing": [
        lambda: padding(None),
        lambda: padding(models=[]),
        lambda: padding(models=[runs.model()]),
    ],
}
