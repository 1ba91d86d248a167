"""Scores at the size of the labels."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from kdtui.engine.data import IGNORE_INDEX, build_dataset, eval_loader
from kdtui.engine.evaluate import Evaluation, evaluate
from kdtui.engine.metrics import Scores
from kdtui.engine.models import Outputs
from kdtui.profile import FolderData

CLASSES = ("dark", "bright")
SIZES = [(40, 56), (33, 47), (64, 64), (20, 90)]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of different sizes whose classes are their brightness, with a frame of ignored pixels."""
    root = tmp_path_factory.mktemp("data")
    (root / "classes.txt").write_text("0 dark\n1 bright\nignore_index 255 void\n")
    generator = np.random.default_rng(0)
    for split in ("train", "val"):
        for number, (height, width) in enumerate(SIZES):
            # Blocks of 4 pixels, so that a picture at half its size is not all borders.
            blocks = generator.integers(0, 2, (height // 4 + 1, width // 4 + 1)).astype(np.uint8)
            labels = blocks.repeat(4, axis=0).repeat(4, axis=1)[:height, :width]
            masks = labels.copy()
            masks[:2], masks[:, -3:] = IGNORE_INDEX, IGNORE_INDEX
            for folder, values in (("images", 50 + 150 * labels), ("masks", masks)):
                path = root / folder / split / f"{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(values).save(path)
    return root


def brightness(images: Tensor, extras: Mapping[str, Tensor]) -> Outputs:
    """Looks at one pixel at a time."""
    grey = images.mean(dim=1, keepdim=True) - 0.1
    return Outputs(torch.cat([-grey, grey], dim=1))


def scores(root: Path, *, stride: int = 8, **keys: Any) -> tuple[Scores, list[np.ndarray]]:
    data = FolderData(root=str(root), height=32, width=48, **keys)
    dataset = build_dataset(data, "val", stride=stride)
    counts: list[np.ndarray] = []
    answer = evaluate(
        brightness,
        eval_loader(dataset, 3),
        Evaluation(dataset),
        classes=CLASSES,
        device=torch.device("cpu"),
        counts=counts,
    )
    return answer, counts


@pytest.mark.parametrize(
    "keys",
    [
        {"evaluation": "whole"},
        {"evaluation": "slide"},
        {"evaluation": "slide", "window": (16, 24), "overlap": 0.5},
        {"geometry": "crop"},
    ],
)
def test_at_its_own_size_a_perfect_network_is_perfect(root: Path, keys: dict[str, Any]) -> None:
    answer, counts = scores(root, **keys)
    assert (answer.miou, answer.pixel_accuracy) == (1.0, 1.0)
    valid = [(height - 2) * (width - 3) for height, width in SIZES]
    assert [int(count[2].sum()) for count in counts] == valid
    assert all((count[0] == count[2]).all() for count in counts)


@pytest.mark.parametrize("keep_aspect", [False, True])
def test_a_resized_picture_is_scored_at_the_size_of_its_mask(root: Path, keep_aspect: bool) -> None:
    answer, counts = scores(root, keep_aspect=keep_aspect)
    assert [int(count[2].sum()) for count in counts] == [(height - 2) * (width - 3) for height, width in SIZES]
    # Borders are lost by resizing, but nothing is shifted.
    assert answer.miou > 0.75
    assert answer.metrics["miou_at_input"] is not None
    assert answer.miou != answer.metrics["miou_at_input"]


def test_counts_give_the_scores(root: Path) -> None:
    answer, counts = scores(root)
    correct, predicted, true = np.stack(counts).sum(axis=0)
    iou = correct / (predicted + true - correct)
    assert answer.miou == pytest.approx(iou.mean())
    assert list(answer.iou.values()) == pytest.approx(iou.tolist())


def test_the_first_pipeline_is_scored_at_the_size_of_the_input(root: Path) -> None:
    answer, counts = scores(root, pipeline=1)
    assert "miou_at_input" not in answer.metrics
    assert all(count[2].sum() <= 32 * 48 for count in counts)


def test_part_of_a_split_is_spread_over_it(root: Path) -> None:
    dataset = build_dataset(FolderData(root=str(root), height=32, width=48), "val", stride=8)
    plan = eval_loader(dataset, 1, limit=2).plan
    assert plan == [[(0, 0)], [(2, 0)]]
    shares = [eval_loader(dataset, 8, limit=3, rank=rank, world_size=2).plan for rank in range(2)]
    assert sorted(index for plan in shares for keys in plan for index, _ in keys) == [0, 1, 2]


@pytest.mark.parametrize(
    "keys",
    [
        {"evaluation": "whole", "pipeline": 1},
        {"evaluation": "resize", "geometry": "crop"},
        {"window": (32, 32)},
        {"evaluation": "whole", "overlap": 0.5},
    ],
)
def test_keys_that_exclude_each_other(root: Path, keys: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="allowed"):
        FolderData(root=str(root), **keys)
