"""What a training sample costs: augmentation against albumentations, decoding, the cache, loading processes.

Everything runs on one thread, and processor time is counted. The ways are interleaved in one process and the minimum of
the rounds is taken, so that the ratios hold on a machine that does other work too. albumentations is not a dependency:
without it, the ratios to the first pipeline remain (``pip install 'kdtui[bench]'``).
"""

from __future__ import annotations

import importlib
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

import cv2
import numpy as np
import torch
from PIL import Image

from kdtui.engine.data import MEAN, STD, Batches, SegmentationDataset, Source, build_dataset
from kdtui.engine.data.pictures import open_picture
from kdtui.engine.data.second_pipeline import SecondPipeline
from kdtui.engine.data.source import Size
from kdtui.engine.data.synthetic import draw_crop
from kdtui.engine.data.warp import fitted
from kdtui.profile import FolderData
from kdtui.profile.data_tables import Level

ROUNDS = 9
VIEWS = 16  # of each picture
PICTURES = 4
FILE = Size(360, 480)
CASES: tuple[tuple[Level, Size], ...] = (
    ("heavy", Size(352, 480)),
    ("light", Size(352, 480)),
    ("heavy", Size(160, 128)),
    ("light", Size(160, 128)),
)
FILES = ((FILE, Size(352, 480)), (FILE, Size(160, 128)), (Size(1024, 2048), Size(256, 512)))


def folder(root: Path, size: Size, count: int) -> FolderData:
    """A folder of JPEG pictures and PNG masks."""
    for part in ("images", "masks"):
        (root / part / "train").mkdir(parents=True)
    (root / "classes.txt").write_text("0 a\n1 b\n2 c\n")
    for number in range(count):
        image, labels = draw_crop(number, *size)
        Image.fromarray(image).save(root / f"images/train/{number}.jpg", quality=90)
        Image.fromarray(labels).save(root / f"masks/train/{number}.png")
    return FolderData(root=str(root))


def interleaved(ways: Mapping[str, Callable[[], object]]) -> dict[str, float]:
    """Least processor seconds of each way over rounds in which each runs once; a first round warms up."""
    least = dict.fromkeys(ways, float("inf"))
    for number in range(ROUNDS + 1):
        for name, way in ways.items():
            begin = time.process_time()
            way()
            if number:
                least[name] = min(least[name], time.process_time() - begin)
    return least


def each(make: Callable[[Any], object], keys: Iterable[object]) -> None:
    """Make every sample and keep none: their memory is used again, as in training."""
    for key in keys:
        make(key)


def albumentations_of(level: Level, size: Size) -> Callable[[Source], object] | None:
    """The same operations; None if the package is not installed."""
    try:
        package = importlib.import_module("albumentations")
        to_tensor = importlib.import_module("albumentations.pytorch").ToTensorV2()
    except ImportError:
        return None
    flip = package.HorizontalFlip(p=0.5)
    operations = [flip, package.RandomBrightnessContrast((-0.2, 0.2), (-0.2, 0.2), p=1)]
    if level == "heavy":
        operations = [
            flip,
            package.Affine(
                rotate=(-12, 12), translate_percent=(-0.06, 0.06), scale=(0.85, 1.1), shear={"x": (-4, 4), "y": (0, 0)},
                fill=(124, 116, 104), fill_mask=255, p=0.5,
            ),
            package.RandomResizedCrop(size, scale=(0.35, 1.0), ratio=(1.2, 1.5), p=1),
            package.ColorJitter((0.7, 1.3), (0.7, 1.3), (0.7, 1.3), (0, 0), p=1),
            package.GaussianBlur(blur_limit=(3, 3), sigma_limit=(0.1, 1.2), p=0.2),
            package.ImageCompression(quality_range=(40, 95), p=0.2),
            package.GaussNoise(std_range=(1 / 255, 10 / 255), p=0.2),
        ]  # fmt: skip
    compose = package.Compose([*operations, package.Normalize(MEAN, STD), to_tensor], seed=0)
    return lambda source: compose(image=source.image, mask=source.labels)


