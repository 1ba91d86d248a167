"""Masks of boxes pasted into pictures."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from kdtui.engine.data import IGNORE_INDEX, Batch
from kdtui.engine.data.source import Size
from kdtui.engine.roi.paste import TARGET, instance_picture, pasted, pasted_labels, target_mask, window_of

BOX = (3.3, 5.6, 41.7, 60.2)
SIZE = Size(64, 48)


def centres(box: tuple[float, ...], height: int, width: int) -> tuple[Tensor, Tensor]:
    """x and y of the centres of the cells of a box's mask, [height,width] each."""
    x1, y1, x2, y2 = box
    down, across = (torch.arange(height) + 0.5) / height, (torch.arange(width) + 0.5) / width
    y, x = torch.meshgrid(y1 + down * (y2 - y1), x1 + across * (x2 - x1), indexing="ij")
    return x, y


def of_picture(size: Size) -> tuple[Tensor, Tensor]:
    return centres((0.0, 0.0, size.width, size.height), *size)


def test_a_plane_is_pasted_exactly() -> None:
    x, y = centres(BOX, 40, 24)
    window, values = pasted((2 * x - 3 * y)[None], BOX, SIZE)
    true_x, true_y = of_picture(SIZE)
    true = (2 * true_x - 3 * true_y)[window.slices]
    # Bilinear interpolation reproduces a plane, except beyond the centres of the outermost cells.
    assert values[0, 2:-2, 2:-2] == pytest.approx(true[2:-2, 2:-2], abs=1e-3)


def test_the_pixels_of_a_box_are_those_whose_centres_are_in_it() -> None:
    x, y = of_picture(SIZE)
    for box in (BOX, (0.5, 0.5, 1.5, 2.0), (-9.0, 50.0, 7.0, 90.0), (40.0, -5.0, 99.0, 3.0), (1.1, 1.1, 1.4, 9.0)):
        window = window_of(box, SIZE)
        covered = torch.zeros(SIZE, dtype=torch.bool)
        covered[window.slices] = True
        x1, y1, x2, y2 = box
        assert torch.equal(covered, (x1 <= x) & (x < x2) & (y1 <= y) & (y < y2)), box


@pytest.mark.parametrize("box", [(50.0, 3.0, 60.0, 9.0), (-20.0, 0.0, -1.0, 9.0), (3.1, 3.1, 3.2, 3.2)])
def test_a_box_without_a_pixel_has_an_empty_mask(box: tuple[float, ...]) -> None:
    assert not target_mask(torch.zeros(3, 8, 6), box, SIZE).any()
    assert pasted(torch.zeros(3, 8, 6), box, SIZE)[1].numel() == 0


@pytest.mark.parametrize("box", [BOX, (-11.0, -7.5, 37.0, 88.0)])
def test_shapes_are_at_their_place(box: tuple[float, ...]) -> None:
    middle_x, middle_y, radius = 22.0, 31.0, 12.0

    def distance(x: Tensor, y: Tensor) -> Tensor:
        return radius - ((x - middle_x) ** 2 + (y - middle_y) ** 2).sqrt()

    x, y = centres(box, 160, 120)
    logits = torch.stack([-distance(x, y), distance(x, y), torch.full_like(x, -99.0)])
    disc = distance(*of_picture(SIZE)) >= 0
    mask = target_mask(logits, box, SIZE)
    assert (mask != disc).sum() <= 2  # pixels whose centre is on the circle
    assert mask.sum() == pytest.approx(math.pi * radius**2, rel=0.02)


def test_what_is_cut_and_pasted_is_the_same() -> None:
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand((1, 1, 7, 5), generator=generator)
    picture = functional.interpolate(coarse, SIZE, mode="bicubic")[0, 0] > 0.5
    x, y = centres(BOX, 160, 120)
    labels = picture[y.floor().long(), x.floor().long()].long()  # sampled at the centres of the cells
    inside = torch.zeros(SIZE, dtype=torch.bool)
    inside[window_of(BOX, SIZE).slices] = True
    target, ignored = pasted_labels(labels, BOX, SIZE)
    assert not ignored.any()
    assert not target[~inside].any()
    # The mask has three cells per pixel, so only pixels at the border of the box may have none on the other side.
    assert (target != picture)[inside].float().mean() < 0.01
    assert target.sum() > 100


def test_instances_have_their_numbers_and_a_small_one_is_above_a_large_one() -> None:
    rois = torch.tensor([[1.0, 0, 0, 8, 8], [1, 2, 2, 5, 5], [0, 0, 0, 4, 8]])
    labels = torch.full((3, 4, 4), TARGET)
    labels[2, :2], labels[2, 2:] = 0, IGNORE_INDEX
    batch = Batch(torch.zeros(3, 3, 8, 8), labels, {"rois": rois})
    first, second, third = instance_picture(labels, batch)
    assert torch.equal(second == 2, torch.zeros(8, 8, dtype=torch.bool).index_put_(_square(2, 5), torch.tensor(True)))
    assert (second == 1).sum() == 64 - 9
    assert (first[:4] == 0).all() and (first[4:, :4] == IGNORE_INDEX).all() and (first[:, 4:] == 0).all()
    assert not third.any()
    assert instance_picture(labels[:0], Batch(batch.images, labels[:0], {"rois": rois[:0]})).sum() == 0


def _square(first: int, last: int) -> tuple[Tensor, Tensor]:
    rows, columns = torch.meshgrid(torch.arange(first, last), torch.arange(first, last), indexing="ij")
    return rows, columns
