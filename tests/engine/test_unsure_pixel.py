from __future__ import annotations

import pytest
import torch

from kdtui.engine.teacher_cache import unsure_pixel


def entropy(probabilities: torch.Tensor) -> torch.Tensor:
    entropies: torch.Tensor = torch.special.entr(probabilities).sum(dim=0)
    return entropies


@pytest.mark.parametrize("size", [(1, 1), (1, 4), (9, 7)])
def test_the_pixel_is_one_of_the_image_that_three_quarters_are_surer_than(size: tuple[int, int]) -> None:
    logits = 3 * torch.randn((3, *size), generator=torch.Generator().manual_seed(0))
    pixel = unsure_pixel(logits, ["a", "b", "c"])
    probabilities = logits.flatten(1).softmax(dim=0)
    column = torch.tensor([pixel[name] for name in "abc"])
    (at,) = (probabilities - column[:, None]).abs().amax(dim=0).lt(1e-5).nonzero().flatten().tolist()
    surer = int((entropy(probabilities) < entropy(probabilities)[at]).sum())
    assert surer == int(0.75 * (size[0] * size[1] - 1))


def test_a_tiny_probability_comes_back_at_a_high_temperature() -> None:
    pixel = unsure_pixel(torch.tensor([20.0, 0.0])[:, None, None], ["sure", "tiny"])
    softened = torch.tensor(list(pixel.values())).log().div(20).softmax(dim=0)
    assert softened[1] == pytest.approx(float(torch.tensor([20.0, 0.0]).div(20).softmax(dim=0)[1]), abs=1e-4)