def augmentation(base: FolderData, level: Level, size: Size) -> str:
    """Cost of a sample of decoded pictures, from the source to normalised tensors."""
    options = {"height": size.height, "width": size.width, "augmentation": level}
    first, second = (
        build_dataset(base.model_copy(update={**options, "pipeline": pipeline}), "train") for pipeline in (1, 2)
    )
    keys = [(index, view) for index in range(PICTURES) for view in range(VIEWS)]
    sources = [second.read(index) for index in range(PICTURES)]
    if level == "light":  # at the size of the output, at which the cache keeps them
        sources = [fitted(source, size) for source in sources]
    ways: dict[str, Callable[[], object]] = {
        "second": lambda: each(second.__getitem__, keys),
        "first": lambda: each(first.__getitem__, keys),
    }
    if (albumentations := albumentations_of(level, size)) is not None:
        ways["albumentations"] = lambda: each(lambda key: albumentations(sources[key[0]]), keys)
    took = {name: seconds / len(keys) * 1e3 for name, seconds in interleaved(ways).items()}
    others = (
        f"{took['second'] / took[name]:.2f}x of {name.replace('first', 'pipeline 1')} ({took[name]:.2f} ms)"
        for name in ("albumentations", "first")
        if name in took
    )
    return f"{level} {size.height}x{size.width}: {took['second']:.2f} ms, {', '.join(others)}"


def decoding(root: Path, size: Size, needed: Size) -> str:
    """Cost of reading a pair of files."""
    dataset = build_dataset(folder(root, size, PICTURES), "train")
    images = dataset.files()
    ways: dict[str, Callable[[], object]] = {
        "whole": lambda: each(dataset.read, range(PICTURES)),
        "reduced": lambda: each(lambda index: dataset.read_reduced(index, lambda _: needed), range(PICTURES)),
        "image": lambda: each(open_picture, images),
        "reduced image": lambda: each(lambda image: open_picture(image, needed=lambda _: needed), images),
    }
    took = {name: seconds / PICTURES * 1e3 for name, seconds in interleaved(ways).items()}
    return (
        f"JPEG of {size.height}x{size.width} for {needed.height}x{needed.width}: {took['reduced image']:.1f} ms, "
        f"{took['reduced image'] / took['image']:.2f}x of the whole; with its PNG mask {took['reduced']:.1f} ms, "
        f"{took['reduced'] / took['whole']:.2f}x"
    )


def loading(base: FolderData, level: Level, size: Size) -> str:
    """Memory of the cache, and images per second of loading processes."""
    dataset = build_dataset(
        base.model_copy(update={"height": size.height, "width": size.width, "augmentation": level}), "train"
    )
    speeds = {workers: max(speed(dataset, workers) for _ in range(3)) for workers in (0, 2)}
    assert isinstance(dataset._pipeline, SecondPipeline)
    cache = dataset._pipeline.cache
    return (
        f"{level} {size.height}x{size.width}: {speeds[2]:.0f} images/s by 2 processes, {speeds[0]:.0f} by none; "
        f"cache {cache.used / cache.kept / 2**20:.2f} MiB per picture"
    )


def speed(dataset: SegmentationDataset, workers: int) -> float:
    """Images per second after the first batch, when the processes have started."""
    plan = [[(index, view) for index in range(PICTURES)] * 2 for view in range(40)]
    batches = iter(Batches(dataset, plan, workers=workers))
    next(batches)
    begin = time.perf_counter()
    images = sum(len(batch.images) for batch in batches)
    return images / (time.perf_counter() - begin)


def main() -> None:
    """Print a line per case."""
    torch.set_num_threads(1)
    print(f"OpenCV {cv2.__version__}, NumPy {np.__version__}, torch {torch.__version__}, one thread, least of {ROUNDS}")
    with tempfile.TemporaryDirectory() as place:
        base = folder(Path(place) / "pictures", FILE, PICTURES)
        print(f"\none sample of a decoded picture of {FILE.height}x{FILE.width}, to normalised tensors")
        for level, size in CASES:
            print(augmentation(base, level, size))
        if albumentations_of("light", FILE) is None:
            print("albumentations is not installed: pip install 'kdtui[bench]' adds its ratios")
        print("\nreading")
        for number, (size, needed) in enumerate(FILES):
            print(decoding(Path(place) / f"files{number}", size, needed))
        print("\nloading")
        for level, size in CASES:
            print(loading(base, level, size))


if __name__ == "__main__":
    main()
