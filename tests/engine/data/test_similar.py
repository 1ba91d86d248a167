from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageFilter

from kdtui.engine.data.similar import NEAR, near_pairs, perceptual_hash


def photo(seed: int) -> Image.Image:
    """A picture with structure at several scales."""
    rng = np.random.default_rng(seed)
    layers = [Image.fromarray(rng.integers(0, 256, (side, side, 3), np.uint8)).resize((96, 64)) for side in (3, 6, 12)]
    return Image.blend(Image.blend(layers[0], layers[1], 0.5), layers[2], 0.3)


def jpeg(picture: Image.Image) -> Image.Image:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=60)
    return Image.open(buffer)


def hashed(picture: Image.Image) -> int:
    value = perceptual_hash(np.asarray(picture))
    assert value is not None
    return value


CHANGES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "compressed": jpeg,
    "smaller": lambda picture: picture.resize((48, 32)),
    "brighter": lambda picture: ImageEnhance.Brightness(picture).enhance(1.05),
    "blurred": lambda picture: picture.filter(ImageFilter.GaussianBlur(1)),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_changed_copy_has_nearly_the_same_hash(name: str) -> None:
    for seed in range(8):
        assert (hashed(photo(seed)) ^ hashed(CHANGES[name](photo(seed)))).bit_count() <= NEAR


def test_other_images_have_other_hashes() -> None:
    hashes = [hashed(photo(seed)) for seed in range(40)]
    assert not list(near_pairs(hashes))


def test_an_image_without_structure_has_no_hash() -> None:
    assert perceptual_hash(np.full((40, 60, 3), 7, np.uint8)) is None


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_any_number_of_channels_and_floats(channels: int) -> None:
    values = np.random.default_rng(0).integers(0, 256, (40, 60, channels), np.uint8)
    assert perceptual_hash(values) == perceptual_hash(values.astype(np.float32)) is not None


def test_the_pairs_are_those_of_a_comparison_of_all() -> None:
    rng = np.random.default_rng(1)
    hashes = [int(value) for value in rng.integers(0, 2**63, 60, dtype=np.uint64)]
    for position in range(30):  # with copies of which up to six bits differ
        flips = sum(1 << int(bit) for bit in rng.choice(64, position % 7, replace=False))
        hashes.append(hashes[position] ^ flips)
    expected = {
        (one, other)
        for one in range(len(hashes))
        for other in range(one + 1, len(hashes))
        if (hashes[one] ^ hashes[other]).bit_count() <= NEAR
    }
    pairs = list(near_pairs(hashes))
    assert set(pairs) == expected and len(pairs) == len(expected) > 10
