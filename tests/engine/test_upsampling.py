"""What is kept of a teacher that upsamples its logits: the small map, from which its output follows."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import pytest
import segmentation_models_pytorch as smp
import torch
from torch import Tensor, nn

from kdtui.engine.adapted import Adapted
from kdtui.engine.models import ARCHITECTURES, AnySize, build_network
from kdtui.engine.teacher import load_teacher
from kdtui.engine.teacher_logits import KeptLogits
from kdtui.engine.upsampling import upsampling_of
from kdtui.profile import Teacher
from tests.engine.foreign import WRITERS
from tests.engine.test_dry_run import student

FACTORS = {"FPN": 4, "PSPNet": 32, "PAN": 4, "DeepLabV3": 8, "DeepLabV3Plus": 4, "UPerNet": 4, "Segformer": 4, "DPT": 2}
"""By how much a network of smp of depth 5 upsamples its logits."""
FP16_ROUNDING = 2.0**-11
"""Largest relative error of a number that is rounded to fp16."""


def kept_of(network: nn.Module, images: Tensor) -> KeptLogits:
    return KeptLogits(network.eval().requires_grad_(False), contextlib.nullcontext, images[:1])


def images_of(height: int, width: int) -> Tensor:
    return torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(0))


def output(network: nn.Module, images: Tensor) -> Tensor:
    with torch.inference_mode():
        raw: Tensor = network(images)
    return raw


def assert_exact(network: nn.Module, images: Tensor) -> KeptLogits:
    """What was kept gives the output of the network, and after rounding to fp16 up to the rounding of what was kept."""
    kept = kept_of(network, images)
    raw, values = output(network, images), kept.computed(images)
    assert values.shape[1:] == kept.shape
    torch.testing.assert_close(kept.raw(values, *images.shape[-2:]), raw, rtol=1e-5, atol=1e-5)
    rounded = kept.raw(values.half().float(), *images.shape[-2:])
    assert (rounded - raw).abs().max() <= FP16_ROUNDING * values.abs().max() + 1e-5
    return kept


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_output_of_every_architecture_follows_from_what_is_kept(architecture: str) -> None:
    network = build_network(student(architecture, 5), task="hierarchical", classes=3)
    side = 160 if architecture == "DPT" else 128
    kept = assert_exact(network, images_of(side, side))
    small = side // FACTORS.get(architecture, 1)
    assert kept.shape == (4, small, small)
    assert kept.is_upsampled == (architecture in FACTORS)


@pytest.mark.parametrize("name", WRITERS)
def test_the_output_of_every_family_follows_from_what_is_kept(name: str, tmp_path: Path) -> None:
    network, report = load_teacher(WRITERS[name](tmp_path), teacher=Teacher(), task="semantic", classes=5)
    kept = assert_exact(network, images_of(64, 96))
    assert kept.is_upsampled == (report.family in ("torchvision", "Hugging Face", "mmsegmentation"))


@pytest.fixture(scope="module")
def fpn() -> nn.Module:
    """Eight channels, upsampled by 4."""
    return build_network(student("FPN", 5), task="semantic", classes=8).eval()


@pytest.mark.parametrize(
    "changes",
    [
        {"groups": [[0, 3], [1, 2, 7]]},
        {"channels": [3, 0, 2, 1, 7, 6, 5, 4]},
        {"scale": 2.0},
        {"scale": 0.5, "groups": [[5, 6], [0], [1]]},
    ],
    ids=["classes that are added", "order", "larger", "smaller, with added classes"],
)
def test_what_an_adapted_teacher_changes_follows_the_upsampling(fpn: nn.Module, changes: dict[str, Any]) -> None:
    network = Adapted(AnySize(fpn, stride=32), task="semantic", convert=nn.LeakyReLU(), **changes)
    assert assert_exact(network, images_of(72, 104)).is_upsampled


def test_padding_is_cut_after_the_upsampling(fpn: nn.Module) -> None:
    assert assert_exact(AnySize(fpn, stride=32), images_of(40, 56)).shape == (8, 16, 16)


@pytest.mark.parametrize(
    "changes", [{"groups": [[0, 1, 2, 3, 4, 5, 6, 7]]}, {"scale": 4.0}], ids=["fewer classes", "larger"]
)
def test_the_output_is_kept_where_it_takes_no_more(fpn: nn.Module, changes: dict[str, Any]) -> None:
    network = Adapted(fpn, task="semantic", **({"scale": 2.0} | changes))
    kept = assert_exact(network, images_of(64, 64))
    assert kept.shape == (len(changes.get("groups", range(8))), 64, 64)
    assert not kept.is_upsampled


class Sharper(smp.FPN):  # type: ignore[misc] # smp has no annotations
    """A network that does more with what its head computes."""

    def forward(self, images: Tensor) -> Tensor:
        """Twice the logits."""
        raw: Tensor = super().forward(images)
        return 2 * raw


def test_nothing_is_assumed_of_a_derived_network() -> None:
    network = Sharper("tu-test_resnet", encoder_weights=None, decoder_pyramid_channels=16)
    assert upsampling_of(network) is None
    assert not assert_exact(network, images_of(64, 64)).is_upsampled


def test_an_activation_after_the_upsampling_is_not_taken_for_none() -> None:
    network = smp.FPN("tu-test_resnet", encoder_weights=None, decoder_pyramid_channels=16, activation="sigmoid")
    assert upsampling_of(network) is None


def test_no_hook_remains(fpn: nn.Module) -> None:
    kept_of(fpn, images_of(64, 64)).computed(images_of(64, 64))
    assert not any(module._forward_hooks for module in fpn.modules())
