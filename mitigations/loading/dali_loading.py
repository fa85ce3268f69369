"""Let DALI make the images of the script's own loader.

Does: keeps the DataLoader, its sampler, its data set and the structure of its batches, and lets
    NVIDIA DALI's threads read, decode, crop and normalise the files (`speedprof run --apply
    dali-loading`).
Helps: image folders (ImageFolder and its like) with torchvision's usual transforms, whose CPU time
    goes into decoding and resizing; most where there are no workers yet.
Avoid: transforms without an equal in DALI (the report names them; the loader then stays as it is);
    loaders that keep up already. Of a data set that opens its samples itself DALI does the
    transform alone, beside threads that run its Python: less is gained, or nothing.
Safety: reseeded. The same samples in the same order, but random transforms draw from a seed of
    their own; pixels differ by rounding, too: JPEG and PNG decode bit for bit alike, resizing
    differs by a grey level (by nine for 1 of 100 pixels of large JPEGs, which are shrunk while
    they are decoded), and clipping between the steps of ColorJitter is left out.
Place: system. The same images, made by another program.
Source: NERSC's tutorial (A100): 85 samples/s with 2 workers, 577 with DALI, which decodes on the
    GPU, too; on CPUs alone no isolated published figure. Measured for this card on two cores:
    docs/dali.md.
"""

from __future__ import annotations

from dataclasses import replace

from speedprof.advisor.finding import Finding
from speedprof.advisor.loading import preparation_cpu_ms
from speedprof.advisor.shares import number, percent
from speedprof.mitigations import facts
from speedprof.mitigations.card import remedy
from speedprof.mitigations.gains import Pipeline, careful_step, ceiling, hopeful_step
from speedprof.mitigations.loading.images import decoder_speed, decoding
from speedprof.mitigations.loading.production import WIDEST, worth_rewriting
from speedprof.mitigations.mitigation import Fit, Gain, Misfit
from speedprof.profiler.run import Loader, Run

DATASETS = (
    "ImageFolder", "DatasetFolder", "DTD", "FGVCAircraft", "Flowers102", "Food101", "SUN397",
    "Imagenette", "RenderedSST2", "StanfordCars",
    "Subset", "ConcatDataset",  # of one of these, as random_split and + make them
)  # fmt: skip
TRANSLATED = (
    "Resize", "RandomResizedCrop", "CenterCrop", "RandomCrop", "RandomHorizontalFlip",
    "RandomVerticalFlip", "RandomRotation", "RandomAffine", "GaussianBlur", "RandomErasing",
    "ColorJitter", "Grayscale", "RandomGrayscale", "ToTensor", "PILToTensor", "ToImage",
    "ToDtype", "ConvertImageDtype", "Normalize", "ToPureTensor", "RGB", "Pad", "RandomInvert",
    "RandomPosterize", "RandomSolarize", "RandomAutocontrast", "RandomEqualize",
    "RandomAdjustSharpness", "AutoAugment", "RandAugment", "TrivialAugmentWide", "RandomApply",
    "RandomChoice", "RandomOrder",
)  # fmt: skip
# How many times less CPU a batch costs, where no roof tells of the decoders: the image example's
# chain on two cores of an AMD EPYC, DALI 2.4 against torchvision 0.29.
LEAST, MOST = 1.1, 1.4
# Auto-augment policies cost DALI more than Pillow: each image has its own operation, and DALI goes
# over the pixels several times for it. Whole chains, `benchmarks/dali.py --chains`: 0.91 to 1.01.
POLICIES = ("AutoAugment", "RandAugment", "TrivialAugmentWide")
LEAST_WITH_POLICY, MOST_WITH_POLICY = 0.8, 1.1
WORTH = 0.2  # decoding and resizing, of making a batch
GAINED = 1.03
BY_HAND = """\
# {where}: nothing to write; pip install 'speedprof[dali]', then
speedprof run --apply dali-loading ..."""


