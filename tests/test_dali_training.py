"""A whole training with images by DALI: its losses lie where other seeds' losses lie."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("torchvision", reason="torchvision is not installed")
pytest.importorskip("nvidia.dali", reason="DALI is not installed")

import numpy as np  # noqa: E402
from dali_cases import picture  # noqa: E402
from PIL import Image  # noqa: E402
from torch import nn  # noqa: E402
from torch.utils.data import DataLoader, Dataset  # noqa: E402
from torchvision import transforms  # noqa: E402
from torchvision.datasets import ImageFolder  # noqa: E402

from speedprof.mitigations.applied.process import Process  # noqa: E402
from speedprof.profiler.fence import Fence  # noqa: E402

pytestmark = pytest.mark.slow
SEEDS, EPOCHS, EACH = range(6), 5, 24
SPREAD = 4.0  # standard errors of the difference of two means; the seeds are fixed
SCRIPT = Path(__file__).parent.parent / "examples" / "imagefolder.py"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write pictures with bright bars, across or upright or none: something to learn."""
    root = tmp_path_factory.mktemp("bars")
    for label, name in enumerate(("across", "none", "upright")):
        (root / name).mkdir()
        for number in range(EACH):
            pixels = np.asarray(picture(100 * label + number, (96, 80))).copy() // 2
            if name == "across":
                pixels[::12] = 255
            elif name == "upright":
                pixels[:, ::12] = 255
            Image.fromarray(pixels).save(root / name / f"{number}.jpg", quality=92)
    return root


class Listed(Dataset):  # type: ignore[misc]
    """Files in a list, opened by the script's own code."""

    def __init__(self, root: Path, transform: Any) -> None:
        self.samples = ImageFolder(str(root)).samples
        self.transform = transform

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Any:
        path, label = self.samples[index]
        with Image.open(path) as opened:
            return self.transform(opened.convert("RGB")), label


def usual() -> list[Any]:
    return [
        transforms.RandomHorizontalFlip(),
        transforms.ColorJitter(0.2, 0.2, 0.2, 0.05),
    ]


def policies() -> list[Any]:
    return [
        transforms.RandomApply([transforms.RandomSolarize(200, 1.0)], 0.2),
        transforms.RandAugment(1, 4),
    ]


LOADED = {
    "a folder": (lambda root, chain: ImageFolder(str(root), chain), usual),
    "a data set of its own": (Listed, policies),
}


def losses(root: Path, seed: int, kind: str) -> list[float]:
    """Train from a seed; return the mean loss of each epoch."""
    torch.manual_seed(seed)
    random.seed(seed)
    data, between = LOADED[kind]
    chain = transforms.Compose(
        [
            transforms.RandomResizedCrop(48, scale=(0.6, 1.0), ratio=(1.0, 1.0)),
            *between(),
            transforms.ToTensor(),
            transforms.Normalize((0.5, 0.5, 0.5), (0.25, 0.25, 0.25)),
        ]
    )
    loader = DataLoader(data(root, chain), 12, shuffle=True, drop_last=True)
    model = nn.Sequential(
        nn.Conv2d(3, 12, 5, 2), nn.ReLU(), nn.Conv2d(12, 12, 3, 2), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, 3),
    )  # fmt: skip
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    means = []
    for _ in range(EPOCHS):
        found = []
        for images, labels in loader:
            loss = nn.functional.cross_entropy(model(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            found.append(loss.item())
        means.append(sum(found) / len(found))
    return means


@pytest.mark.parametrize("kind", LOADED)
def test_the_loss_curve_lies_within_the_noise_of_seeds(kind: str, root: Path) -> None:
    bare = torch.tensor([losses(root, seed, kind) for seed in SEEDS])
    process = Process(Fence(pytest.fail), {})
    process.apply([{"name": "dali-loading", "parameters": {}}])
    dali = torch.tensor([losses(root, seed, kind) for seed in SEEDS])
    assert process.applied[0].effects == len(SEEDS)
    assert process.undo() == []
    error = ((bare.var(dim=0) + dali.var(dim=0)) / len(SEEDS)).sqrt()
    apart = (bare.mean(dim=0) - dali.mean(dim=0)).abs()
    assert bool((apart <= SPREAD * error).all()), (apart / error).tolist()
    assert float(dali[:, -1].mean()) < 0.6 * float(dali[:, 0].mean())  # it learns
    assert losses(root, 0, kind) == bare[0].tolist() or torch.allclose(
        torch.tensor(losses(root, 0, kind)), bare[0], atol=1e-5
    )


def test_the_image_example_runs_with_dali_in_force_and_the_report_says_so(
    tmp_path: Path,
) -> None:
    data = ["--data", str(tmp_path / "shapes"), "--files", "36", "--batch-size", "4"]
    command = [
        *(sys.executable, "-m", "speedprof", "run", "--no-windows", "--apply", "dali-loading"),
        *(str(SCRIPT), *data, "--epochs", "2", "--image-size", "48"),
    ]
    ended = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300
    )
    assert ended.returncode == 0, ended.stderr
    (told,) = (tmp_path / "speedprof-runs").glob("*/report.json")
    report: dict[str, Any] = json.loads(told.read_text(encoding="utf-8"))
    text = json.dumps(report)
    assert "dali-loading" in text
    assert "RandomResizedCrop as" in text
    assert report["run"]["steps"] == 18
