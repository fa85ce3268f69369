"""Train an image classifier on JPEG files, the way most people first write it.

    python examples/imagefolder.py                          # 0 workers: waits for its data
    python examples/imagefolder.py --workers 2              # the loader's own processes
    speedprof run examples/imagefolder.py --workers 0       # where does each step's time go?

The files are drawn once, into --data: as large and as busy as photographs, each with one of six
shapes in it, so that there is something to learn. Nothing is downloaded.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFilter
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision import datasets, models, transforms

SHAPES = {"disc": 40, "triangle": 3, "square": 4, "pentagon": 5, "star": -5, "cross": -4}


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Train an image classifier on JPEG files.")
    parser.add_argument("--data", type=Path, default=Path("demo-data/shapes"))
    parser.add_argument(
        "--files", type=int, default=360, help="JPEGs to draw, where there are none"
    )
    parser.add_argument("--model", default="mobilenet_v3_small", help="any torchvision classifier")
    parser.add_argument("--image-size", type=int, default=112)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--steps", type=int, help="stop after this many, whatever the epoch")
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--pin-memory", action="store_true")
    parser.add_argument("--amp", action="store_true", help="bfloat16 autocast")
    parser.add_argument("--channels-last", action="store_true")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def background(random: np.random.Generator, size: tuple[int, int]) -> Image.Image:
    """Draw clouds with grain, as hard on a decoder as a photograph."""
    clouds = random.integers(0, 255, (8, 10, 3), dtype=np.uint8)
    picture = Image.fromarray(clouds).resize(size, Image.Resampling.BICUBIC)
    grain = random.normal(0, 18, (size[1], size[0], 1))
    return Image.fromarray(np.clip(np.asarray(picture) + grain, 0, 255).astype(np.uint8))


def outline(
    random: np.random.Generator, corners: int, size: tuple[int, int]
) -> list[tuple[float, float]]:
    """Return a regular polygon somewhere in the picture; negative corners make a star."""
    points = 2 * abs(corners) if corners < 0 else corners
    reach = random.uniform(0.25, 0.42) * min(size)
    centre = [random.uniform(reach, side - reach) for side in size]
    radii = np.where(np.arange(points) % 2, 0.4 if corners < 0 else 1.0, 1.0) * reach
    angles = random.uniform(0, 2 * np.pi) + np.arange(points) * 2 * np.pi / points
    return list(
        zip(centre[0] + radii * np.cos(angles), centre[1] + radii * np.sin(angles), strict=True)
    )


def draw_data(folder: Path, files: int, seed: int) -> None:
    """Fill the folder with one sub-folder of JPEGs a class."""
    random = np.random.default_rng(seed)
    for index in range(files):
        name, corners = list(SHAPES.items())[index % len(SHAPES)]
        size = (int(random.integers(900, 1201)), int(random.integers(700, 901)))
        picture = background(random, size)
        colour = tuple(int(level) for level in random.integers(0, 255, 3))
        ImageDraw.Draw(picture).polygon(
            outline(random, corners, size), fill=colour, outline="white"
        )
        (folder / name).mkdir(parents=True, exist_ok=True)
        picture.filter(ImageFilter.SMOOTH).save(folder / name / f"{index:05d}.jpg", quality=92)


def make_loader(options: argparse.Namespace) -> DataLoader[tuple[Tensor, Tensor]]:
    augment = transforms.Compose(
        [
            transforms.RandomResizedCrop(options.image_size, scale=(0.5, 1.0)),
            transforms.RandomHorizontalFlip(),
            transforms.ColorJitter(brightness=0.2, contrast=0.2, saturation=0.2, hue=0.05),
            transforms.ToTensor(),
            transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ]
    )
    return DataLoader(
        datasets.ImageFolder(str(options.data), augment),
        batch_size=options.batch_size,
        shuffle=True,
        drop_last=True,
        num_workers=options.workers,
        pin_memory=options.pin_memory,
    )


def make_model(options: argparse.Namespace) -> nn.Module:
    model = models.get_model(options.model, weights=None, num_classes=len(SHAPES))
    model = model.to(options.device)
    if options.channels_last:
        model = model.to(memory_format=torch.channels_last)
    return torch.compile(model) if options.compile else model


def train(options: argparse.Namespace) -> None:
    loader, model = make_loader(options), make_model(options)
    optimizer = torch.optim.AdamW(model.parameters(), lr=options.lr)
    loss_of = nn.CrossEntropyLoss(label_smoothing=0.05)
    steps = 0
    for epoch in range(options.epochs):
        began, total, correct, seen = time.perf_counter(), 0.0, 0, 0
        for batch in loader:
            images, labels = (part.to(options.device, non_blocking=True) for part in batch)
            if options.channels_last:
                images = images.contiguous(memory_format=torch.channels_last)
            with torch.autocast(options.device, torch.bfloat16, enabled=options.amp):
                scores = model(images)
                loss = loss_of(scores, labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(labels)
            correct += int((scores.argmax(1) == labels).sum())
            seen += len(labels)
            steps += 1
            if steps == options.steps:
                break
        rate = seen / (time.perf_counter() - began)
        print(
            f"epoch {epoch + 1}: loss {total / seen:.3f}, "
            f"accuracy {correct / seen:.0%}, {rate:.0f} images/s"
        )
        if steps == options.steps:
            return


def main() -> None:
    options = parse()
    torch.manual_seed(options.seed)
    if not any(options.data.glob("*/*.jpg")):
        print(f"drawing {options.files} JPEGs into {options.data}")
        draw_data(options.data, options.files, options.seed)
    train(options)


if __name__ == "__main__":
    main()
