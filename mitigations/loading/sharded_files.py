"""Read large sequential files instead of one small file per sample.

Does: packs the samples once into shards of some hundred megabytes (WebDataset's tar, MosaicML's
    MDS, FFCV's .beton) and reads these from beginning to end.
Helps: millions of small files on network storage or on disks that seek.
Avoid: data that fits into memory (copy it there); large samples, whose files are read sequentially
    already; training that needs an exact shuffle.
Safety: reseeded. The same samples; shuffled by shards and within a buffer, so in another order.
Place: system (nearest action: reorder). The same samples, read in another order.
Source: WebDataset (PyTorch blog, 2020): sequential reading "can speed up I/O tenfold", random
    reads over NFS gave 10 to 20 MB/s a drive where about 150 were possible.
"""

from __future__ import annotations

from speedprof.advisor.finding import Finding
from speedprof.advisor.loading import waiting_ms
from speedprof.advisor.shares import number, size
from speedprof.mitigations.card import remedy
from speedprof.mitigations.loading.images import bytes_per_sample
from speedprof.mitigations.loading.production import cheaper, worth_rewriting
from speedprof.mitigations.mitigation import Fit, Misfit
from speedprof.profiler.run import Loader, Run

SMALL = 2 << 20  # bytes: reading more than that at once is sequential already
SEQUENTIAL = 150e6  # bytes/s that one reader of a disk or of NFS can have (WebDataset's figure)
FASTER = 1.5  # times at least
LEAST = (
    0.5  # of what the speed promises: decoding and unpacking stay, and shards have to be opened
)
BY_HAND = """\
# once, before training (pip install webdataset): shards of 1 GB
with webdataset.ShardWriter("shards/%06d.tar", maxsize=1e9) as shards:
    for number, (path, label) in enumerate(samples):  # ImageFolder has them as .samples
        image = pathlib.Path(path).read_bytes()
        shards.write(dict(__key__=format(number, "09d"), jpg=image, cls=label))
# {where}: instead of {dataset}
dataset = webdataset.WebDataset(
    sorted(glob.glob("shards/*.tar")), shardshuffle=100, nodesplitter=webdataset.split_by_node
).shuffle(5000).decode("pil").to_tuple("jpg", "cls").map_tuple(transform, int)"""


def assess(run: Run, finding: Finding) -> Fit | Misfit:
    loader = run.training_loader()
    if loader is None:
        return Misfit(reason="no DataLoader makes the batches")
    if loader.iterable:
        return Misfit(reason=f"{loader.dataset} is read as a stream already")
    each, waiting = bytes_per_sample(loader), waiting_ms(run, loader)
    if each is None or not waiting:
        return Misfit(reason="what a sample reads, or the wait for it, was not measured")
    if each > SMALL:
        return Misfit(reason=f"a sample reads {size(each)}: that is sequential already")
    speed = (loader.read_bytes or 0.0) / waiting * 1e3
    faster = SEQUENTIAL / max(speed, 1.0)
    if faster < FASTER:
        return Misfit(
            reason=f"one reader gets {size(speed)}/s, as fast as from one large file on most disks"
        )
    most = 1.0 - 1.0 / faster
    return Fit(
        reason=f"a sample reads {size(each)} in {number(waiting / (loader.batch_size or 1))} ms, "
        f"{size(speed)}/s; one large file would be read at about {size(SEQUENTIAL)}/s",
        gain=cheaper(run, finding, LEAST * most, most, what="waiting for storage"),
        by_hand=_by_hand(loader),
    )


def _by_hand(loader: Loader) -> str:
    where = loader.where or "where the data set is made"
    return BY_HAND.format(where=where, dataset=loader.dataset)


MITIGATION = remedy(
    "sharded-files",
    __doc__,
    treats=(("data_loading", "storage"),),
    assess=worth_rewriting(assess),
    conflicts=("nearer-storage", "ffcv-loader"),
)
