"""Images with rare classes occur more often in an epoch, which has as many samples."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from kdtui.engine.data import build_dataset, train_loader
from kdtui.engine.data.loading import epoch_order
from kdtui.engine.data.rarity import image_weights, weighted_order
from kdtui.engine.label_counts import class_presence
from kdtui.engine.setup import set_up
from kdtui.profile import Training
from tests.engine.data.makers import HEIGHT, WIDTH, label_folder
from tests.engine.runs import make_run, record

PRESENCE = np.array([[True, False]] * 15 + [[True, True]])


def test_an_image_weighs_as_much_as_its_rarest_class() -> None:
    assert image_weights(PRESENCE).tolist() == [1.0] * 15 + [4.0]
    assert image_weights(np.zeros((3, 2), bool)).tolist() == [1.0] * 3  # only ignored pixels


@pytest.mark.parametrize("seed", range(5))
def test_an_epoch_has_each_image_as_often_as_its_weight_to_one_place(seed: int) -> None:
    weights = np.random.default_rng(seed).uniform(1, 6, 50)
    order = weighted_order(weights, np.random.default_rng(seed))
    expected, counts = weights / weights.mean(), Counter(order)
    assert len(order) == 50
    assert all(np.floor(often) <= counts[index] <= np.ceil(often) for index, often in enumerate(expected))
    assert order == weighted_order(weights, np.random.default_rng(seed)) != sorted(order)
    assert sorted(weighted_order(np.full(50, 2.0), np.random.default_rng(seed))) == list(range(50))


@pytest.mark.parametrize("views", [0, 1, 4])
def test_an_image_that_occurs_again_has_another_view(tmp_path: Path, views: int) -> None:
    data = label_folder(tmp_path, count=8, height=16, width=16).model_copy(update={"views": views})
    dataset, training = build_dataset(data, "train"), Training(batch_size=2)
    dataset.weights = np.array([1.0] * 7 + [7.0])
    whole = train_loader(dataset, training, seed=0, epoch=2)
    keys = [key for batch in whole.plan for key in batch]
    assert [index for index, _ in keys] == epoch_order(8, seed=0, epoch=2, weights=dataset.weights)
    again = [view for index, view in keys if index == 7]
    assert len(again) == 4 and len(set(again)) == (views or 4)
    later = train_loader(dataset, training, seed=0, epoch=2, start_step=3)
    assert later.plan == whole.plan[3:]
    ranks = [train_loader(dataset, training, seed=0, epoch=2, rank=rank, world_size=2).plan for rank in range(2)]
    assert [first + second for first, second in zip(*ranks, strict=True)] == whole.plan


def test_a_run_weighs_its_images_by_their_labels(tmp_path: Path) -> None:
    data = label_folder(tmp_path / "data", count=4, height=32, width=32, image_sampling="rare")
    for number in range(3):  # the other classes are only in the last image
        Image.new("L", (WIDTH, HEIGHT)).save(tmp_path / "data" / "masks" / "train" / f"{number}.png")
    run = make_run(tmp_path, data=data.model_dump(exclude_none=True), training__batch_size=2)
    stage = set_up(run, record(run), world_size=1)
    assert stage.train_set.weights is not None
    assert stage.train_set.weights.tolist() == [1.0, 1.0, 1.0, 2.0]
    assert stage.val_set.weights is None


@pytest.mark.parametrize("rank", range(2))
def test_each_rank_reads_a_part(tmp_path: Path, rank: int) -> None:
    dataset = build_dataset(label_folder(tmp_path, count=5), "train")
    fabric = SimpleNamespace(
        global_rank=rank, world_size=2, device="cpu", all_reduce=lambda value, reduce_op: torch.as_tensor(value)
    )
    present = class_presence(dataset, fabric).any(axis=1)  # type: ignore[arg-type]
    assert present.tolist() == [index % 2 == rank for index in range(5)]
