"""Channels, their order, and normalisation: of the data, of the network, and in what is recorded."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import nn

from kdtui.engine.data import MEAN, STD, PixelFormat, build_dataset, pixel_format, with_statistics
from kdtui.engine.data.images import displayed
from kdtui.engine.data.pixel_format import recorded_format
from kdtui.engine.evaluate import unnormalised
from kdtui.engine.models import input_channels
from kdtui.engine.network import NetworkKind, build_student
from kdtui.errors import ModelError
from kdtui.profile import FolderData, Model, SyntheticData
from kdtui.profile.base import TaskName
from kdtui.profile.network_tables import NetworkTable
from tests.engine.data.makers import label_folder, tiff_file

FORMATS = [
    PixelFormat(),
    PixelFormat(MEAN[::-1], STD[::-1], bgr=True),
    PixelFormat((0.5,), (0.25,)),
    PixelFormat((0.1, 0.2, 0.3, 0.4, 0.5), (0.1, 0.2, 0.3, 0.4, 0.5), bgr=True),
]


@pytest.mark.parametrize("pixels", FORMATS)
def test_what_is_normalised_can_be_restored(pixels: PixelFormat) -> None:
    values = torch.arange(pixels.channels * 6, dtype=torch.uint8).reshape(pixels.channels, 2, 3) * 8
    images = pixels.normalised(values)
    assert images.dtype == torch.float32 and images.is_contiguous()
    for place, channel in enumerate(pixels.order):
        expected = (values[channel].float() / 255 - pixels.mean[place]) / pixels.std[place]
        torch.testing.assert_close(images[place], expected, rtol=1e-5, atol=1e-5)
    assert torch.equal(pixels.in_order(255 * pixels.restored(images)).round().to(torch.uint8), values)
    seen = unnormalised(images, pixels)
    assert np.array_equal(seen, displayed(values.permute(1, 2, 0).numpy())) and seen.shape == (2, 3, 3)
    assert recorded_format(json.loads(json.dumps(asdict(pixels)))) == pixels


@pytest.mark.parametrize(
    "record", [None, "x", {}, {"mean": [0.1], "std": []}, {"mean": ["a"], "std": [0.1]}, {"mean": [0.1], "std": [0.0]}]
)
def test_a_record_that_cannot_be_read_is_none(record: Any) -> None:
    assert recorded_format(record) is None


def test_defaults_are_those_of_imagenet_for_colours() -> None:
    assert pixel_format(SyntheticData()) == PixelFormat()
    assert pixel_format(FolderData(root="x", bgr=True)) == PixelFormat(MEAN[::-1], STD[::-1], bgr=True)
    assert pixel_format(FolderData(root="x", channels=5)) == PixelFormat((0.5,) * 5, (0.25,) * 5)
    own = FolderData(root="x", bgr=True, mean=(0.1, 0.2, 0.3))
    assert pixel_format(own) == PixelFormat((0.1, 0.2, 0.3), STD[::-1], bgr=True)


@pytest.mark.parametrize(
    ("keys", "named"),
    [
        ({"mean": [0.5, 0.5]}, "2 values in mean and 3 channels"),
        ({"channels": 4, "std": [0.5, 0.5, 0.5]}, "3 values in std and 4 channels"),
        ({"std": [0.5, 0.5, 0.0]}, "greater than 0"),
        ({"mean": "imagenet"}, "mean"),
        ({"channels": 1, "bgr": True}, "3 or more channels"),
        ({"channels": 4, "pipeline": 1}, "pipeline = 2"),
        ({"channels": 0}, "channels"),
    ],
)
def test_a_normalisation_that_does_not_fit_is_refused(keys: dict[str, Any], named: str) -> None:
    with pytest.raises(ValidationError) as caught:
        FolderData.model_validate({"root": "x", **keys})
    assert named in str(caught.value)


def test_statistics_of_the_training_images_are_computed_once(tmp_path: Path) -> None:
    data = label_folder(tmp_path, count=4, mean="dataset", std="dataset", bgr=True)
    computed = with_statistics(data)
    train_set = build_dataset(data.model_copy(update={"mean": None, "std": None}), "train")
    values: Any = np.stack([train_set.read(index).image for index in range(4)])
    values = values[..., ::-1] / 255
    assert isinstance(computed.mean, tuple) and isinstance(computed.std, tuple)
    assert np.allclose(computed.mean, values.mean(axis=(0, 1, 2)), atol=1e-4)
    # One channel of the pictures is constant: its deviation is bounded from below.
    assert np.allclose(computed.std, np.maximum(values.std(axis=(0, 1, 2)), 1e-3), atol=1e-4)
    for split in ("train", "val"):
        assert build_dataset(data, split).mean == computed.mean
    for path in (tmp_path / "images/train").iterdir():
        path.write_bytes(b"")
    assert with_statistics(data) == computed
    assert with_statistics(computed) is computed


class ColouredKind(NetworkKind):
    """A kind that does not declare other channels."""

    @property
    def stride(self) -> int:
        return 1

    def build(self, task: TaskName, classes: int, *, download: bool) -> nn.Module:
        return nn.Conv2d(3, classes, 1)


class Coloured(NetworkTable):
    """Its table."""

    implementation = "tests.engine.data.test_pixel_format:ColouredKind"
    kind: str = "coloured"


@pytest.mark.parametrize("channels", [1, 4, 6])
def test_a_student_takes_the_channels_of_the_data(channels: int) -> None:
    table = Model(encoder="resnet18", encoder_depth=3, decoder_channels=(8, 8, 8))
    student = build_student(table, task="semantic", classes=2, channels=channels)
    assert input_channels(student) == channels
    assert student(torch.zeros(2, channels, 16, 16)).shape == (2, 2, 16, 16)


def test_a_kind_of_network_for_colours_only_refuses_other_channels() -> None:
    with pytest.raises(ModelError, match="3 channels only") as caught:
        build_student(Coloured(), task="semantic", classes=2, channels=1)
    assert caught.value.hint == "--set data.channels=3"


def test_the_network_sees_the_order_that_the_profile_says(tmp_path: Path) -> None:
    data = label_folder(tmp_path, count=1)
    plain, swapped = (build_dataset(data.model_copy(update={"bgr": bgr}), "val") for bgr in (False, True))
    torch.testing.assert_close(plain[0, 0].image.flip(0), swapped[0, 0].image)


def test_a_tiff_of_many_channels_is_a_sample(tmp_path: Path) -> None:
    data = label_folder(tmp_path, count=1, channels=5, value_range=[0, 1000], mean=[0.0] * 5, std=[1.0] * 5)
    values = np.full((40, 60, 5), (0, 250, 500, 750, 1000), np.uint16)
    for split in ("train", "val"):
        (tmp_path / f"images/{split}/0.png").write_bytes(tiff_file(values))
    image = build_dataset(data, "val")[0, 0].image
    expected = torch.tensor([0, 0.25, 0.5, 0.75, 1]).view(5, 1, 1)
    torch.testing.assert_close(image[:, :40, :60], expected.expand(5, 40, 60))
