"""Features of every architecture: where they are, and that taking them leaves the network as it was."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from kdtui.engine.models import ARCHITECTURES, AnySize, build_network
from kdtui.engine.taps import tap_channels, tap_points, tapped
from kdtui.profile import Model
from tests.engine.test_dry_run import student


def network_of(architecture: str) -> nn.Module:
    return build_network(student(architecture, 5), task="hierarchical", classes=3)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_features_of_every_architecture_are_what_its_parts_answer(architecture: str) -> None:
    network: Any = network_of(architecture).eval()
    side = 160 if architecture == "DPT" else 128
    channels = tap_channels(network, side, side)
    assert {"encoder", "decoder"} <= channels.keys() == tap_points(network).keys()
    images = torch.randn(1, 3, side, side)
    raw, maps = tapped(network, images, channels)
    assert {name: values.shape[1] for name, values in maps.items()} == channels
    torch.testing.assert_close(network(images), raw, rtol=0, atol=0)
    torch.testing.assert_close(network.segmentation_head(maps["decoder"]), raw)
    stages = network.encoder(images)
    last = stages[0][-1] if isinstance(stages, tuple) else stages[-1]
    torch.testing.assert_close(maps["encoder"], last, rtol=0, atol=0)
    if "decoder.0" in maps:
        blocks = [name for name in maps if name.startswith("decoder.")]
        torch.testing.assert_close(maps[blocks[-1]], maps["decoder"], rtol=0, atol=0)
    maps["encoder"].sum().backward()
    assert any(parameter.grad is not None for parameter in network.encoder.parameters())
    assert not any(module._forward_hooks for module in network.modules())


@pytest.mark.parametrize(("encoder", "depth"), [("mit_b0", 5), ("tu-test_convnext", 4)])
def test_stages_that_an_encoder_does_not_have_have_no_name(encoder: str, depth: int) -> None:
    model = Model(encoder=encoder, encoder_depth=depth, decoder_channels=(8,) * depth)
    channels = tap_channels(build_network(model, task="semantic", classes=2), 64, 64)
    stages = [name for name in channels if name.startswith("encoder.")]
    assert stages == [f"encoder.{stage}" for stage in range(2, depth + 1)]
    assert min(channels.values()) > 0


class Overwriting(nn.Module):
    """An encoder, decoder and head of which the head changes its input in place."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder: Any = nn.Conv2d(3, 4, 1)
        setattr(self.encoder, "out_channels", [3, 4])  # noqa: B010 (as smp's encoders have it)
        self.encoder.register_forward_hook(lambda _, inputs, output: [inputs[0], output])
        self.decoder = nn.Conv2d(4, 4, 1)
        self.segmentation_head = nn.Sequential(nn.ReLU(inplace=True), nn.Conv2d(4, 2, 1))

    def forward(self, images: Tensor) -> Tensor:
        answer: Tensor = self.segmentation_head(self.decoder(self.encoder(images)[1]))
        return answer


def test_a_map_that_is_overwritten_later_is_no_place_to_take_features() -> None:
    assert tap_channels(Overwriting(), 8, 8) == {"encoder.1": 4, "encoder": 4}


def test_features_of_a_padded_image_cover_the_image_alone() -> None:
    network = AnySize(network_of("Unet").eval(), stride=32)
    images = torch.randn(2, 3, 40, 56)
    _, maps = tapped(network, images, ["encoder.3", "encoder.5"])
    padded = nn.functional.pad(images, (0, 8, 0, 24))
    _, whole = tapped(network.network, padded, ["encoder.3", "encoder.5"])
    torch.testing.assert_close(maps["encoder.3"], whole["encoder.3"][..., :5, :7])
    assert maps["encoder.5"].shape[-2:] == (2, 2)  # 40 of 64 and 56 of 64 pixels in cells of 32
    _, same = tapped(network, padded, ["encoder.5"])
    torch.testing.assert_close(same["encoder.5"], whole["encoder.5"], rtol=0, atol=0)
