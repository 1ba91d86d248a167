from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from kdtui.engine.data import IGNORE_INDEX, build_dataset, synthetic
from kdtui.engine.data.synthetic import SyntheticPeople, coarsen, draw_crop
from kdtui.profile import SyntheticData

PLAIN = SyntheticData(height=64, width=64, train_samples=60, val_samples=60, test_samples=5, augmentation="none")


@pytest.fixture(autouse=True)
def drawn_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not the crops that are kept for other tests."""
    monkeypatch.setattr(synthetic, "draw_crop", draw_crop)


def people(split: str = "train", **changes: Any) -> SyntheticPeople:
    dataset = build_dataset(PLAIN.model_copy(update=changes), split)
    assert isinstance(dataset, SyntheticPeople)
    return dataset


def test_a_crop_depends_on_seed_split_and_index_alone() -> None:
    one, again = people(), people()
    backwards = {i: again[i, 3] for i in reversed(range(10))}
    for i in range(10):
        assert torch.equal(one[i, 0].image, backwards[i].image)
        assert torch.equal(one[i, 0].mask, backwards[i].mask)
    for other in (people("val"), people(seed=1)):
        assert not torch.equal(one[0, 0].image, other[0, 0].image)


def test_more_samples_do_not_change_the_first_ones() -> None:
    assert torch.equal(people(train_samples=500)[7, 0].image, people()[7, 0].image)


def test_every_crop_holds_a_visible_target_and_the_set_holds_the_rest() -> None:
    masks = torch.stack([people()[i, 0].mask for i in range(60)])
    assert set(masks.flatten().tolist()) == {0, 1, 2}
    shares = (masks == 1).float().mean(dim=(1, 2))
    assert shares.min() > 0.03
    with_others = (masks == 2).any(dim=(1, 2)).float().mean()
    assert 0.6 < with_others < 1.0


def test_the_target_fills_the_middle() -> None:
    masks = torch.stack([people()[i, 0].mask for i in range(60)])
    middle = masks[:, 20:44, 24:40]
    assert (middle == 1).sum() > 5 * (middle == 2).sum()


@pytest.mark.parametrize("size", [(16, 16), (96, 64), (50, 130)])
def test_any_size_can_be_drawn(size: tuple[int, int]) -> None:
    image, mask = draw_crop(3, *size)
    assert image.shape == (*size, 3) and mask.shape == size and image.dtype == mask.dtype == np.uint8


def test_poor_labels_touch_training_labels_only() -> None:
    poor: dict[str, Any] = {"label_coarseness": 8, "label_noise": 1.0}
    for split in ("val", "test"):
        assert all(torch.equal(people(split)[i, 0].mask, people(split, **poor)[i, 0].mask) for i in range(5))
    for i in range(5):
        exact, changed = people()[i, 0], people(**poor)[i, 0]
        assert torch.equal(exact.image, changed.image)
        assert not torch.equal(exact.mask, changed.mask)


def test_noise_confuses_target_and_others_in_its_share_of_crops() -> None:
    exact, noisy = people(), people(label_noise=0.3)
    confused = 0
    for i in range(60):
        truth, told = exact[i, 0].mask, noisy[i, 0].mask
        if not torch.equal(truth, told):
            assert torch.equal(told, torch.tensor([0, 2, 1])[truth])
            confused += 1
    assert 8 <= confused <= 30


def test_coarse_labels_are_constant_in_blocks_and_keep_the_majority() -> None:
    mask = people()[0, 0].mask.numpy().astype(np.uint8)
    coarse = coarsen(mask, 16)
    for y in range(0, 64, 16):
        for x in range(0, 64, 16):
            block = coarse[y : y + 16, x : x + 16]
            assert (block == block[0, 0]).all()
            assert block[0, 0] == np.bincount(mask[y : y + 16, x : x + 16].ravel(), minlength=3).argmax()
    assert np.array_equal(coarsen(mask, 1), mask)


def test_coarsen_takes_sizes_that_do_not_divide() -> None:
    assert coarsen(np.ones((10, 7), dtype=np.uint8), 4).shape == (10, 7)


def test_a_limit_keeps_samples_of_the_whole_and_smaller_ones_lie_within_larger() -> None:
    whole = {people()[i, 0].image.numpy().tobytes() for i in range(60)}
    sets = [
        {dataset[i, 0].image.numpy().tobytes() for i in range(len(dataset))}
        for dataset in (people(train_limit=n) for n in (5, 20))
    ]
    assert [len(s) for s in sets] == [5, 20]
    assert sets[0] < sets[1] < whole
    assert len(people("val", train_limit=5)) == 60


def test_what_does_not_divide_by_the_stride_is_padded_and_ignored() -> None:
    dataset = build_dataset(PLAIN.model_copy(update={"height": 40, "width": 70}), "val", stride=32)
    sample = dataset[0, 0]
    assert sample.image.shape == (3, 64, 96) and sample.mask.shape == (64, 96)
    assert (sample.mask[40:] == IGNORE_INDEX).all() and (sample.mask[:, 70:] == IGNORE_INDEX).all()
    assert (sample.mask[:40, :70] != IGNORE_INDEX).all()
    assert (sample.image[:, 40:] == 0).all() and (sample.image[:, :, 70:] == 0).all()
    assert sample.image.dtype == torch.float32 and sample.mask.dtype == torch.int64


def test_pixels_are_normalised_as_imagenet_is() -> None:
    dataset = people()
    image, _ = dataset.render(0, 64, 64)
    expected = (image / 255 - np.array([0.485, 0.456, 0.406])) / np.array([0.229, 0.224, 0.225])
    assert np.allclose(dataset[0, 0].image.permute(1, 2, 0).numpy(), expected, atol=1e-5)


def test_an_index_outside_is_refused() -> None:
    for index in (-1, 60):
        with pytest.raises(IndexError):
            people()[index, 0]
