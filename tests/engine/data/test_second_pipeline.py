from __future__ import annotations

from typing import Any, get_args

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from kdtui.engine.data import IGNORE_INDEX, Sample, SegmentationDataset, Source, eval_loader
from kdtui.engine.data.colour import SAME, Line, blurred, compressed, grey_of, line_of, noisy, normalised, saturated
from kdtui.engine.data.geometry import Geometry
from kdtui.engine.data.pixel_format import PixelFormat
from kdtui.profile import DataTable, FolderData, SyntheticData
from kdtui.profile.data_tables import Level

LEVELS = get_args(Level)
GEOMETRIES: dict[str, dict[str, Any]] = {
    "resize": {},
    "keep_aspect": {"keep_aspect": True},
    "crop": {"geometry": "crop"},
    "rare": {"geometry": "crop", "sampling": "rare", "crop_class_max": 0.8},
}
SHAPES = ((50, 70), (24, 90), (20, 20), (96, 64))


class Pictures(SegmentationDataset):
    """Pictures of several sizes: bright where the label is 1 or 2, dark elsewhere, a few ignored pixels."""

    def __init__(
        self, split: str = "train", *, channels: int = 3, dtype: type = np.uint8, seed: int = 0, **options: Any
    ) -> None:
        self._channels, self._dtype = channels, dtype
        self.reads = 0
        normalisation = {"mean": (0.5,) * channels, "std": (0.25,) * channels}
        data = FolderData(root="nowhere", channels=channels, **normalisation, **{"height": 32, "width": 48, **options})
        super().__init__(
            data,
            split,
            classes=("a", "b", "c", "d"),
            count=len(SHAPES),
            stride=32,
            seed=seed,
        )

    def read(self, index: int) -> Source:
        self.reads += 1
        height, width = SHAPES[index]
        labels = np.zeros((height, width), np.uint8)
        labels[height // 4 : height // 2, width // 3 :] = 1
        labels[height // 2 :, : width // 2] = 2
        labels[2:6, 3:7] = 3
        labels[-3:] = IGNORE_INDEX
        bright = np.where((labels == 1) | (labels == 2), 210, 30)[..., None] + np.arange(self._channels)
        return Source(np.ascontiguousarray(bright.astype(self._dtype)), labels)

    def describe(self) -> str:
        return ""


def views(dataset: SegmentationDataset, count: int = 5) -> list[Sample]:
    return [dataset[index, view] for index in range(len(dataset)) for view in range(count)]


def equal(one: list[Sample], other: list[Sample]) -> bool:
    pairs = zip(one, other, strict=True)
    return all(torch.equal(a.image, b.image) and torch.equal(a.mask, b.mask) for a, b in pairs)


@pytest.mark.parametrize("geometry", GEOMETRIES.values(), ids=GEOMETRIES)
@pytest.mark.parametrize("level", LEVELS)
def test_views_depend_on_seed_sample_and_number_alone(level: str, geometry: dict[str, Any]) -> None:
    options = {"augmentation": level, **geometry}
    first = views(Pictures(**options))
    torch.rand(17)
    np.random.default_rng().random()
    uncached = Pictures(**options, cache_gib=0.0)
    again = [uncached[index, view] for index in reversed(range(len(SHAPES))) for view in reversed(range(5))]
    assert equal(first, again[::-1])
    drawn = level != "none" or geometry.get("geometry") == "crop"
    assert equal(first, views(Pictures(**options, seed=1))) is not drawn
    assert equal(first[:5], [Pictures(**options)[0, 0]] * 5) is not drawn


def test_workers_make_the_same_views() -> None:
    dataset = Pictures(**GEOMETRIES["rare"], augmentation="heavy")
    alone, helped = (list(eval_loader(dataset, 1, workers=workers)) for workers in (0, 2))
    for a, b in zip(alone, helped, strict=True):
        assert torch.equal(a.images, b.images) and torch.equal(a.masks, b.masks)


@pytest.mark.parametrize("geometry", GEOMETRIES.values(), ids=GEOMETRIES)
@pytest.mark.parametrize("level", LEVELS)
def test_the_generators_of_the_training_are_left_alone(level: str, geometry: dict[str, Any]) -> None:
    dataset = Pictures(augmentation=level, **geometry)
    states = torch.random.get_rng_state(), str(np.random.get_state())
    views(dataset, 2)
    assert torch.equal(torch.random.get_rng_state(), states[0]) and str(np.random.get_state()) == states[1]


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("channels", [1, 2, 3, 4, 7])
@pytest.mark.parametrize("geometry", GEOMETRIES.values(), ids=GEOMETRIES)
@pytest.mark.parametrize("level", ["light", "heavy"])
def test_image_and_labels_move_together_in_any_number_of_channels(
    level: str, channels: int, dtype: type, geometry: dict[str, Any]
) -> None:
    dataset = Pictures(channels=channels, dtype=dtype, augmentation=level, **geometry)
    for sample in views(dataset):
        assert sample.image.shape == (channels, 32, 64) and sample.mask.shape == (32, 64)
        assert sample.image.dtype == torch.float32 and sample.mask.dtype == torch.int64
        assert sample.image.isfinite().all()
        assert set(sample.mask.unique().tolist()) <= {0, 1, 2, 3, IGNORE_INDEX}
        bright = (sample.mask == 1) | (sample.mask == 2)
        dark = (sample.mask == 0) | (sample.mask == 3)
        if bright.sum() > 30 and dark.sum() > 30:
            for plane in sample.image:
                middle = (plane[bright].median() + plane[dark].median()) / 2
                assert plane[bright].median() > plane[dark].median() + 0.5
                assert (plane[bright] > middle).float().mean() > 0.9 and (plane[dark] < middle).float().mean() > 0.9


def test_padding_to_the_stride_has_the_mean_colour_and_is_ignored() -> None:
    for sample in views(Pictures(augmentation="none")):
        assert (sample.image[:, :, 48:] == 0).all() and (sample.mask[:, 48:] == IGNORE_INDEX).all()


@pytest.mark.parametrize("split", ["train", "val"])
def test_pictures_keep_their_aspect_between_bars_that_are_ignored(split: str) -> None:
    dataset = Pictures(split, augmentation="none", keep_aspect=True)
    for index, (height, width) in enumerate(SHAPES):
        covered = (dataset[index, 0].mask[:32, :48] != IGNORE_INDEX).numpy()
        rows, columns = np.flatnonzero(covered.any(axis=1)), np.flatnonzero(covered.any(axis=0))
        scale = min(32 / height, 48 / width)
        # The last three rows of a picture are ignored themselves.
        assert abs(np.ptp(rows) + 1 - scale * (height - 3)) <= 2 and abs(np.ptp(columns) + 1 - scale * width) <= 1
        bars = (dataset[index, 0].image[:, :32, :48].abs() < 0.02).all(dim=0).numpy()
        assert (bars.any() and not bars[covered].any()) or (scale * height > 31 and scale * width > 47)


def test_crops_for_validation_are_the_centre_at_the_resolution_of_the_files() -> None:
    dataset = Pictures("val", geometry="crop", augmentation="heavy")
    for index, (height, width) in enumerate(SHAPES):
        mask = dataset[index, 0].mask.numpy()[:32, :48]
        assert np.array_equal(mask, dataset[index, 1].mask.numpy()[:32, :48])
        labels = np.pad(dataset.read(index).labels, 60, constant_values=IGNORE_INDEX)
        top, left = 60 + (height - 32) // 2, 60 + (width - 48) // 2
        assert np.array_equal(mask, labels[top : top + 32, left : left + 48])


def test_crops_without_scaling_show_the_pixels_of_the_file() -> None:
    dataset = Pictures(geometry="crop", augmentation="none", scale=(1.0, 1.0))
    source = dataset.read(3)
    parts = np.lib.stride_tricks.sliding_window_view(source.labels, (32, 48))
    for view in range(5):
        sample = dataset[3, view]
        mask = sample.mask.numpy()[:, :48]
        found = np.argwhere((parts == mask).all(axis=(2, 3)))
        assert len(found)
        top, left = found[0]
        image = source.image[top : top + 32, left : left + 48].transpose(2, 0, 1)
        assert np.allclose(sample.image.numpy()[:, :, :48], (image / 255 - 0.5) / 0.25, atol=1e-5)


def test_pictures_smaller_than_a_crop_are_whole_in_it() -> None:
    dataset = Pictures(geometry="crop", augmentation="none", scale=(1.0, 1.0))
    counts = {(dataset[2, view].mask == 3).sum().item() for view in range(8)}
    places = {dataset[2, view].mask.numpy().tobytes() for view in range(8)}
    assert counts == {16} and len(places) > 3


@pytest.mark.parametrize("level", LEVELS)
def test_no_class_fills_more_of_a_crop_than_allowed_where_another_crop_exists(level: str) -> None:
    def largest(**options: Any) -> NDArray[np.float64]:
        dataset = Pictures(geometry="crop", augmentation=level, scale=(2.0, 2.0), **options)
        masks = [sample.mask.numpy().ravel() for sample in views(dataset, 12)]
        counts = np.array([np.bincount(mask, minlength=256)[:IGNORE_INDEX] for mask in masks])
        return np.asarray(counts.max(axis=1) / np.maximum(1, counts.sum(axis=1)))

    free, held = largest(), largest(crop_class_max=0.7)
    assert (free > 0.7).mean() > 0.15
    assert (held > 0.7).mean() < (free > 0.7).mean() / 3


def test_rare_classes_are_sought() -> None:
    def share(**options: Any) -> float:
        dataset = Pictures(geometry="crop", augmentation="none", scale=(2.0, 2.0), **options)
        return float(np.mean([(dataset[3, view].mask == 3).any().item() for view in range(60)]))

    assert share(sampling="rare") > share() + 0.2


@pytest.mark.parametrize(
    ("data", "least"),
    [(FolderData(root="nowhere", height=64, width=48), 0.35), (SyntheticData(height=64, width=48), 0.65)],
)
def test_zooming_in_is_limited_more_where_the_frame_shows_the_target(data: DataTable, least: float) -> None:
    source = Source(np.zeros((96, 72, 3), np.uint8), np.zeros((96, 72), np.uint8))
    geometry = Geometry(data, level="heavy", training=True)
    matrices = [geometry.view(source, np.random.default_rng(seed))[0][:, :2] for seed in range(300)]
    areas = np.abs(np.linalg.det(matrices)) * (64 * 48) / (96 * 72)  # share of the source in the view
    assert least / 1.1**2 - 1e-9 <= areas.min() < least + 0.05
    assert 1.0 < areas.max() <= 1 / 0.85**2


@pytest.mark.parametrize("level", LEVELS)
def test_sources_are_read_once_and_kept_within_the_budget(level: str) -> None:
    kept = Pictures(augmentation=level)
    first = views(kept)
    assert kept.reads == len(SHAPES)
    tight = Pictures(augmentation=level, cache_gib=3 * 32 * 48 * 4 / 2**30)
    assert equal(first, views(tight)) and tight.reads > len(SHAPES)


@pytest.mark.parametrize("channels", [1, 3, 5])
def test_colours_of_bytes_are_those_of_floats(channels: int) -> None:
    image = np.random.default_rng(0).integers(40, 180, (20, 30, channels)).astype(np.uint8)
    floats = image.astype(np.float32)
    pixels = PixelFormat((0.4,) * channels, (0.2,) * channels)
    for line in (SAME, Line(1.2, 0.0), Line(0.7, 31.5), Line(3.0, -200.0)):
        expected = ((floats * line.factor + line.offset).clip(0, 255) / 255 - 0.4) / 0.2
        for values in (image, floats):
            planes = normalised(values, pixels, line)
            assert planes.dtype == np.float32 and np.allclose(planes, expected.transpose(2, 0, 1), atol=1e-5)
        same, other = saturated(image, line, 1.0), saturated(floats, line, 1.0)
        assert same.dtype == np.uint8 and other.dtype == np.float32 and np.abs(same - other).max() <= 1
        assert np.allclose(other, (floats * line.factor + line.offset).clip(0, 255), atol=1e-3)
    assert bool(np.ptp(saturated(floats, SAME, 0.0), axis=2).max() < 1e-3) == (channels in (1, 3))


@pytest.mark.parametrize("bgr", [False, True])
def test_normalisation_is_that_of_the_format(bgr: bool) -> None:
    image = np.random.default_rng(0).integers(0, 256, (9, 7, 4)).astype(np.uint8)
    pixels = PixelFormat((0.1, 0.2, 0.3, 0.4), (0.5, 0.6, 0.7, 0.8), bgr)
    expected = pixels.normalised(torch.from_numpy(image).permute(2, 0, 1))
    for values in (image, image.astype(np.float32)):
        assert torch.allclose(torch.from_numpy(normalised(values, pixels)), expected, atol=1e-5)


@pytest.mark.parametrize("channels", [1, 3, 5])
def test_brightness_is_a_factor_and_contrast_keeps_the_mean_grey(channels: int) -> None:
    image = np.random.default_rng(0).integers(0, 256, (20, 30, channels)).astype(np.uint8)
    assert line_of(image, brightness=1.2, contrast=1.0) == (1.2, 0.0)
    factor, offset = line_of(image, brightness=1.0, contrast=0.7)
    assert factor == 0.7 and grey_of(image) * factor + offset == pytest.approx(grey_of(image))


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("channels", [1, 3, 5])
def test_noise_blur_and_compression_stay_in_range(channels: int, dtype: type) -> None:
    image: NDArray[Any] = np.random.default_rng(0).integers(0, 256, (64, 64, channels)).astype(dtype)
    grey: NDArray[Any] = np.full((64, 64, channels), 128, dtype)
    for changed in (noisy(image, 30.0, np.random.default_rng(1)), blurred(image, 1.0), compressed(image, 50)):
        assert changed.shape == image.shape and changed.dtype == dtype
        assert changed.min() >= 0 and changed.max() <= 255
    noise = noisy(grey, 5.0, np.random.default_rng(1)).astype(np.float64) - 128
    assert noise.std() == pytest.approx(5.0, rel=0.05) and abs(noise.mean()) < 0.2
    assert np.abs(compressed(grey, 50).astype(float) - 128).max() <= 2
