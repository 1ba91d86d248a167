"""Work on the meta device gives the shapes and the errors of torch, and leaves random numbers alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from kdtui.engine.shapes import ShapesOnly
from tests.engine.networks import unet


def outcome(work: Any) -> Any:
    """The shape, type and layout of a result, or the type of its error."""
    try:
        made: Tensor = work()
    except (RuntimeError, ValueError) as error:
        return type(error)
    return made.shape, made.dtype, made.is_contiguous(memory_format=torch.channels_last)


def compare(work: Any) -> None:
    """The outcome in the mode, which has to be that without it; and that on the CPU, if torch computes it there."""
    with ShapesOnly():
        fast = outcome(lambda: work("meta"))
    real = outcome(lambda: work("cpu"))
    assert fast == outcome(lambda: work("meta"))
    assert fast == real or isinstance(real, type)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(("shape", "channels"), [((2, 4, 3, 3), 4), ((1, 4, 1, 1), 4), ((2, 4, 3, 3), 5), ((2, 4), 4)])
def test_a_batch_norm_has_the_shape_or_the_error_of_torch(
    shape: tuple[int, ...], channels: int, training: bool
) -> None:
    def work(device: str) -> Tensor:
        mean, variance, weight, bias = (torch.ones(channels, device=device) for _ in range(4))
        return functional.batch_norm(torch.ones(shape, device=device), mean, variance, weight, bias, training=training)

    compare(work)


@pytest.mark.parametrize(
    "to",
    [
        {"size": (7, 5)},
        {"size": 6},
        {"scale_factor": 2},
        {"scale_factor": (1.7, 0.4)},
        {"scale_factor": 0.1},
        {"size": (4, 4), "scale_factor": 2},
        {},
    ],
)
@pytest.mark.parametrize("mode", ["bilinear", "nearest"])
def test_an_interpolation_has_the_shape_or_the_error_of_torch(to: dict[str, Any], mode: str) -> None:
    compare(lambda device: functional.interpolate(torch.ones(2, 3, 6, 4, device=device), mode=mode, **to))


def test_networks_have_the_same_random_weights() -> None:
    made = []
    for mode in (ShapesOnly, torch.no_grad):
        torch.manual_seed(3)
        with mode():
            made.append(unet("tu-test_resnet").state_dict())
        made[-1]["next"] = torch.rand(2)
    assert all(torch.equal(made[0][name], made[1][name]) for name in made[1])