def assess(run: Run, _finding: Finding) -> Fit | Misfit:
    loader = run.training_loader()
    if loader is None:
        return Misfit(reason="no DataLoader makes the batches")
    hindrance = _hindrance(loader)
    if hindrance is not None:
        return Misfit(reason=hindrance)
    part, pipeline = decoding(loader), facts.pipeline(run, loader)
    if part is None or pipeline is None:
        return Misfit(reason="what a batch costs to make, or how many cores, was not measured")
    if part < WORTH:
        return Misfit(reason=f"decoding and resizing are only {percent(part)} of making a batch")
    least, most = _cheaper(run, loader)
    gain = _gain(run, pipeline, least, most)
    if gain.high < GAINED:
        return Misfit(
            reason="the loader keeps up, or the cores are busy with the rest of the step"
        )
    return Fit(
        reason=(
            f"decoding and resizing are {percent(part)} of the "
            f"{number(preparation_cpu_ms(loader) or 0)} ms of CPU that a batch costs, and DALI "
            "knows every transform that was seen"
        ),
        gain=gain,
        by_hand=BY_HAND.format(where=loader.where or "where the DataLoader is made"),
    )


def _hindrance(loader: Loader) -> str | None:
    """Return why DALI does not take this loader over, as far as the record tells."""
    if loader.dataset not in DATASETS:
        return f"{loader.dataset} is no torchvision ImageFolder or DatasetFolder"
    if not loader.transforms:
        return "its transforms were not recorded"
    unknown = sorted({one.name for one in loader.transforms} - set(TRANSLATED))
    return f"DALI has no equal of {', '.join(unknown)}" if unknown else None


def _cheaper(run: Run, loader: Loader) -> tuple[float, float]:
    """Return by which factors a batch gets cheaper, by this machine's own decoders if known."""
    if any(one.name in POLICIES for one in loader.transforms):
        return LEAST_WITH_POLICY, MOST_WITH_POLICY
    dali, theirs = decoder_speed(run, "dali"), decoder_speed(run, "pillow")
    if dali is None or theirs is None:
        return LEAST, MOST
    ratio = dali / theirs
    return max(LEAST * min(ratio, 1.0), 0.9), MOST * max(ratio, 1.0)


def _gain(run: Run, pipeline: Pipeline, least: float, most: float) -> Gain:
    """Return the step when all cores make batches beside it, each that much cheaper.

    Both sides by the same model where workers make batches already, so that its errors cancel.
    """
    makers = max(int(pipeline.cores), 1)
    slow = careful_step(_by_dali(pipeline, least), makers)
    fast = hopeful_step(_by_dali(pipeline, most), makers)
    before = (pipeline.now_ms, pipeline.now_ms)
    if pipeline.workers:
        before = (
            careful_step(pipeline, pipeline.workers),
            hopeful_step(pipeline, pipeline.workers),
        )
    share = run.phases["data_loading"].high if run.phases else 1.0
    high = min(max(before[0] / slow, before[1] / fast), ceiling(share))
    low = min(before[0] / slow, before[1] / fast, high)
    return Gain(
        low=low,
        high=min(high, WIDEST * low),
        model=f"making a batch costs {least:.2f} to {most:.2f} times less CPU, on "
        f"{pipeline.cores:.3g} cores beside the training: {pipeline.now_ms:.1f} -> {fast:.1f} to "
        f"{slow:.1f} ms",
    )


def _by_dali(pipeline: Pipeline, cheaper: float) -> Pipeline:
    return replace(pipeline, cpu_ms=pipeline.cpu_ms / cheaper, handoff_ms=0.0)


MITIGATION = remedy(
    "dali-loading",
    __doc__,
    treats=(("data_loading", "cpu_preparation"),),
    assess=worth_rewriting(assess),
    conflicts=(
        "decode-on-gpu",
        "faster-decoding",
        "ffcv-loader",
        "raw-pixels",
        "loader-workers",
        "in-process-loading",
        "persistent-workers",
        "deeper-prefetch",
        "cache-samples",
    ),
)
