"""The sets that lie beside a checkout on some machines; their licences forbid carrying them along."""

from __future__ import annotations

from pathlib import Path

import pytest

from kdtui.engine.data import IGNORE_INDEX, build_dataset
from kdtui.profile import CocoData, FolderData

SETS = Path(__file__).resolve().parents[4] / "shared" / "data"


def needs(name: str) -> Path:
    folder = SETS / name
    if not folder.is_dir():
        pytest.skip(f"../shared/data/{name} is not there")
    return folder


def test_people_hold_the_persons_they_should() -> None:
    folder = needs("people")
    splits = {
        split: {
            "images": str(folder / "images"),
            "annotations": str(folder / "annotations" / f"instances_{split}.json"),
        }
        for split in ("train", "val")
    }
    data = CocoData.model_validate({"kind": "coco", "height": 96, "width": 64, "minimum_size": 1, **splits})
    for split, persons in (("train", 1695), ("val", 469)):
        dataset = build_dataset(data, split)
        assert len(dataset) == persons
        seen = {
            int(value) for index in range(0, persons, 40) for value in set(dataset[index, 0].mask.flatten().tolist())
        }
        assert {0, 1, 2} <= seen <= {0, 1, 2, IGNORE_INDEX}


def test_camvid_holds_the_images_it_should() -> None:
    folder = needs("camvid")
    data = FolderData(kind="folder", root=str(folder), height=96, width=128)
    for split, images in (("train", 367), ("val", 101), ("test", 233)):
        dataset = build_dataset(data, split)
        assert len(dataset) == images and len(dataset.classes) == 11
        labels = {value for index in range(0, images, 50) for value in dataset[index, 0].mask.flatten().tolist()}
        assert {0, 1, 3, IGNORE_INDEX} <= labels <= {*range(11), IGNORE_INDEX}
