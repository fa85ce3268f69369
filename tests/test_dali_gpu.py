"""Images decoded and transformed on a GPU: the same batches, on the device."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("torchvision", reason="torchvision is not installed")
pytest.importorskip("nvidia.dali", reason="DALI is not installed")

import dali_cases  # noqa: E402
from dali_cases import apart  # noqa: E402
from torch.utils.data import DataLoader, Dataset  # noqa: E402
from torchvision import transforms  # noqa: E402
from torchvision.datasets import ImageFolder  # noqa: E402

from speedprof.mitigations.applied.process import Process  # noqa: E402
from speedprof.mitigations.dali import memory  # noqa: E402

# A GPU's decoder rounds otherwise than libjpeg-turbo, by a level or two; then resizing.
MEAN, NEARLY_ALL = 1.5, 6.0
CHAINS: dict[str, list[Any]] = {
    "centre crop": [transforms.CenterCrop(96)],
    "resize": [transforms.Resize((96, 80))],
    "turn": [transforms.CenterCrop(96), transforms.RandomRotation((30, 30))],
    "jitter": [transforms.CenterCrop(96), transforms.ColorJitter((1.2, 1.2), (0.8, 0.8))],
    "levels": [transforms.CenterCrop(96), transforms.RandomEqualize(1.0)],
    "sharpness": [transforms.CenterCrop(96), transforms.RandomAdjustSharpness(1.8, 1.0)],
    "some": [transforms.CenterCrop(96), transforms.RandomApply([transforms.GaussianBlur(5)], 1.0)],
}
on_gpu = partial(dali_cases.applied, gpu=True, validation=True)


def test_without_a_gpu_the_loader_stays_and_says_so(root: Path, process: Process) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    one = on_gpu(process)
    loader = DataLoader(ImageFolder(str(root), transforms.ToTensor()), 4, shuffle=True)
    assert type(iter(loader)).__name__ == "_SingleProcessDataLoaderIter"
    assert one.effects == 0
    assert "there is none" in one.notes[0]


@pytest.mark.gpu
@pytest.mark.parametrize("kind", CHAINS)
def test_batches_are_on_the_device_and_near_torchvisions(
    kind: str, root: Path, process: Process
) -> None:
    chain = transforms.Compose([*CHAINS[kind], transforms.ToTensor()])
    torch.manual_seed(0)
    bare = list(DataLoader(ImageFolder(str(root), chain), 6))
    one = on_gpu(process)
    found = list(DataLoader(ImageFolder(str(root), chain), 6))
    assert one.effects == 1, one.notes
    for (images, labels), (theirs, their_labels) in zip(found, bare, strict=True):
        assert images.device.type == "cuda"
        assert torch.equal(labels, their_labels)
        differences = apart(images.cpu(), theirs)
        if kind != "some":  # its width is drawn
            assert float(differences.mean()) < MEAN
            assert float(differences[int(0.99 * len(differences))]) < NEARLY_ALL


@pytest.mark.gpu
def test_policies_run_on_the_device(root: Path, process: Process) -> None:
    chain = transforms.Compose(
        [
            transforms.RandomResizedCrop(96),
            transforms.RandomHorizontalFlip(),
            transforms.TrivialAugmentWide(),
            transforms.ToTensor(),
            transforms.Normalize((0.5, 0.5, 0.5), (0.2, 0.2, 0.2)),
            transforms.RandomErasing(),
        ]
    )
    one = on_gpu(process)
    loader = DataLoader(ImageFolder(str(root), chain), 6, shuffle=True)
    for _epoch in range(10):
        assert all(images.is_cuda for images, _labels in loader)
    assert len(one.notes) == 1, one.notes


@pytest.mark.gpu
def test_samples_of_a_data_set_of_its_own_are_transformed_on_the_device(
    root: Path, process: Process
) -> None:
    folder_of = ImageFolder(str(root))

    class Own(Dataset):  # type: ignore[misc]
        def __init__(self) -> None:
            self.transform = transforms.Compose(
                [transforms.RandomResizedCrop(64), transforms.ToTensor()]
            )

        def __len__(self) -> int:
            return len(folder_of)

        def __getitem__(self, index: int) -> Any:
            image, label = folder_of[index]
            return self.transform(image), label

    one = on_gpu(process)
    assert all(images.is_cuda for images, _labels in DataLoader(Own(), 6, shuffle=True))
    assert one.effects == 1, one.notes


@pytest.mark.gpu
def test_batches_that_are_kept_stay_as_they_were_on_the_device(
    root: Path, process: Process
) -> None:
    on_gpu(process)
    chain = transforms.Compose([transforms.RandomResizedCrop(96), transforms.ToTensor()])
    kept = [
        (images, images.clone())
        for images, _labels in DataLoader(ImageFolder(str(root), chain), 2, shuffle=True)
    ]
    assert all(torch.equal(images, copy) for images, copy in kept)


@pytest.mark.gpu
def test_a_loader_that_pins_memory_gives_batches_on_the_device(
    root: Path, process: Process
) -> None:
    on_gpu(process)
    chain = transforms.Compose([transforms.CenterCrop(96), transforms.ToTensor()])
    loader = DataLoader(ImageFolder(str(root), chain), 6, pin_memory=True)
    assert all(images.is_cuda for images, _labels in loader)


@pytest.mark.gpu
def test_batches_made_in_parts_are_the_same_on_the_device(
    root: Path, process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_gpu(process)
    chain = transforms.Compose([transforms.CenterCrop(96), transforms.ToTensor()])
    whole = [images for images, _labels in DataLoader(ImageFolder(str(root), chain), 6)]
    monkeypatch.setattr(memory, "SHARE", 1 << 60)
    parts = [images for images, _labels in DataLoader(ImageFolder(str(root), chain), 6)]
    assert all(torch.equal(a, b) for a, b in zip(parts, whole, strict=True))
