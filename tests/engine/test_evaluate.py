from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from kdtui.engine.data import IGNORE_INDEX, PixelFormat
from kdtui.engine.evaluate import palette, write_panels
from kdtui.palette import class_colours


def test_one_picture_per_image_with_disagreement_in_red(tmp_path: Path) -> None:
    images = torch.zeros(2, 3, 4, 6)
    masks = torch.zeros(2, 4, 6, dtype=torch.long)
    masks[:, :, 5] = IGNORE_INDEX
    student = torch.zeros(2, 4, 6, dtype=torch.uint8)
    student[1, 0, 0] = student[1, 0, 5] = 1  # the second where no label is
    teacher = np.zeros((2, 4, 6), np.uint8)
    write_panels(
        tmp_path / "epoch", images, masks, student, teacher, colours=class_colours([""] * 3), pixels=PixelFormat()
    )
    names = sorted(path.name for path in (tmp_path / "epoch").iterdir())
    assert names == ["000.png", "001.png"]
    with Image.open(tmp_path / "epoch" / "001.png") as picture:
        pixels = np.asarray(picture)
    assert pixels.shape == (4, 5 * 6 + 4 * 2, 3)
    disagreement = pixels[:, -6:]
    red = (disagreement == [255, 60, 60]).all(axis=2)
    assert red.sum() == 1
    assert red[0, 0]


def test_colours_are_laid_over_the_image(tmp_path: Path) -> None:
    images = torch.full((1, 3, 4, 6), 1.0)
    truth, student = torch.zeros(2, 1, 4, 6, dtype=torch.long)
    truth[..., :3], student[..., :2] = 1, 1
    colours = [(0, 0, 0), (200, 100, 0)]
    write_panels(tmp_path, images, truth, student, None, colours=colours, pixels=PixelFormat(), overlay=True)
    with Image.open(tmp_path / "000.png") as picture:
        image, labelled, predicted, differing = np.split(np.asarray(picture), [8, 16, 24], axis=1)
    shown, inside, outside = (one[0, 0].astype(int) for one in (image, labelled, labelled[:, 3:]))
    assert inside == pytest.approx(0.7 * np.array(colours[1]) + 0.3 * shown.mean(), abs=1)
    assert outside == pytest.approx(np.full(3, 0.4 * shown.mean()), abs=1)
    assert (predicted[:, 2] == outside).all() and (predicted[:, 1] == inside).all()
    assert ((differing == [255, 60, 60]).all(axis=2).nonzero()[1] == 2).all()


def test_without_a_teacher_its_panel_is_left_out(tmp_path: Path) -> None:
    masks = torch.zeros(1, 4, 6, dtype=torch.long)
    write_panels(
        tmp_path, torch.zeros(1, 3, 4, 6), masks, masks, None, colours=class_colours([""] * 3), pixels=PixelFormat()
    )
    with Image.open(tmp_path / "000.png") as picture:
        assert picture.size == (4 * 6 + 3 * 2, 4)


def test_every_class_has_a_colour_of_its_own() -> None:
    colours = palette(class_colours([""] * 20))[:20]
    assert len({tuple(colour) for colour in colours.tolist()}) == 20
