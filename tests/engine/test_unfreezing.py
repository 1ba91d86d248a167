"""Stages of encoders of every family, and which of them an epoch trains."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from kdtui.engine import checkpoint
from kdtui.engine.check import check
from kdtui.engine.models import build_network
from kdtui.engine.taps import TapPoint
from kdtui.engine.unfreezing import EncoderStages, stages_of
from kdtui.errors import ModelError
from kdtui.profile import Model, Unfreezing
from kdtui.store.run import Run
from tests.engine.rank_processes import TRAIN, ranks
from tests.engine.runs import events_of, make_run, same_weights, tiny_profile

FAMILIES: dict[str, tuple[dict[str, Any], list[int]]] = {
    "CNN": ({"encoder": "resnet18"}, [5, 4, 3, 2, 1]),
    "smp's EfficientNet": ({"encoder": "timm-efficientnet-b0"}, [5, 4, 3, 2, 1]),
    "SegFormer": ({"encoder": "mit_b0"}, [5, 4, 3, 2]),
    "timm, CNN": ({"encoder": "tu-test_resnet", "encoder_depth": 3, "decoder_channels": [8, 8, 8]}, [3, 2, 1]),
    "timm, ConvNeXt": (
        {"encoder": "tu-test_convnext", "encoder_depth": 4, "decoder_channels": [8, 8, 8, 8]},
        [4, 3, 2],
    ),
    "timm, plain transformer": (
        {"architecture": "DPT", "encoder": "tu-test_vit3", "encoder_depth": 4, "decoder_channels": 16},
        [4, 3, 2, 1],
    ),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_every_parameter_of_an_encoder_belongs_to_one_stage(family: str) -> None:
    model, numbers = FAMILIES[family]
    network = build_network(Model.model_validate(model), task="semantic", classes=3)
    stages = stages_of(network, 160, 160)
    assert list(stages) == [f"encoder.{number}" for number in numbers]
    listed = [key for keys in stages.values() for key in keys]
    assert len(listed) == len(set(listed))
    trained = {name for name, parameter in network.named_parameters() if parameter.requires_grad}
    assert {key for key in trained if key.startswith("encoder.")} == set(listed)


def test_stages_are_unfrozen_from_the_deepest_on() -> None:
    network = build_network(Model.model_validate(FAMILIES["timm, CNN"][0]), task="semantic", classes=3)
    stages = EncoderStages(network, Unfreezing(start=3, every=2, stages=2), 32, 32)
    deep, middle, shallow = (list(keys) for keys in stages_of(network, 32, 32).values())
    decoder = [name for name, _ in network.named_parameters() if not name.startswith("encoder.")]
    for epoch, trained in ((1, []), (2, []), (3, deep), (4, deep), (5, deep + middle), (99, deep + middle)):
        network.train()
        stages.freeze(epoch)
        assert [name for name, p in network.named_parameters() if p.requires_grad] == [
            name for name, _ in network.named_parameters() if name in {*trained, *decoder}
        ]
        before = network.state_dict()["encoder.model.bn1.running_mean"].clone()
        network(torch.randn(2, 3, 32, 32)).sum().backward()
        assert torch.equal(before, network.state_dict()["encoder.model.bn1.running_mean"])
        norms = {name: one for name, one in network.named_modules() if isinstance(one, nn.BatchNorm2d)}
        assert {name for name, one in norms.items() if one.training} == {
            name for name in norms if f"{name}.weight" in {*trained, *decoder}
        }
    assert all(dict(network.named_parameters())[name].grad is None for name in shallow)


def test_a_stage_that_does_not_exist_is_refused_before_training() -> None:
    profile = tiny_profile(training__unfreezing={"stages": 4})
    (failed,) = [one for one in check(profile)["checks"] if not one["ok"]]
    assert "allowed: 1 to 3: encoder.3, encoder.2, encoder.1" in failed["message"]
    assert failed["hint"] == "--set training.unfreezing.stages=3"
    with pytest.raises(ModelError, match="no encoder stages"):
        EncoderStages(NoStages(), Unfreezing(), 32, 32)


@pytest.mark.parametrize(("start", "warned"), [(2, False), (3, True)])
def test_an_encoder_that_no_epoch_trains_is_warned_about(start: int, warned: bool) -> None:
    profile = tiny_profile(training__epochs=2, training__unfreezing={"start": start})
    warnings = [one for one in check(profile)["warnings"] if one["code"] == "encoder-never-trained"]
    assert [one["message"] for one in warnings] == [
        "the encoder is never trained: unfreezing starts at epoch 3 of 2"
    ] * warned


class NoStages(nn.Module):
    """A network of another package, without feature maps."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Conv2d(3, 3, 1)

    def tap_points(self) -> dict[str, TapPoint]:
        return {}

    def forward(self, images: Tensor) -> Tensor:
        values: Tensor = self.head(images)
        return values


@pytest.mark.slow
def test_two_ranks_train_a_part_of_the_parameters_and_resume(tmp_path: Path, short_teacher: Run) -> None:
    """With a projection, whose gradients come from outside of the forward pass that DDP sees."""

    def made(name: str, devices: int) -> Run:
        return make_run(
            tmp_path / name,
            teacher__checkpoint=str(short_teacher.best),
            # Batch norms would see another half of the batch on each rank.
            student={"kind": "smp", "encoder": "mit_b0", "architecture": "Segformer", "decoder_channels": 16},
            distillation={"enabled": True, "terms": [{"kind": "kl"}, {"kind": "feature", "weight": 0.1}]},
            training__devices=devices,
            training__epochs=4,
            training__precision="fp32",
            training__ema=0.5,
            training__unfreezing={"every": 2},
        )

    whole, halved = made("whole", 2), made("halved", 2)
    ranks(2, TRAIN, str(whole.path))
    ranks(2, TRAIN, str(halved.path), "--stopped-at-step", "7")
    ranks(2, TRAIN, str(halved.path), "--attempt", "2")
    assert events_of(whole)[-1].kind == events_of(halved)[-1].kind == "finished"
    assert same_weights(whole.last, halved.last)
    untrained, first = (checkpoint.load(path)["student"] for path in (whole.untrained, whole.epoch_checkpoint(3)))
    frozen = {name for name in first if torch.equal(first[name], untrained[name])}
    assert any(name.startswith("encoder.patch_embed1") for name in frozen)
    assert not any(name.startswith("encoder.block4") and name.endswith("weight") for name in frozen)
