"""Teachers that were trained with other images or classes than the run has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn
from torch.nn import functional as F

from kdtui.engine.adapted import Adapted, grouped
from kdtui.engine.class_map import class_groups, described_groups
from kdtui.engine.data import PixelFormat
from kdtui.engine.models import compose, outputs_of
from kdtui.engine.taps import tapped
from kdtui.engine.teacher import load_teacher, notes_of
from kdtui.engine.teacher_input import Conversion
from kdtui.errors import TeacherError
from kdtui.profile import Teacher
from tests.engine.networks import unet
from tests.engine.runs import fit, make_run

IMAGENET = PixelFormat((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
HALF = PixelFormat((0.5, 0.4, 0.3), (0.25, 0.2, 0.1))
VALUES = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))  # as in a picture, 0 to 1
LUMINANCE = torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)


def normalised(values: Tensor, pixels: PixelFormat) -> Tensor:
    ordered = values.flip(1) if pixels.bgr else values
    mean, std = (torch.tensor(numbers).view(1, -1, 1, 1) for numbers in (pixels.mean, pixels.std))
    return (ordered - mean) / std


@pytest.mark.parametrize(
    "target",
    [HALF, PixelFormat((0.0,) * 3, (1 / 255,) * 3), PixelFormat(HALF.mean, HALF.std, bgr=True)],
    ids=["other statistics", "bytes", "BGR"],
)
def test_images_are_what_the_teacher_would_have_read_from_the_picture(target: PixelFormat) -> None:
    converted = Conversion(IMAGENET, target)(normalised(VALUES, IMAGENET))
    torch.testing.assert_close(converted, normalised(VALUES, target), rtol=1e-4, atol=1e-4)


def test_grey_and_colour_are_converted() -> None:
    grey = PixelFormat((0.4,), (0.2,))
    luminance = (VALUES * LUMINANCE).sum(dim=1, keepdim=True)
    to_grey = Conversion(IMAGENET, grey)(normalised(VALUES, IMAGENET))
    torch.testing.assert_close(to_grey, normalised(luminance, grey), rtol=1e-4, atol=1e-5)
    to_colour = Conversion(grey, IMAGENET)(normalised(luminance, grey))
    torch.testing.assert_close(to_colour, normalised(luminance.expand(-1, 3, -1, -1), IMAGENET), rtol=1e-4, atol=1e-5)


def test_equal_formats_need_no_conversion() -> None:
    assert Conversion(IMAGENET, IMAGENET).is_identity
    assert not Conversion(IMAGENET, HALF).is_identity
    assert not Conversion(IMAGENET, PixelFormat(IMAGENET.mean, IMAGENET.std, bgr=True)).is_identity


def test_padding_keeps_the_mean_colour_of_the_teacher() -> None:
    padded = F.pad(normalised(VALUES, IMAGENET), (0, 3, 0, 2))
    padded[:, :, 4, 4] = 0  # a pixel of the mean colour within the image
    converted = Conversion(IMAGENET, HALF)(padded)
    assert not converted[:, :, 8:].any() and not converted[..., 8:].any()
    assert converted[:, :, :8, :8].abs().sum(dim=1).all()


def test_summed_probabilities_equal_the_mapped_ones() -> None:
    logits = torch.randn(2, 6, 3, 4)
    groups = [[3], [0, 5], [1]]
    ours = grouped(logits, groups).softmax(dim=1)
    theirs = logits.softmax(dim=1)
    summed = torch.stack([theirs[:, group].sum(dim=1) for group in groups], dim=1)
    torch.testing.assert_close(ours, summed / summed.sum(dim=1, keepdim=True))


THEIRS = ("road", "sidewalk", "car", "sky")


@pytest.mark.parametrize(
    ("class_map", "what", "named"),
    [
        ({"roda": "ground"}, "the teacher has no class of this name", "did you mean road?"),
        ({"4": "ground"}, "the teacher has no class of this name", "0 to 3"),
        ({"road": "grund"}, "the data have no class of this name", "did you mean ground?"),
        ({"road": "ground"}, "leaves classes of the data without", "thing"),
        ({"road": "ground", "0": "ground", "car": "thing"}, "class of the teacher twice", "0"),
    ],
)
def test_an_invalid_class_map_is_one_message(class_map: dict[str, str], what: str, named: str) -> None:
    with pytest.raises(TeacherError, match=what) as refused:
        class_groups(class_map, THEIRS, 4, ("ground", "thing"), where="FILE")
    assert named in f"{refused.value.message} {refused.value.hint}"


def test_names_and_numbers_of_classes_are_the_same() -> None:
    by_name = class_groups(
        {"car": "thing", "road": "ground", "sidewalk": "ground"}, THEIRS, 4, ("ground", "thing"), where=""
    )
    by_name_alike = class_groups({"Car": "THING", "Road": "ground"}, THEIRS, 4, ("ground", "thing"), where="")
    assert by_name_alike == [[0], [2]]
    by_number = class_groups({"2": "thing", "0": "ground", "1": "ground"}, (), 4, ("ground", "thing"), where="")
    assert by_name == by_number == [[0, 1], [2]]


def test_a_group_of_classes_is_described_whole_or_with_its_number_of_classes() -> None:
    theirs = (*(f"a rather long name of a class {place}" for place in range(8)), "car")
    assert described_groups([[0, 1, 2], [8]], theirs, ("ground", "thing")).startswith(
        f"classes of the teacher were mapped: {' + '.join(theirs[:3])} -> ground, car -> thing; dropped: "
    )
    many = described_groups([[*range(8)], [8]], theirs, ("ground", "thing"))
    assert many.endswith(f"{theirs[5]} + … (8 names) -> ground, car -> thing")
    assert described_groups([[0]], ("x" * 61,), ("ground",)).endswith(f" {'x' * 59}… -> ground")


def load(
    path: Path, network: nn.Module, *, classes: int = 4, names: tuple[str, ...] = (), **settings: Any
) -> nn.Module:
    torch.save(network.state_dict(), path)
    loaded, _ = load_teacher(
        path, teacher=Teacher(**settings), task="semantic", classes=classes, names=names, pixels=IMAGENET
    )
    return loaded


def test_settings_of_the_teacher_change_what_it_sees_and_answers(tmp_path: Path) -> None:
    original = unet().eval()
    plain = load(tmp_path / "a.pth", original)
    assert not isinstance(plain, Adapted) and not notes_of(plain)
    images = normalised(torch.rand(1, 3, 32, 48), IMAGENET)
    class_map = {"0": "ground", "1": "ground", "3": "thing"}
    loaded = load(
        *(tmp_path / "a.pth", original),
        classes=2,
        names=("ground", "thing"),
        mean=HALF.mean,
        std=HALF.std,
        bgr=True,
        scale=0.5,
        class_map=class_map,
    )
    with torch.inference_mode():
        answer = loaded(images)
        half = F.interpolate(
            normalised(
                (images * torch.tensor(IMAGENET.std).view(1, 3, 1, 1) + torch.tensor(IMAGENET.mean).view(1, 3, 1, 1)),
                PixelFormat(HALF.mean, HALF.std, bgr=True),
            ),
            (16, 24),
            mode="bilinear",
            antialias=True,
        )
        expected = F.interpolate(grouped(original(half), [[0, 1], [3]]), (32, 48), mode="bilinear")
    assert answer.shape == (1, 2, 32, 48)
    torch.testing.assert_close(answer, expected, rtol=1e-3, atol=1e-3)
    notes = "\n".join(notes_of(loaded))
    assert all(part in notes for part in ("BGR, mean 0.5, 0.4, 0.3", "0.5 times", "0 + 1 -> ground", "3 -> thing"))


def test_a_hierarchical_teacher_can_teach_its_unions(tmp_path: Path) -> None:
    original = unet().eval()
    torch.save(original.state_dict(), tmp_path / "a.pth")
    settings = Teacher(
        task="hierarchical",
        classes=("background", "target", "other"),
        class_map={"background": "ground", "target": "thing", "other": "thing"},
    )
    loaded, _ = load_teacher(
        tmp_path / "a.pth", teacher=settings, task="semantic", classes=2, names=("ground", "thing"), pixels=IMAGENET
    )
    images = torch.rand(1, 3, 32, 32)
    with torch.inference_mode():
        ours = outputs_of(loaded, loaded(images), "semantic").main.softmax(dim=1)
        theirs = compose(original(images), "hierarchical").main.softmax(dim=1)
    torch.testing.assert_close(ours[:, 0], theirs[:, 0])


def test_features_cover_the_images_without_padding_at_any_scale(tmp_path: Path) -> None:
    loaded = load(tmp_path / "a.pth", unet("resnet18"), scale=1.5)
    images = torch.rand(1, 3, 20, 24)
    with torch.inference_mode():
        raw, features = tapped(loaded, images, ["encoder.2", "decoder"])
    assert raw.shape[-2:] == (20, 24)
    assert features["decoder"].shape[-2:] == (30, 36)
    assert features["encoder.2"].shape[-2:] == (8, 9)


def test_a_grey_teacher_sees_the_luminance(tmp_path: Path) -> None:
    original = unet(in_channels=1).eval()
    loaded = load(tmp_path / "a.pth", original, mean=[0.4], std=[0.2])
    with torch.inference_mode():
        answer = loaded(normalised(VALUES, IMAGENET))
        luminance = normalised((VALUES * LUMINANCE).sum(dim=1, keepdim=True), PixelFormat((0.4,), (0.2,)))
        torch.testing.assert_close(answer, original(luminance), rtol=1e-3, atol=1e-4)
    assert "grey" in "\n".join(notes_of(loaded))


@pytest.mark.parametrize(
    ("channels", "settings", "what"),
    [
        (4, {}, "another number of channels"),
        (3, {"mean": [0.5, 0.5], "std": [0.5]}, r"teacher\.mean does not match the input"),
        (1, {"mean": [0.5], "std": [0.5, 0.5, 0.5]}, r"teacher\.std does not match the input"),
        (1, {"bgr": True}, "three input channels can take BGR"),
    ],
)
def test_input_that_cannot_be_converted_is_refused(
    tmp_path: Path, channels: int, settings: dict[str, Any], what: str
) -> None:
    with pytest.raises(TeacherError, match=what):
        load(tmp_path / "a.pth", unet(in_channels=channels), **settings)


def test_a_class_map_of_a_hierarchical_run_is_refused(tmp_path: Path) -> None:
    torch.save(unet().state_dict(), tmp_path / "a.pth")
    names = ("background", "target", "other")
    teacher = Teacher(class_map={"0": "background", "1": "target", "2": "other"})
    with pytest.raises(TeacherError, match="semantic tasks only"):
        load_teacher(tmp_path / "a.pth", teacher=teacher, task="hierarchical", classes=3, names=names)


def test_one_channel_may_be_mapped() -> None:
    network = nn.Conv2d(3, 1, 1)
    adapted = Adapted(network, task="semantic", groups=[[1], [0]])
    images = torch.rand(1, 3, 4, 4)
    with torch.inference_mode():
        torch.testing.assert_close(adapted(images)[:, 0], network(images)[:, 0])


def test_mean_and_std_belong_together() -> None:
    for key in ("mean", "std"):
        with pytest.raises(ValidationError, match="without"):
            Teacher.model_validate({key: [0.5]})


def test_another_input_of_the_same_teacher_is_evaluated_anew(tmp_path: Path) -> None:
    torch.save(unet().state_dict(), tmp_path / "a.pth")
    for number, settings in enumerate(({}, {"scale": 2.0}, {"scale": 2.0})):
        teacher = {"checkpoint": str(tmp_path / "a.pth"), "task": "hierarchical"} | settings
        changes: dict[str, Any] = {"teacher": teacher, "distillation": {"enabled": True}, "training__epochs": 1}
        assert fit(make_run(tmp_path / "runs", name=f"run{number}", **changes)) == "finished"
    assert len(list((tmp_path / "runs" / ".cache" / "teachers").glob("*.json"))) == 2
