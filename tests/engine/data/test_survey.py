"""A bounded look at a split: spread over it, the same each time, and without a trace in training."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from kdtui.engine.data import build_dataset, survey
from kdtui.engine.data.protocol import SampleFacts, SegmentationDataset
from kdtui.engine.data.source import Source
from kdtui.engine.data.survey import overlap, sample
from kdtui.errors import DataError
from kdtui.profile import FolderData, SyntheticData
from tests.engine.data.makers import HEIGHT, WIDTH, annotation, coco, instances, label_folder, labels, picture


def folder(root: Path) -> FolderData:
    return FolderData(kind="folder", root=str(root), height=HEIGHT, width=WIDTH)


@pytest.mark.parametrize("total", [1, 63, 64, 65, 1000, 5001])
def test_a_sample_is_spread_over_the_split_and_the_same_each_time(total: int) -> None:
    chosen = sample(total, 64)
    assert chosen == sample(total, 64) == sorted(set(chosen)) and len(chosen) == min(64, total)
    assert max(np.diff([-1, *chosen, total])) <= 2 * -(-total // 64)


def test_what_a_survey_counts(tmp_path: Path) -> None:
    data = label_folder(tmp_path, count=4)
    Image.new("RGB", (WIDTH, HEIGHT), (9, 9, 9)).save(tmp_path / "images/val/1.png")
    Image.fromarray(np.full((HEIGHT, WIDTH), 11, np.uint8)).save(tmp_path / "masks/val/2.png")
    Image.fromarray(np.full((HEIGHT, WIDTH), 1, np.uint8)).save(tmp_path / "masks/val/3.png")
    found = survey(build_dataset(data, "val"))
    quarter = HEIGHT * WIDTH // 4
    assert (found.checked, found.total, found.classes) == (4, 4, ("sky", "road", "traffic sign"))
    assert found.pixels == (2 * quarter, 2 * quarter + 4 * quarter, 2 * quarter) and found.ignored == 6 * quarter
    assert found.share(1) == 0.6
    assert (found.flat_images, found.void_masks, found.one_class_masks) == (("1.png",), ("2.png",), ("3.png",))
    assert found.seen == (0, 177) and found.stored[:3] == (0, 177, 255)


def test_masks_are_counted_at_their_own_size(tmp_path: Path) -> None:
    label_folder(tmp_path, count=1)
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[7, 7] = 2  # nearest at 16x16 may not meet it
    Image.fromarray(mask).save(tmp_path / "masks/val/0.png")
    small = FolderData(kind="folder", root=str(tmp_path), height=16, width=16)
    assert survey(build_dataset(small, "val")).pixels == (HEIGHT * WIDTH - 1, 0, 1)


def test_twelve_bits_are_seen_as_the_file_holds_them(tmp_path: Path) -> None:
    label_folder(tmp_path, count=1)
    (tmp_path / "images/val/0.png").unlink()
    twelve = np.linspace(3, 4095, HEIGHT * WIDTH).reshape(HEIGHT, WIDTH).astype(np.uint16)
    Image.fromarray(twelve).save(tmp_path / "images/val/0.tiff")
    found = survey(build_dataset(folder(tmp_path), "val"))
    assert found.stored[:3] == (3, 4095, 65535) and found.seen == (0, 15)
    assert found.described() == "all 1 checked, values 3 to 4095 in 16-bit files"


def test_every_unusable_sample_is_counted_and_the_first_named(tmp_path: Path) -> None:
    label_folder(tmp_path, count=9)
    for number in (2, 5, 7):
        (tmp_path / f"images/val/{number}.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"3 of 9 checked samples cannot be used, of 9 in total[\s\S]*[257]\.png"):
        survey(build_dataset(folder(tmp_path), "val"))


class Large(SegmentationDataset):
    """Samples that cost many pixels to read."""

    def read(self, index: int) -> Source:
        return Source(np.zeros((16, 16, 3), np.uint8), np.zeros((16, 16), np.uint8))

    def look(self, index: int) -> SampleFacts:
        return super().look(index)._replace(pixels=20_000_000)

    def describe(self) -> str:
        return ""


def test_a_survey_of_large_samples_ends_early() -> None:
    data = SyntheticData(height=16, width=16)
    large = Large(data, "val", classes=("a", "b"), count=500, stride=1, seed=0)
    assert survey(large).checked == 11


def test_a_survey_leaves_generators_and_the_cache_alone(tmp_path: Path) -> None:
    dataset = build_dataset(label_folder(tmp_path), "train")
    states = torch.random.get_rng_state(), str(np.random.get_state())
    survey(dataset)
    assert torch.equal(torch.random.get_rng_state(), states[0])
    assert str(np.random.get_state()) == states[1]
    for path in (tmp_path / "images/train").iterdir():
        path.unlink()
    with pytest.raises(DataError, match="missing"):
        dataset[0, 0]


def test_crops_are_looked_at_inside_their_boxes(tmp_path: Path) -> None:
    data = coco(tmp_path, instances(annotation(1, (10, 5, 20, 30)), annotation(2, (25, 5, 20, 30))))
    found = survey(build_dataset(data, "val"))
    assert found.pixels == (0, 1200, 0) and found.one_class_masks == (
        "seven.png annotation 1",
        "seven.png annotation 2",
    )
    assert found.stored[:2] == (15, 132)


def test_the_same_bytes_in_both_splits_are_found_whatever_their_names(tmp_path: Path) -> None:
    data = label_folder(tmp_path, count=3)
    for number in range(3):
        Image.effect_noise((WIDTH, HEIGHT), 90).save(tmp_path / f"images/train/{number}.png")
        Image.effect_noise((WIDTH, HEIGHT), 90).save(tmp_path / f"images/val/{number}.png")

    def common() -> tuple[str, ...]:
        return overlap(build_dataset(data, "train"), build_dataset(data, "val")).names

    assert common() == ()
    (tmp_path / "images/val/1.png").write_bytes((tmp_path / "images/train/2.png").read_bytes())
    assert common() == ("1.png",)


def test_one_file_named_by_both_splits_is_found(tmp_path: Path) -> None:
    data = coco(tmp_path, instances(annotation(1, (10, 5, 20, 30))))  # both of its splits are one file
    common = overlap(build_dataset(data, "train"), build_dataset(data, "val"))
    assert common.names == ("seven.png",) and common.checked == 1


def test_drawn_samples_have_no_files_to_share() -> None:
    data = SyntheticData(train_samples=30, val_samples=30)
    assert overlap(build_dataset(data, "train"), build_dataset(data, "val")).names == ()
    assert survey(build_dataset(data, "train")).checked == 16


def test_a_mask_that_cannot_be_used_is_met_by_the_survey(tmp_path: Path) -> None:
    label_folder(tmp_path, count=30)
    values = labels()
    values[0, 0] = 77
    Image.fromarray(values).save(tmp_path / "masks/val/17.png")
    assert picture().size == (WIDTH, HEIGHT)
    with pytest.raises(DataError, match=r"17\.png[\s\S]*77"):
        survey(build_dataset(folder(tmp_path), "val"))
