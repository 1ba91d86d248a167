from __future__ import annotations

import pytest
import torch

from kdtui.engine.data import IGNORE_INDEX, SegmentationDataset, build_dataset
from kdtui.engine.data.first_pipeline import Augment
from kdtui.profile import SyntheticData
from kdtui.profile.data_tables import Level

LEVELS: tuple[Level, ...] = ("light", "heavy")


def people(level: str, *, seed: int = 0, **changes: object) -> SegmentationDataset:
    data = SyntheticData(height=48, width=32, train_samples=20, val_samples=5, pipeline=1)
    return build_dataset(data.model_copy(update={"augmentation": level, **changes}), "train", seed=seed)


@pytest.mark.parametrize("level", LEVELS)
def test_a_view_can_be_made_again_whatever_was_drawn_before(level: str) -> None:
    one, again = people(level), people(level)
    wanted = [one[i, view] for i in range(5) for view in range(4)]
    torch.rand(17)
    found = [again[i, view] for i in reversed(range(5)) for view in reversed(range(4))]
    for a, b in zip(wanted, reversed(found), strict=True):
        assert torch.equal(a.image, b.image) and torch.equal(a.mask, b.mask)


@pytest.mark.parametrize(
    ("level", "quarters", "labels"),
    [
        ("light", [26, 22, 17, 20, 43, 25, 26, 29], [2374, 616, 1106, 0, 2526, 990, 580, 0]),
        ("heavy", [47, 21, 30, 25, 65, 75, 66, 67], [2186, 730, 1063, 117, 1805, 1521, 770, 0]),
    ],
)
def test_views_are_those_of_earlier_versions(level: Level, quarters: list[int], labels: list[int]) -> None:
    dataset = build_dataset(SyntheticData(height=64, width=64, augmentation=level, pipeline=1), "train", seed=0)
    samples = [dataset[index, 1] for index in (0, 1)]
    means = [
        value
        for sample in samples
        for value in sample.image.mean(dim=0).unfold(0, 32, 32).unfold(1, 32, 32).mean(dim=(2, 3)).flatten().tolist()
    ]
    assert means == pytest.approx([quarter / 100 for quarter in quarters], abs=0.006)
    counts = [(sample.mask == label).sum().item() for sample in samples for label in (0, 1, 2, IGNORE_INDEX)]
    assert counts == pytest.approx(labels, abs=8)


@pytest.mark.parametrize("level", LEVELS)
def test_views_seeds_and_samples_differ(level: str) -> None:
    dataset = people(level)
    views = {dataset[3, view].image.numpy().tobytes() for view in range(10)}
    assert len(views) == 10
    assert not torch.equal(people(level, seed=1)[3, 0].image, dataset[3, 0].image)


@pytest.mark.parametrize("level", LEVELS)
def test_the_training_stream_is_left_alone(level: str) -> None:
    dataset = people(level)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    dataset[0, 0]
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("level", LEVELS)
def test_image_and_mask_move_together(level: Level) -> None:
    # An image that shows its own labels: where the mask says 1 it is bright, elsewhere dark.
    mask = torch.zeros(64, 64, dtype=torch.uint8)
    mask[10:40, 5:30] = 1
    image = (mask * 180 + 30).expand(3, 64, 64)
    augment = Augment(level, "semantic", 64, 64)
    for seed in range(30):
        seen, labels = augment(image, mask, seed)
        assert seen.dtype == labels.dtype == torch.uint8 and seen.shape == (3, 64, 64) and labels.shape == (64, 64)
        assert set(labels.flatten().tolist()) <= {0, 1, IGNORE_INDEX}
        inside, outside = seen[0][labels == 1].float(), seen[0][labels == 0].float()
        assert inside.median() > outside.median() + 40
        assert (inside > (inside.median() + outside.median()) / 2).float().mean() > 0.9


def test_what_turning_uncovers_is_ignored() -> None:
    dataset = people("heavy")
    views = [dataset[i, v] for i in range(10) for v in range(6)]
    assert any((view.mask == IGNORE_INDEX).any() for view in views)
    assert all((view.mask == 1).any() for view in views)


def test_only_training_is_augmented() -> None:
    for split in ("val", "test"):
        data = SyntheticData(height=48, width=32, val_samples=5, test_samples=5, augmentation="heavy")
        dataset = build_dataset(data, split)
        assert torch.equal(dataset[0, 0].image, dataset[0, 1].image)


def test_light_leaves_the_mask_as_it_is_but_for_the_flip() -> None:
    plain, light = people("none"), people("light")
    flips = 0
    for i in range(20):
        mask, seen = plain[i, 0].mask[:48, :32], light[i, 0].mask[:48, :32]
        flips += not torch.equal(mask, seen)
        assert torch.equal(mask, seen) or torch.equal(mask.flip(1), seen)
    assert 2 <= flips <= 18


def test_the_kept_sample_is_never_written_to() -> None:
    dataset = people("heavy")
    first, again = ([dataset[0, view] for view in range(20)] for _ in range(2))
    for a, b in zip(first, again, strict=True):
        assert torch.equal(a.image, b.image) and torch.equal(a.mask, b.mask)
