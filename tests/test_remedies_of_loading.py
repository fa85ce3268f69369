"""What remedies of loading, copies and padding promise, and where they hold back."""

from __future__ import annotations

import ast

import pytest
import runs
from case_runs import COPYING, LOADING, gpu, loading
from msgspec.structs import replace
from remedies_copies import APPLIES as OF_COPIES
from remedies_copies import floats
from remedies_loading import APPLIES, IMAGES, padding, pictures, small, uneven

from speedprof.advisor.finding import Finding
from speedprof.advisor.judgement import judge
from speedprof.mitigations.catalogue import advise, find
from speedprof.mitigations.loading.production import REWRITE, cheaper
from speedprof.mitigations.loading.smaller_batches import shrinking
from speedprof.mitigations.mitigation import Fit, Misfit
from speedprof.profiler.roofs.roofs import Decoding, Level, Roofs, Transfers
from speedprof.profiler.run import Batch, Compute, Environment, Rank, Run

# set-epoch mends what is trained, not how fast: it treats no bottleneck and gains nothing
MINE = {name: case for name, case in (APPLIES | OF_COPIES).items() if name != "set-epoch"}
SHELL = ("dali-loading", "nearer-storage")
REWRITES = (
    "cache-samples", "nearer-storage", "sharded-files", "faster-decoding", "decode-on-gpu",
    "raw-pixels", "tokenise-offline", "batched-transforms", "augment-on-device", "ffcv-loader",
    "smaller-images",
)  # fmt: skip


def finding(name: str, run: Run) -> Finding:
    phase, cause = find(name).treats[0]
    share = run.share(phase) or 0.0
    rule = "cpu-oversubscription" if name == "fewer-threads" else "rule"
    return Finding(
        rule=rule, phase=phase, cause=cause, share=share, low=max(0.0, share - 0.02),
        high=share + 0.02, evidence="it was seen",
    )  # fmt: skip


def fit(name: str, run: Run) -> Fit:
    answer = find(name).assess(run, finding(name, run))
    assert isinstance(answer, Fit), answer
    assert answer.gain is not None
    return answer


def misfit(name: str, run: Run) -> str:
    answer = find(name).assess(run, finding(name, run))
    assert isinstance(answer, Misfit), answer
    return answer.reason


def level(best: float) -> Level:
    return Level(best=best, median=best, worst=best, repeats=3)


def decoders(**images_per_s: float) -> Roofs:
    rates = {name.replace("_", "-"): level(rate) for name, rate in images_per_s.items()}
    measured = Decoding(width=500, height=400, bytes=110_000, images_per_s=rates)
    return Roofs(machine="this", node="node0", cores=2.0, decoding=measured)


def on_gpu(share: float = 0.5, **facts: object) -> Run:
    return gpu({LOADING: share, "host": 0.1}, loaders=[pictures()], **facts)


@pytest.mark.parametrize("name", MINE)
def test_a_range_is_no_wider_than_a_factor_of_two_and_a_half(name: str) -> None:
    gain = fit(name, MINE[name]()).gain
    assert gain is not None
    assert gain.high <= 2.5 * gain.low + 1e-9


@pytest.mark.parametrize("name", [name for name in MINE if name not in SHELL])
def test_the_lines_to_write_are_python(name: str) -> None:
    text = fit(name, MINE[name]()).by_hand
    body = "\n    pass" if text.rstrip().endswith(":") else ""
    ast.parse(text + body)


@pytest.mark.parametrize("name", REWRITES)
def test_samples_are_not_stored_or_made_in_another_way_for_a_small_share(name: str) -> None:
    run = APPLIES[name]()
    little = replace(run, phases=runs.phases(**{LOADING: REWRITE / 2}))
    assert "do not repay" in misfit(name, little)


@pytest.mark.parametrize("share", [0.05, 0.2, 0.5, 0.9])
def test_workers_promise_no_more_than_a_step_without_its_wait(share: float) -> None:
    run = loading(runs.preparing(4, 600.0), share, machines=[runs.machine(16)])
    gain = fit("loader-workers", run).gain
    assert gain is not None
    assert gain.high <= 1.0 / (1.0 - share - 0.02) + 1e-9


@pytest.mark.parametrize("workers", [0, 4])
def test_cheaper_batches_gain_by_amdahl_where_the_work_is_all_in_sight(workers: int) -> None:
    """Without workers, or with idle ones, half of the work frees half of its share."""
    run = loading(runs.preparing(workers, 50.0), 0.5)
    seen = finding("faster-decoding", run)
    gain = cheaper(run, seen, 0.5, 0.5, what="preparing batches")
    assert gain.low == pytest.approx(1.0 / (1.0 - 0.48 / 2))
    assert gain.high == pytest.approx(1.0 / (1.0 - 0.52 / 2))


def test_cheaper_batches_shrink_the_whole_step_of_workers_that_are_never_idle() -> None:
    run = loading(runs.preparing(4, 395.0), 0.5)
    gain = cheaper(run, finding("faster-decoding", run), 0.2, 0.4, what="preparing batches")
    assert gain.low == pytest.approx(1.0 / (1.0 - 0.48 * 0.2))
    assert gain.high == pytest.approx(1.0 / 0.6)


def test_a_shallower_queue_for_want_of_memory_promises_less() -> None:
    deep = fit("deeper-prefetch", uneven())
    tight = fit("deeper-prefetch", uneven(machines=[runs.machine(8, memory_bytes=70 << 20)]))
    assert deep.parameters == {"prefetch_factor": 8}
    assert tight.parameters == {"prefetch_factor": 4}
    assert deep.gain is not None
    assert tight.gain is not None
    assert tight.gain.low < deep.gain.low


