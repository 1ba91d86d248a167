"""Samples that are whole pictures with boxes, each with a label map."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from kdtui.engine.data import IGNORE_INDEX, build_dataset, eval_loader, survey
from kdtui.engine.data.geometry import content_of, shown_whole
from kdtui.engine.data.instances import PictureSamples
from kdtui.engine.data.source import Size
from kdtui.engine.data.synthetic_scenes import DETAIL, SyntheticScenes, draw_people
from kdtui.profile import DataTable, SyntheticData

SCENES = SyntheticData(
    sample="image", height=48, width=64, mask_size=(20, 16), train_samples=12, val_samples=12, test_samples=4
)
SPREAD: dict[str, Any] = {"geometry": "crop", "augmentation": "heavy"}


def pictures(data: DataTable = SCENES, split: str = "train", seed: int = 0, **changes: Any) -> PictureSamples:
    dataset = build_dataset(type(data).model_validate(data.model_dump() | changes), split, seed=seed)
    assert isinstance(dataset, PictureSamples)
    return dataset


def test_a_batch_has_a_label_map_for_each_box_and_names_its_picture() -> None:
    dataset = pictures(split="val")
    samples = [dataset[index, 0] for index in range(len(dataset))]
    counts = [len(sample.mask) for sample in samples]
    assert len(set(counts)) > 2 and max(counts) <= 5
    assert counts == [dataset.label_maps(index) for index in range(len(dataset))]
    batch = dataset.collate(samples)
    rois = batch.extras["rois"]
    assert batch.images.shape == (12, 3, 64, 64)  # padded to the stride
    assert batch.masks.shape == (sum(counts), 20, 16) and batch.masks.dtype == torch.int64
    assert rois.shape == (sum(counts), 5) and rois.dtype == torch.float32
    assert rois[:, 0].tolist() == [place for place, count in enumerate(counts) for _ in range(count)]
    assert set(batch.masks.unique().tolist()) == {0, 1, 2, IGNORE_INDEX}
    assert (batch.masks == 1).flatten(1).any(dim=1).all()
    # As a training reads them: the same in parts.
    parts = list(eval_loader(dataset, 5))
    assert torch.equal(torch.cat([part.masks for part in parts]), batch.masks)
    assert [len(part.images) for part in parts] == [5, 5, 2]


@pytest.mark.parametrize("changes", [{}, SPREAD], ids=["whole", "cropped"])
def test_a_view_depends_on_seed_sample_and_view_alone(changes: dict[str, Any]) -> None:
    one, again = pictures(**changes), pictures(**changes)
    backwards = {key: again[key] for key in [(index, view) for index in (5, 1, 0) for view in (3, 0)]}
    for key, expected in backwards.items():
        sample = one[key]
        assert torch.equal(sample.image, expected.image) and torch.equal(sample.mask, expected.mask)
        assert torch.equal(sample.extras["rois"], expected.extras["rois"])
    assert not torch.equal(one[0, 0].extras["rois"], one[0, 1].extras["rois"])
    other = pictures(seed=1, **changes)
    assert not torch.equal(one[0, 0].extras["rois"], other[0, 0].extras["rois"])
    evaluated = [pictures(split="val", seed=seed, **changes)[0, 0] for seed in (0, 1)]
    assert torch.equal(evaluated[0].extras["rois"], evaluated[1].extras["rois"])
    assert torch.equal(evaluated[0].mask, evaluated[1].mask)


def test_label_maps_show_the_full_resolution_at_the_centres_of_their_cells() -> None:
    dataset = pictures(split="val", roi_padding=0.283, min_box=1)
    assert isinstance(dataset, SyntheticScenes)
    for index in range(4):
        people, marked = draw_people(dataset._scene(index)), dataset.marked(index)
        height, width = people.shape
        scale = min(48 / height, 64 / width)
        assert scale >= 1 / DETAIL
        sample = dataset[index, 0]
        rois = sample.extras["rois"][:, 1:].numpy().astype(float)
        for (left, top, right, bottom), mask, target in zip(rois, sample.mask.numpy(), marked.targets, strict=True):
            x = (left + (np.arange(16) + 0.5) * (right - left) / 16) / scale
            y = (top + (np.arange(20) + 0.5) * (bottom - top) / 20) / scale
            inside = ((y >= 0) & (y < height))[:, None] & ((x >= 0) & (x < width))[None]
            shown = people[np.ix_(y.astype(int).clip(0, height - 1), x.astype(int).clip(0, width - 1))]
            expected = np.where(shown == target + 1, 1, np.where(shown > 0, 2, 0))
            expected[~inside] = IGNORE_INDEX
            assert (mask != expected).mean() < 0.02  # OpenCV rounds places to 1/1024 of a pixel
            assert inside.all() or (mask == IGNORE_INDEX).any()


def test_boxes_are_enlarged_everywhere_and_moved_in_training_only() -> None:
    bare, wide = (pictures(split="val", roi_padding=share, roi_jitter=0.4) for share in (0.0, 0.5))
    one, other = bare[0, 0].extras["rois"][:, 1:], wide[0, 0].extras["rois"][:, 1:]
    sides = one[:, 2:] - one[:, :2]
    assert torch.allclose(other[:, :2], one[:, :2] - 0.5 * sides, atol=1e-4)
    assert torch.allclose(other[:, 2:], one[:, 2:] + 0.5 * sides, atol=1e-4)
    still, moved = (pictures(augmentation="none", roi_jitter=jitter) for jitter in (0.0, 0.2))
    assert torch.equal(still[0, 0].extras["rois"], still[0, 1].extras["rois"])
    places = [still[0, 0].extras["rois"][:, 1:], *(moved[0, view].extras["rois"][:, 1:] for view in (0, 1))]
    assert not torch.equal(places[1], places[2])
    sides = (places[0][:, 2:] - places[0][:, :2]).repeat(1, 2)
    assert ((places[1] - places[0]).abs() <= 0.2 * 1.2 * sides + 1e-3).all()


def test_the_boxes_of_a_picture_with_too_many_are_others_in_each_view() -> None:
    plain: dict[str, Any] = {"augmentation": "none", "roi_jitter": 0.0}
    whole, few = pictures(**plain), pictures(max_instances=1, **plain)
    index = max(range(12), key=whole.label_maps)
    everything = whole[index, 0].extras["rois"].tolist()
    assert len(everything) > 2
    taken = [few[index, view].extras["rois"].tolist() for view in range(12)]
    assert all(len(one) == 1 and one[0] in everything for one in taken)
    assert len({tuple(one[0]) for one in taken}) > 1
    assert few[index, 3].extras["rois"].tolist() == taken[3]
    assert len(pictures(split="val", max_instances=1)[0, 0].mask) == pictures(split="val").label_maps(0) > 1


def test_pictures_without_a_box_are_part_of_batches() -> None:
    dataset = pictures(split="val", min_box=4096)
    assert [dataset.label_maps(index) for index in range(3)] == [0, 0, 0]
    batch = dataset.collate([dataset[index, 0] for index in range(3)])
    assert batch.images.shape[0] == 3
    assert batch.masks.shape == (0, 20, 16) and batch.extras["rois"].shape == (0, 5)
    assert dataset.labels(0).shape == (0, 16)


def test_boxes_follow_crops_and_turns() -> None:
    dataset = pictures(roi_padding=0.0, roi_jitter=0.0, mask_size=(100, 100), **SPREAD)
    for key in [(index, view) for index in range(6) for view in range(3)]:
        sample = dataset[key]
        for (left, top, right, bottom), mask in zip(sample.extras["rois"][:, 1:].tolist(), sample.mask, strict=True):
            assert -1e-4 <= left < right <= 64.0001 and -1e-4 <= top < bottom <= 48.0001
            own = mask == 1
            # The target reaches all edges of its box, up to a pixel of the network's input.
            rows, columns = own.any(dim=1).nonzero(), own.any(dim=0).nonzero()
            down, across = 100 / (bottom - top), 100 / (right - left)
            assert rows.min() <= 1.5 * down and rows.max() >= 99 - 1.5 * down
            assert columns.min() <= 1.5 * across and columns.max() >= 99 - 1.5 * across


def test_poor_labels_are_those_of_training_alone() -> None:
    for changes in ({"label_coarseness": 8}, {"label_noise": 1.0}):
        same = pictures(split="val", **changes)
        assert torch.equal(same[0, 0].mask, pictures(split="val")[0, 0].mask)
        assert not torch.equal(pictures(**changes)[0, 0].mask, pictures()[0, 0].mask)
    swapped, exact = pictures(label_noise=1.0)[0, 0].mask, pictures()[0, 0].mask
    assert torch.equal(swapped == 1, exact == 2) and torch.equal(swapped == 2, exact == 1)


def test_the_survey_counts_the_pixels_of_label_maps() -> None:
    dataset = pictures(split="val")
    looked_at = survey(dataset)
    masks = torch.cat([dataset[index, 0].mask for index in range(len(dataset))])
    assert looked_at.pixels == tuple(int((masks == label).sum()) for label in range(3))
    assert not (looked_at.void_masks or looked_at.flat_images)
    assert "decoded images" in dataset.memory()
    image, labels = dataset.read(0)
    assert image.shape[:2] == labels.shape and set(np.unique(labels)) == {0, 1}


@pytest.mark.parametrize("sample", ["image", "foreground"])
def test_a_picture_is_predicted_as_it_is_evaluated(sample: str) -> None:
    data = SyntheticData(sample=sample, height=48, width=64, val_samples=4)
    dataset = build_dataset(data, "val")
    for index in range(4):
        picture = dataset.read(index).image
        size = Size(*picture.shape[:2])
        shown = shown_whole(data, picture, tuple(float(round(255 * value)) for value in dataset.mean))
        image = dataset.pixels.normalised(torch.tensor(shown).permute(2, 0, 1))
        torch.testing.assert_close(image, dataset[index, 0].image[:, :48])
        scale = min(48 / size.height, 64 / size.width)
        assert dataset.content(size) == content_of(data, size) == (0, 0, scale * size.height, scale * size.width)
