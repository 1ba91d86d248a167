"""Small data sets in the layouts that users have: each with its table ``[data]`` and the labels that it must give."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from kdtui.engine.data import IGNORE_INDEX
from tests.engine.data.makers import tiff_file

HEIGHT, WIDTH = 32, 48
Labels = NDArray[np.uint8]


class Miniature(NamedTuple):
    """A data set below a folder.

    Attributes:
        profile: The shipped profile that describes it; empty if ``keys`` do.
        keys: The table ``[data]``, or what it changes in the profile.
        classes: Number of classes.
        labels: The labels of every sample.
    """

    profile: str
    keys: dict[str, Any]
    classes: int
    labels: Labels


def image(seed: int) -> Image.Image:
    """A picture that differs from others."""
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8))


def stripes(*values: int) -> NDArray[np.uint8]:
    """One horizontal stripe of each value."""
    return np.repeat(np.array(values, np.uint8), -(-HEIGHT // len(values)))[:HEIGHT, None].repeat(WIDTH, axis=1)


def saved(picture: Image.Image | NDArray[Any], path: Path, **options: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    (picture if isinstance(picture, Image.Image) else Image.fromarray(picture)).save(path, **options)


def indexed(values: NDArray[np.uint8], palette: list[int]) -> Image.Image:
    """A palette image."""
    picture = Image.frombytes("P", (WIDTH, HEIGHT), values.tobytes())
    picture.putpalette(palette)
    return picture


def cityscapes(root: Path) -> Miniature:
    """Two cities; 34 numbers, of which 19 are classes, and other files of the same names."""
    for split, cities in (("train", ("aachen", "bochum")), ("val", ("frankfurt",))):
        for city in cities:
            for number in range(2):
                name = f"{city}_000000_{number:06d}"
                saved(image(number), root / f"leftImg8bit/{split}/{city}/{name}_leftImg8bit.png")
                masks = root / f"gtFine/{split}/{city}"
                saved(stripes(7, 26, 0, 33), masks / f"{name}_gtFine_labelIds.png")
                saved(stripes(0, 1, 2, 3), masks / f"{name}_gtFine_instanceIds.png")
                saved(image(number), masks / f"{name}_gtFine_color.png")
                (masks / f"{name}_gtFine_polygons.json").write_text("{}")
    return Miniature("cityscapes", {}, 19, stripes(0, 13, IGNORE_INDEX, 18))


def voc(root: Path) -> Miniature:
    """Lists, and masks with a palette; images without a mask, as most of VOC's."""
    lists = root / "ImageSets/Segmentation"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("2007_000032\n2007_000039\n2007_000063\n")
    (lists / "val.txt").write_text("2007_000033\n")
    for name in ("2007_000032", "2007_000039", "2007_000063", "2007_000033"):
        saved(image(1), root / f"JPEGImages/{name}.jpg")
        palette = [(37 * number) % 256 for number in range(768)]
        saved(indexed(stripes(0, 15, 255, 20), palette), root / f"SegmentationClass/{name}.png")
    saved(image(2), root / "JPEGImages/2008_000001.jpg")
    return Miniature("voc", {}, 21, stripes(0, 15, IGNORE_INDEX, 20))


def ade20k(root: Path) -> Miniature:
    """Folders with other names than the splits; 0 is no class, 1 to 150 are."""
    for split, folder, count in (("train", "training", 3), ("val", "validation", 1)):
        for number in range(count):
            saved(image(number), root / f"images/{folder}/ADE_{split}_{number:08d}.jpg")
            saved(stripes(0, 1, 13, 150), root / f"annotations/{folder}/ADE_{split}_{number:08d}.png")
    return Miniature("ade20k", {}, 150, stripes(IGNORE_INDEX, 0, 12, 149))


def carvana(root: Path) -> Miniature:
    """Binary masks as GIF and JPEG with a suffix; no validation split, several pictures of each car."""
    for car in range(3):
        for view in range(2):
            name = f"car{car}_{view:02d}"
            saved(image(view), root / f"train/{name}.jpg")
            mask = Image.fromarray(stripes(0, 255))
            saved(mask, root / f"train_masks/{name}_mask.{'gif' if view else 'png'}")
    keys = {
        "images": "train/{name}.jpg",
        "masks": "train_masks/{name}_mask.*",
        "labels": "binary",
        "holdout": 0.34,
        "group": r"/(car\d+)_",
    }
    return Miniature("", keys, 2, stripes(0, 1))


def colours(root: Path) -> Miniature:
    """Masks in the colours of ``classes.txt``, as RGB and as palette images."""
    root.mkdir(parents=True, exist_ok=True)
    (root / "classes.txt").write_text("0 sky #0080FF\n1 road #804080\n2 car #000080\nignore_index 9 void #000000\n")
    table = np.array([[0, 128, 255], [128, 64, 128], [0, 0, 128], [0, 0, 0]], np.uint8)
    for split in ("train", "val"):
        for number in range(3):
            mask = Image.fromarray(table[stripes(0, 1, 2, 3)])
            saved(image(number), root / f"images/{split}/{number}.png")
            saved(mask.quantize(4) if number == 1 else mask, root / f"masks/{split}/{number}.png")
    return Miniature("", {"labels": "colour"}, 3, stripes(0, 1, 2, IGNORE_INDEX))


def list_of_pairs(root: Path) -> Miniature:
    """One CSV of pairs, in which image and mask have nothing in common; names that are not ASCII."""
    rows = ["image,mask"]
    for number in range(6):
        saved(image(number), root / f"bücher/{number}/photo {number}.tif")
        saved(stripes(3, 5, 8), root / f"labels/{number * 7}.bmp")
        rows.append(f"bücher/{number}/photo {number}.tif,labels/{number * 7}.bmp")
    (root / "pairs.csv").write_text("\n".join(rows), encoding="utf-8")
    keys = {"list": "pairs.csv", "holdout": 0.3, "label_map": {"a": [3, 8], "b": 5}}
    return Miniature("", keys, 2, stripes(0, 1, 0))


def microscopy(root: Path) -> Miniature:
    """Grey images of 12 bits in 16-bit TIFFs, in folders of plates; a binary mask."""
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        for plate in ("p1", "p2"):
            for number in range(2):
                saved(
                    rng.integers(0, 4096, (HEIGHT, WIDTH), dtype=np.uint16), root / f"raw/{split}/{plate}/w{number}.tif"
                )
                saved(stripes(0, 255), root / f"cells/{split}/{plate}/w{number}.png")
    keys: dict[str, Any] = {"images": "raw/{split}/**/{name}", "masks": "cells/{split}/**/{name}", "labels": "binary"}
    keys |= {"channels": 1, "value_range": [0, 4095], "mean": "dataset", "std": "dataset"}
    return Miniature("", keys, 2, stripes(0, 1))


def bands(root: Path) -> Miniature:
    """Images of six bands of floating-point numbers in TIFFs."""
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        for number in range(3):
            path = root / f"images/{split}/{number}.tiff"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(
                tiff_file(rng.random((HEIGHT, WIDTH, 6), dtype=np.float32), planar=number == 1, deflated=True)
            )
            saved(stripes(0, 1, 2), root / f"masks/{split}/{number}.png")
    keys = {"channels": 6, "value_range": [0.0, 1.0], "classes": ["a", "b", "c"]}
    return Miniature("", keys, 3, stripes(0, 1, 2))


MINIATURES: dict[str, Callable[[Path], Miniature]] = {
    make.__name__: make for make in (cityscapes, voc, ade20k, carvana, colours, list_of_pairs, microscopy, bands)
}
