from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from kdtui.engine.data.geometry import Content
from kdtui.engine.data.source import Size
from kdtui.engine.inference import Inference, Mode, at_size, resampled


def colours_as_logits(images: Tensor) -> Tensor:
    """A network that looks at one pixel at a time, so that every mode must agree."""
    return torch.cat([images, -images[:, :1]], dim=1)


@pytest.mark.parametrize("mode", ["resize", "whole", "slide"])
@pytest.mark.parametrize("size", [(16, 16), (16, 40), (37, 23), (50, 17)])
@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.9])
def test_a_pixelwise_network_has_the_same_logits_in_every_mode(
    mode: Mode, size: tuple[int, int], overlap: float
) -> None:
    images = torch.randn(2, 3, *size)
    logits = Inference(mode, Size(16, 16), overlap, batch_size=3)(colours_as_logits, images, Size(*size))
    torch.testing.assert_close(logits, colours_as_logits(images))


def test_windows_have_the_asked_size_and_overlap() -> None:
    shapes: list[tuple[int, ...]] = []

    def network(images: Tensor) -> Tensor:
        shapes.append(tuple(images.shape))
        return images

    Inference("slide", Size(16, 16), 0.5, batch_size=4)(network, torch.zeros(1, 1, 32, 48), Size(32, 48))
    assert {shape[-2:] for shape in shapes} == {(16, 16)}
    assert sum(shape[0] for shape in shapes) == 3 * 5  # half a window further each time
    assert max(shape[0] for shape in shapes) == 4


def test_overlapping_windows_are_averaged() -> None:
    def network(images: Tensor) -> Tensor:
        return images.mean(dim=(2, 3), keepdim=True).expand(-1, -1, *images.shape[-2:])

    images = torch.zeros(1, 1, 4, 6)
    images[..., 4:] = 1.0
    logits = Inference("slide", Size(4, 4), 0.5)(network, images, Size(4, 6))
    assert logits[0, 0, 0].tolist() == [0.0, 0.0, 0.25, 0.25, 0.5, 0.5]


@pytest.mark.gpu
def test_windows_are_averaged_on_the_device_of_the_network() -> None:
    inference = Inference("slide", Size(4, 4), 0.5)
    logits = inference(lambda images: images.cuda(), torch.ones(1, 1, 4, 6), Size(4, 6))
    assert logits.is_cuda and bool((logits == 1).all())


def test_padding_is_cut_off() -> None:
    images = functional.pad(torch.ones(1, 2, 5, 7), (0, 1, 0, 3), value=-1.0)
    assert (Inference("whole", Size(4, 4))(lambda given: given, images, Size(5, 7)) == 1).all()


def test_logits_of_another_size_are_interpolated() -> None:
    logits = torch.rand(1, 2, 3, 5)
    assert at_size(logits, Size(3, 5)) is logits
    assert at_size(logits, Size(6, 10)).shape == (1, 2, 6, 10)


def test_a_part_between_pixels_is_resampled_as_one_on_pixels() -> None:
    ramp = torch.arange(8.0).expand(1, 1, 6, 8)
    on_pixels = resampled(ramp, Content(0.0, 2.0, 6.0, 4.0), of=Size(6, 8), to=Size(6, 8))
    between = resampled(ramp, Content(0.0, 2.0, 6.0, 4.0 + 1e-6), of=Size(6, 8), to=Size(6, 8))
    # Equal but for the border, where the part on pixels does not see its neighbours.
    torch.testing.assert_close(on_pixels[..., 1:-1], between[..., 1:-1], atol=1e-4, rtol=0)
    assert resampled(ramp[..., ::2], Content(0.0, 2.0, 6.0, 4.0), of=Size(6, 8), to=Size(3, 2)).shape == (1, 1, 3, 2)
