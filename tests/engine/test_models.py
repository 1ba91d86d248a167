from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import functional as F

from kdtui.engine.models import build_network, compose, count_parameters, create, freeze_unused, stride
from kdtui.errors import ModelError
from kdtui.profile import Model


def test_hierarchical_output_is_the_composition_of_two_decisions() -> None:
    raw = torch.randn(2, 4, 3, 5)
    logits = compose(raw, "hierarchical")
    person = F.softmax(raw[:, :2], dim=1)[:, 1]
    target = F.softmax(raw[:, 2:], dim=1)[:, 0]
    expected = torch.stack([1 - person, person * target, person * (1 - target)], dim=1)
    torch.testing.assert_close(logits.main.exp(), expected)
    torch.testing.assert_close(F.softmax(logits.main, dim=1), expected)


def test_semantic_output_is_read_as_it_is() -> None:
    raw = torch.randn(2, 7, 3, 5)
    logits = compose(raw.bfloat16(), "semantic")
    assert logits.main.dtype == torch.float32
    assert not logits.extra


def test_extreme_decisions_stay_finite() -> None:
    raw = torch.tensor([90.0, -90.0, 80.0, -80.0]).view(1, 4, 1, 1).requires_grad_()
    main = compose(raw, "hierarchical").main
    main.sum().backward()
    assert torch.isfinite(main).all()
    assert raw.grad is not None
    assert torch.isfinite(raw.grad).all()


def test_dead_parameters_are_frozen_and_counted_apart() -> None:
    network = build_network(Model(encoder="timm-efficientnet-b0"), task="hierarchical", classes=3)
    counts = count_parameters(network)
    assert (counts.stored, counts.used) == (6_251_904, 5_839_744)
    frozen = {name for name, parameter in network.named_parameters() if not parameter.requires_grad}
    assert frozen == {"encoder.conv_head.weight", "encoder.bn2.weight", "encoder.bn2.bias"}


def test_an_encoder_without_dead_parameters_keeps_all_trainable() -> None:
    counts = count_parameters(build_network(Model(encoder="tu-test_resnet"), task="semantic", classes=5))
    assert counts.stored == counts.used


def test_finding_dead_parameters_leaves_the_network_as_it_was() -> None:
    network = create(Model(encoder="tu-test_resnet", decoder_channels=(16, 8, 8, 8, 8)), channels=4)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    generator = torch.get_rng_state()
    freeze_unused(network)
    assert network.training
    assert all(parameter.grad is None for parameter in network.parameters())
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert torch.equal(generator, torch.get_rng_state())


SMALL: list[tuple[str, dict[str, Any]]] = [
    ("Unet", {"decoder_channels": (16, 8, 8, 8, 8)}),
    ("UnetPlusPlus", {"decoder_channels": (16, 8, 8, 8, 8)}),
    ("MAnet", {"decoder_channels": (16, 8, 8, 8, 8)}),
    ("Linknet", {}),
    ("FPN", {"decoder_channels": 64}),
    ("PSPNet", {"decoder_channels": 32, "encoder_depth": 3}),
    ("PAN", {"decoder_channels": 32}),
    ("DeepLabV3", {"decoder_channels": 32}),
    ("DeepLabV3Plus", {"decoder_channels": 32}),
    ("UPerNet", {"decoder_channels": 32}),
    ("Segformer", {"decoder_channels": 32}),
]


@pytest.mark.parametrize(("architecture", "settings"), SMALL, ids=[name for name, _ in SMALL])
def test_every_architecture_returns_the_size_of_its_input(architecture: str, settings: dict[str, Any]) -> None:
    model = Model(architecture=architecture, encoder="tu-test_resnet", **settings)
    network = build_network(model, task="semantic", classes=5).eval()
    side = max(stride(model), 64) * 2
    with torch.inference_mode():
        assert network(torch.zeros(1, 3, side, side)).shape == (1, 5, side, side)
    assert any(parameter.requires_grad for parameter in network.parameters())


def test_decoder_width_makes_a_smaller_student() -> None:
    wide, slim = (
        count_parameters(
            build_network(Model(encoder="tu-test_resnet", decoder_channels=widths), task="hierarchical", classes=3)
        )
        for widths in ((128, 64, 32, 32, 16), (64, 32, 32, 16, 16))
    )
    assert slim.stored < wide.stored


def test_a_shallower_encoder_takes_the_narrow_end_of_the_default_decoder() -> None:
    network = build_network(Model(encoder="tu-test_resnet", encoder_depth=3), task="semantic", classes=2)
    assert network(torch.zeros(2, 3, 32, 32)).shape == (2, 2, 32, 32)


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (Model(architecture="Unett"), ["architecture", "Unett", "Unet"]),
        (Model(encoder="resnet81"), ["encoder", "resnet81", "resnet18"]),
        (Model(encoder="tu-mobilenetv3_small_10"), ["tu-mobilenetv3_small_100"]),
        (Model(encoder="resnet18", decoder_channels=(8, 8)), ["student.decoder_channels", "5 numbers"]),
        (Model(encoder="resnet18", decoder_channels=8), ["one decoder width per stage"]),
        (Model(architecture="FPN", encoder="resnet18", decoder_channels=(8, 8)), ["takes one decoder width"]),
        (Model(architecture="Linknet", encoder="resnet18", decoder_channels=8), ["Linknet"]),
        (Model(architecture="DPT", encoder="resnet18"), ["DPT cannot be built"]),
    ],
)
def test_what_cannot_be_built_is_reported_with_the_reason(model: Model, words: list[str]) -> None:
    with pytest.raises(ModelError) as caught:
        build_network(model, task="semantic", classes=2)
    for word in words:
        assert word in str(caught.value)
