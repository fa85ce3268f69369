"""The lines that remedies of loading and padding advise do what they say."""

from __future__ import annotations

import pathlib

import pytest
import torch
from case_runs import loading
from remedies_loading import APPLIES, small

from speedprof.advisor.finding import Finding
from speedprof.mitigations.catalogue import find
from speedprof.mitigations.mitigation import Fit
from speedprof.profiler.run import Run


def advised(name: str, run: Run) -> tuple[str, str]:
    """Return the advised lines before and after the place in the script that they name."""
    phase, cause = find(name).treats[0]
    share = run.share(phase) or 0.0
    seen = Finding(
        rule="rule", phase=phase, cause=cause, share=share, low=share, high=share, evidence=""
    )
    fit = find(name).assess(run, seen)
    assert isinstance(fit, Fit), fit
    before, place, after = fit.by_hand.partition("# train.py:41")
    assert place
    return before, "#" + after


def test_buckets_draw_every_sample_once_and_pad_less() -> None:
    lengths = torch.randint(1, 500, (1000,), generator=torch.Generator().manual_seed(0))
    defined: dict[str, object] = {"torch": torch}
    exec(advised("length-buckets", APPLIES["length-buckets"]())[0], defined)
    batches = list(defined["Buckets"](lengths.tolist(), 16))  # type: ignore[operator]
    assert sorted(index for batch in batches for index in batch) == list(range(1000))
    padded = sum(len(batch) * int(lengths[batch].max()) for batch in batches)
    plain = sum(16 * int(lengths[at : at + 16].max()) for at in range(0, 1000, 16))
    assert padded < 0.65 * plain


def test_a_batch_of_tensors_is_the_same_as_its_samples_collated() -> None:
    run = loading(small(4 << 10, dataset="TensorDataset", transforms=[]))
    defined: dict[str, object] = {"torch": torch}
    exec(advised("batched-transforms", run)[0], defined)
    tensors = (torch.arange(40.0).view(10, 4), torch.arange(10))
    whole = torch.utils.data.DataLoader(
        defined["Batched"](*tensors),
        batch_size=3,
        collate_fn=defined["as_it_is"],  # type: ignore
    )
    each = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(*tensors), batch_size=3)
    for one, other in zip(whole, each, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_raw_pixels_are_the_decoded_ones(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = pytest.importorskip("PIL.Image")
    numpy = pytest.importorskip("numpy")
    folders = pytest.importorskip("torchvision.datasets")
    monkeypatch.chdir(tmp_path)
    for label, side in enumerate((30, 50)):
        (tmp_path / "data" / str(label)).mkdir(parents=True)
        noise = numpy.random.default_rng(side).integers(0, 255, (side, 40, 3), dtype="uint8")
        image.fromarray(noise).save(tmp_path / "data" / str(label) / "one.jpg")
    once, later = advised("raw-pixels", APPLIES["raw-pixels"]())
    given = {"torch": torch, "ImageFolder": folders.ImageFolder, "DATA": "data"}
    exec(once, given)
    sizes, labels = torch.load("pixels.index")
    assert labels == [0, 1]
    raw = numpy.memmap("pixels.raw", dtype="uint8", mode="r")
    for index, (wanted, _) in enumerate(folders.ImageFolder("data")):
        self = type("Self", (), {"sizes": sizes, "pixels": raw})
        inside = {"self": self, "index": index, "Image": image}
        exec(later, inside)
        assert inside["image"].tobytes() == wanted.tobytes()


def test_images_are_stored_at_about_the_training_size_and_never_enlarged(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = pytest.importorskip("PIL.Image")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    for name, size in (("large", (800, 600)), ("small", (90, 120))):
        image.new("RGB", size).save(tmp_path / "data" / f"{name}.JPEG")
    once, _ = advised("smaller-images", APPLIES["smaller-images"]())
    exec(once, {"pathlib": pathlib, "Image": image, "DATA": "data", "SMALLER": "smaller"})
    for name, size in (("large", (341, 256)), ("small", (90, 120))):
        with image.open(f"smaller/{name}.JPEG") as stored:
            assert stored.size == size