def test_workers_that_are_too_slow_on_average_get_no_longer_queue() -> None:
    """More depth only moves the wait: what they need more of is speed."""
    slow = uneven(2, 190.0, loaders=[runs.preparing(2, 190.0)])
    told = {one.mitigation.name for one in advise(slow, judge(slow))}
    assert not {"deeper-prefetch", "out-of-order-batches"} & told


@pytest.mark.parametrize("version", ["2.6.0", "2.10.0a0+git1234", "3.0"])
def test_the_order_may_be_given_up_since_torch_2_6(version: str) -> None:
    run = uneven(environment=Environment(torch=version))
    assert fit("out-of-order-batches", run).parameters == {"in_order": False}


def test_a_version_that_cannot_be_read_is_no_version() -> None:
    run = uneven(environment=Environment(torch="nightly"))
    assert "was not recorded" in misfit("out-of-order-batches", run)


def test_nothing_moves_to_a_gpu_that_computes_already() -> None:
    """A published profile, 97.8 % busy: decoding on the GPU gave 7 % there."""
    busy = on_gpu(0.1)
    assert "80 %" in misfit("decode-on-gpu", busy)
    assert not {"decode-on-gpu", "augment-on-device"} & {
        one.mitigation.name for one in advise(busy, judge(busy))
    }


def test_a_gpu_that_decodes_slowly_takes_back_what_the_cpu_saves() -> None:
    fast = fit("decode-on-gpu", on_gpu(roofs=decoders(dali_gpu=20_000.0)))
    slow = on_gpu(roofs=decoders(dali_gpu=1_000.0))
    assert fast.gain is not None
    assert fast.gain.low > 1.1
    assert "of what the CPU saves" in misfit("decode-on-gpu", slow)


def test_a_faster_cpu_decoder_is_taken_at_its_measured_speed() -> None:
    plain = fit("faster-decoding", APPLIES["faster-decoding"]())
    run = replace(APPLIES["faster-decoding"](), roofs=decoders(pillow=100.0, torchvision=400.0))
    measured = fit("faster-decoding", run)
    assert plain.gain is not None
    assert measured.gain is not None
    assert measured.gain.low > plain.gain.low


def test_raw_pixels_are_advised_only_where_memory_holds_them() -> None:
    fits = loading(pictures(read=64 * 60e3, length=2_000))
    assert "from a disk" in misfit(
        "raw-pixels", replace(fits, machines=[runs.machine(2, memory_bytes=1 << 30)])
    )
    assert fit("raw-pixels", fits)


def test_larger_samples_are_not_transformed_in_batches() -> None:
    """Measured: at 3 x 112 x 112 floats a batch is slower, because it leaves the cache."""
    assert fit("batched-transforms", loading(small(48 << 10)))
    assert "outweighs" in misfit("batched-transforms", loading(small(147 << 10)))


@pytest.mark.parametrize(
    ("shapes", "dtypes", "ratio"),
    [
        ([[64, 3, 224, 224], [64]], ["float32", "int64"], 4.0),
        ([[64, 512]], ["float32"], 1.0),
        ([[64, 512]], ["float64"], 2.0),
        ([[64, 512]], ["int64"], 2.0),
        ([[64, 3, 224, 224]], ["uint8"], 1.0),
        ([], ["float32"], 1.0),
    ],
)
def test_a_batch_shrinks_by_what_its_types_allow(
    shapes: list[list[int]], dtypes: list[str], ratio: float
) -> None:
    batch = Batch(shapes=shapes, dtypes=dtypes, distinct=1, looked_at=1)
    run = loading(runs.loader(2), batch=batch)
    assert shrinking(run, runs.loader(2)) == pytest.approx(ratio, abs=0.05)


def test_pinning_is_worth_what_the_machines_own_copies_are() -> None:
    copies = runs.copies(pageable_ms=20.0, blocking_ms=20.0, bytes=100e6)
    slow = gpu({COPYING: 0.3}, copies=copies)
    transfers = Transfers(bytes=1 << 26, pinned_gb_per_s=level(50.0))
    roofs = Roofs(machine="this", node="node0", cores=16.0, transfers=transfers)
    assumed, measured = fit("pin-memory", slow), fit("pin-memory", replace(slow, roofs=roofs))
    assert assumed.gain is not None
    assert measured.gain is not None
    assert measured.gain.low == pytest.approx(1.0 / (1.0 - 0.28 * 0.9))
    assert measured.gain.low > assumed.gain.low


def test_pageable_batches_are_pinned_before_anything_overlaps() -> None:
    assert "pin-memory" in find("non-blocking-copies").after
    assert "pin-memory" in find("prefetch-to-device").after


def test_images_that_are_converted_on_the_host_are_sent_as_they_are() -> None:
    told = fit("normalise-on-device", floats(batch=IMAGES))
    assert "PILToTensor" in told.by_hand


def test_padding_costs_nothing_in_the_optimizer() -> None:
    whole = fit("length-buckets", padding())
    updating = Compute(bound="arithmetic", optimizer_ms=50.0)
    half = fit("length-buckets", replace(padding(), compute=updating))
    assert whole.gain is not None
    assert half.gain is not None
    assert half.gain.high < whole.gain.high


def test_no_room_on_the_device_means_no_batch_ahead() -> None:
    full = Rank(
        rank=0, node="node0", pid=1, device="cuda", steps=200, step_ms=None, phases=None,
        peak_device_bytes=99, device_memory_bytes=100,
    )  # fmt: skip
    run = replace(OF_COPIES["prefetch-to-device"](), ranks=[full])
    assert "99 % full" in misfit("prefetch-to-device", run)
