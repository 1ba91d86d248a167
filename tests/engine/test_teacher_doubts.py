"""Teachers that load but do not fit the data: each doubt names a setting, which removes it."""

from __future__ import annotations

import dataclasses
import itertools
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor, nn

from kdtui.engine.check import check
from kdtui.engine.data import MEAN, STD, build_dataset
from kdtui.engine.teacher import teacher_of
from kdtui.engine.teacher_doubts import best_assignment, kept_doubts, teacher_doubts
from kdtui.events import Warned
from kdtui.profile import Profile
from kdtui.profile.loading import read_sets
from tests.engine.foreign import export
from tests.engine.runs import TINY, events_of, fit, make_run

CLASSES = ("sky", "road", "car")
COLOURS = torch.tensor([[0.2, 0.4, 0.9], [0.5, 0.45, 0.4], [0.9, 0.2, 0.2]])


class ByColour(nn.Module):
    """Classifies pixels by the nearest colour, as a teacher with the given normalisation would.

    Args:
        mean: Of its normalisation, in its channel order.
        std: Of its normalisation.
        order: The class of each of its channels.
        bgr: Whether it takes blue, green, red.
    """

    def __init__(
        self, mean: Any = MEAN, std: Any = STD, order: tuple[int, ...] = (0, 1, 2), *, bgr: bool = False
    ) -> None:
        super().__init__()
        colours = COLOURS[list(order)]
        colours = (colours.flip(1) if bgr else colours) - torch.tensor(mean)
        centres = colours / torch.tensor(std)
        self.layer = nn.Conv2d(3, 3, 1)
        self.layer.weight.data = 20 * centres[..., None, None]
        self.layer.bias = nn.Parameter(-10 * centres.square().sum(dim=1))

    def forward(self, images: Tensor) -> Tensor:
        """Logits [B,3,H,W]."""
        logits: Tensor = self.layer(images)
        return logits


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Images whose colours are those of their classes, with a little noise."""
    root = tmp_path_factory.mktemp("data")
    (root / "classes.txt").write_text("".join(f"{number} {name}\n" for number, name in enumerate(CLASSES)))
    generator = np.random.default_rng(0)
    for split, number in itertools.product(("train", "val"), range(4)):
        labels = generator.integers(0, 3, (4, 4)).repeat(8, axis=0).repeat(8, axis=1).astype(np.uint8)
        pixels = COLOURS.numpy()[labels] + 0.03 * generator.standard_normal((32, 32, 3))
        for kind, values in (("images", np.clip(255 * pixels, 0, 255).astype(np.uint8)), ("masks", labels)):
            (root / kind / split).mkdir(parents=True, exist_ok=True)
            Image.fromarray(values).save(root / kind / split / f"{number}.png")
    return {"kind": "folder", "root": str(root), "height": 32, "width": 32, "augmentation": "none"}


def profile_of(data: dict[str, Any], path: Path, network: nn.Module, *sets: str) -> Profile:
    export(network, path / "teacher.onnx")
    table, _, mistakes = read_sets(sets)
    assert not mistakes
    teacher = {"checkpoint": str(path / "teacher.onnx")} | table.get("teacher", {})
    training = {**TINY["training"], "batch_size": 4, "epochs": 1}
    tables = {"data": data, "teacher": teacher, "training": training, "distillation": {"enabled": True}}
    return Profile.model_validate(TINY | tables)


def doubts_of(profile: Profile) -> list[Warned]:
    dataset = build_dataset(profile.data, "val")
    teacher = teacher_of(profile, dataset)
    assert teacher is not None
    return teacher_doubts(teacher, dataset)


def settings_in(hint: str | None) -> list[str]:
    words = shlex.split(str(hint).partition(": ")[2])
    assert words[::2] == ["--set"] * (len(words) // 2)
    return words[1::2]


HALF = ((0.5,) * 3, (0.5,) * 3)
BYTES = ((0.0,) * 3, (1 / 255,) * 3)


@pytest.mark.parametrize(
    ("network", "code", "part"),
    [
        (ByColour(order=(0, 2, 1)), "teacher-classes-permuted", "classes road, car of the teacher look exchanged"),
        (ByColour(order=(1, 2, 0)), "teacher-classes-permuted", "classes sky, road, car of the teacher look permuted"),
        (ByColour(*BYTES), "teacher-input-differs", "values from 0 to 255"),
        (ByColour(MEAN[::-1], STD[::-1], bgr=True), "teacher-input-differs", "BGR instead of RGB"),
    ],
    ids=["two classes exchanged", "three classes permuted", "bytes", "BGR"],
)
def test_the_setting_in_the_hint_removes_the_doubt(
    data: dict[str, Any], tmp_path: Path, network: nn.Module, code: str, part: str
) -> None:
    doubts = {doubt.code: doubt for doubt in doubts_of(profile_of(data, tmp_path, network))}
    assert part in doubts[code].message
    assert doubts_of(profile_of(data, tmp_path, network, *settings_in(doubts[code].hint))) == []


def test_a_good_teacher_is_not_doubted(data: dict[str, Any], tmp_path: Path) -> None:
    assert doubts_of(profile_of(data, tmp_path, ByColour())) == []


def test_a_random_teacher_is_near_chance(data: dict[str, Any], tmp_path: Path) -> None:
    network = ByColour()
    network.layer.load_state_dict({"weight": torch.zeros(3, 3, 1, 1), "bias": torch.tensor([1.0, 0.0, 0.0])})
    (doubt,) = doubts_of(profile_of(data, tmp_path, network))
    assert doubt.code == "teacher-near-chance" and "0.3333" in doubt.message


def test_what_a_checkpoint_records_is_not_doubted_because_its_network_is_at_chance(
    data: dict[str, Any], tmp_path: Path
) -> None:
    profile = profile_of(data, tmp_path, ByColour(*BYTES))
    dataset = build_dataset(profile.data, "val")
    teacher = teacher_of(profile, dataset)
    assert teacher is not None
    unknown = [doubt.code for doubt in teacher_doubts(teacher, dataset)]
    assert "teacher-near-chance" in unknown and "teacher-input-differs" in unknown
    report = dataclasses.replace(teacher.report, class_names=list(CLASSES), mean=list(MEAN), std=list(STD), bgr=False)
    recorded = dataclasses.replace(teacher, report=report)
    assert [doubt.code for doubt in teacher_doubts(recorded, dataset)] == ["teacher-near-chance"]
    settings = teacher.settings.model_copy(update={"mean": MEAN, "std": STD})
    overridden = dataclasses.replace(recorded, settings=settings)
    assert "teacher-input-differs" in [doubt.code for doubt in teacher_doubts(overridden, dataset)]


def test_the_check_and_the_run_report_it(data: dict[str, Any], tmp_path: Path) -> None:
    profile = profile_of(data, tmp_path, ByColour(order=(0, 2, 1)))
    assert "teacher-classes-permuted" in [warning["code"] for warning in check(profile)["warnings"]]
    run = make_run(tmp_path / "runs", **profile.model_dump(exclude_none=True, exclude={"name"}))
    fit(run)
    codes = [event.code for event in events_of(run) if isinstance(event, Warned)]
    assert codes.count("teacher-classes-permuted") == 1


def test_the_runs_of_a_store_look_once(data: dict[str, Any], tmp_path: Path) -> None:
    profile = profile_of(data, tmp_path, ByColour(order=(0, 2, 1)))
    dataset = build_dataset(profile.data, "val")
    teacher = teacher_of(profile, dataset)
    assert teacher is not None
    passes: list[object] = []
    teacher.network.register_forward_hook(lambda *arguments: passes.append(arguments))
    folder = tmp_path / ".cache" / "doubts"
    first = kept_doubts(tmp_path, profile, teacher, dataset)
    assert passes and "teacher-classes-permuted" in [doubt.code for doubt in first]
    passes.clear()
    assert [one.to_json() for one in kept_doubts(tmp_path, profile, teacher, dataset)] == [
        one.to_json() for one in first
    ]
    assert not passes
    other = dataclasses.replace(teacher, settings=teacher.settings.model_copy(update={"mean": (0.1, 0.2, 0.3)}))
    kept_doubts(tmp_path, profile, other, dataset)
    assert passes
    for path in folder.iterdir():
        path.write_bytes(b'[{"code": 1}]')
    passes.clear()
    assert [one.code for one in kept_doubts(tmp_path, profile, teacher, dataset)] == [one.code for one in first]
    assert passes


@given(st.integers(1, 6), st.integers(0, 1000))
@settings(max_examples=30, deadline=None)
def test_the_assignment_is_the_best_of_all_permutations(count: int, seed: int) -> None:
    values = np.random.default_rng(seed).random((count, count))
    best = max(values[range(count), list(order)].sum() for order in itertools.permutations(range(count)))
    found = best_assignment(values)
    assert sorted(found) == list(range(count))
    assert values[range(count), found].sum() == pytest.approx(best)
