"""Decode images on the GPU.

Does: decodes JPEG with nvJPEG, by NVIDIA DALI (`device="mixed"`) or `torchvision.io.decode_jpeg`,
    and resizes, crops and normalises there, too.
Helps: image training whose CPU cannot decode as fast as an idle GPU could train.
Avoid: a GPU that is busy already (decoding takes its time); small images; GPUs without nvJPEG;
    models that leave no device memory.
Safety: rounding. Decoders and resizers differ by a few grey levels; a few files (CMYK,
    progressive) fall back to the CPU.
Place: system. The same images, decoded by another processor.
Source: NERSC's tutorial (A100): from 85 samples/s to 577 where loading was the limit, but 12.4 to
    13.3 where the GPU was 97.8 % busy; NVIDIA on DALI: 1.3x to 3x with one GPU, 3x to 10x on hosts
    with several (a vendor's claim).
"""

from __future__ import annotations

from speedprof.advisor.finding import Finding
from speedprof.advisor.loading import preparation_cpu_ms
from speedprof.advisor.shares import number, percent, step_ms
from speedprof.mitigations.card import remedy
from speedprof.mitigations.gains import shares
from speedprof.mitigations.loading.images import decoder_speed, decoding, makes_images
from speedprof.mitigations.loading.production import cheaper, worth_rewriting
from speedprof.mitigations.loading.spare_device import no_time_to_spare
from speedprof.mitigations.mitigation import Fit, Gain, Misfit
from speedprof.profiler.run import Loader, Run

WORTH = 0.3  # of making a batch: below it another pipeline does not repay its trouble
# Of the decoding and resizing, what the CPU is rid of. At least half: with `mixed` it still parses
# and reads, and where the GPU has no decoder of its own it also does the Huffman part.
LEAST, MOST = 0.5, 0.95
ON_DEVICE = 0.1  # of the time freed comes back on the GPU, where no roof tells: assumed
BY_HAND = """\
# {where}: pip install nvidia-dali-cuda120, then
@pipeline_def(batch_size={batch}, num_threads=4, device_id=0)
def batches():
    files, labels = fn.readers.file(file_root=DATA, random_shuffle=True, name="train")
    images = fn.decoders.image(files, device="mixed")
    return fn.resize(images, resize_shorter=256), labels  # then crop and normalise

for batch in DALIClassificationIterator(batches(), reader_name="train"):"""


def assess(run: Run, finding: Finding) -> Fit | Misfit:
    loader = run.training_loader()
    if loader is None:
        return Misfit(reason="no DataLoader makes the batches")
    hindrance = _hindrance(run, loader)
    if hindrance is not None:
        return Misfit(reason=hindrance)
    part = decoding(loader)
    if part is None:
        return Misfit(reason="the CPU time of a batch, or of its transforms, was not measured")
    if part < WORTH:
        return Misfit(reason=f"decoding and resizing are only {percent(part)} of making a batch")
    back = _comes_back(run, finding, loader, part)
    if back >= LEAST:
        return Misfit(reason=f"decoding on this GPU takes {percent(back)} of what the CPU saves")
    return Fit(
        reason=(
            f"decoding and resizing are {percent(part)} of the "
            f"{number(preparation_cpu_ms(loader) or 0)} ms of CPU that a batch costs, and the GPU "
            f"computes for {percent(run.share('compute') or 0)} of the step only"
        ),
        gain=_gain(run, finding, part, back),
        by_hand=BY_HAND.format(
            where=loader.where or "where the DataLoader is made", batch=loader.batch_size
        ),
    )


def _hindrance(run: Run, loader: Loader) -> str | None:
    if run.device != "cuda":
        return f"nvJPEG needs an NVIDIA GPU, the training runs on {run.device}"
    if not makes_images(loader):
        return f"{loader.dataset} was not seen to decode images"
    return no_time_to_spare(run)


def _comes_back(run: Run, finding: Finding, loader: Loader, part: float) -> float:
    """Return which part (0..1) of the time saved the GPU spends on decoding instead."""
    rate, mean = decoder_speed(run, "dali-gpu", "torchvision-gpu"), step_ms(run)
    saved = LEAST * part * finding.share * (mean or 0.0)
    if rate is None or saved <= 0:
        return ON_DEVICE
    samples = (loader.batch_size or 1) * (run.batches_per_step or 1.0)
    return min(1e3 * samples / rate / saved, 1.0)


def _gain(run: Run, finding: Finding, part: float, back: float) -> Gain:
    least, most = LEAST * part, MOST * part
    gain = cheaper(run, finding, (1.0 - back) * least, most, what="preparing batches")
    return Gain(
        low=gain.low,
        high=gain.high,
        model=f"{gain.model}; {shares(LEAST, MOST)} of decoding leave the CPU, and at most "
        f"{percent(back)} of that comes back on the GPU",
    )


MITIGATION = remedy(
    "decode-on-gpu",
    __doc__,
    treats=(("data_loading", "cpu_preparation"),),
    assess=worth_rewriting(assess),
    conflicts=("faster-decoding", "ffcv-loader", "raw-pixels"),
    after=("loader-workers", "smaller-images"),
)
