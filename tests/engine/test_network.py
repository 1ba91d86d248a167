"""What the engine asks of kinds of networks."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from kdtui.engine.data import build_dataset
from kdtui.engine.models import AnySize, Outputs, channels_of, inputs_of, outputs_of
from kdtui.engine.network import NetworkKind, build_student, check_inputs, network_kind
from kdtui.engine.taps import TapPoint, tap_channels, tapped
from kdtui.errors import ModelError
from kdtui.profile import Model, Profile, SyntheticData
from kdtui.profile.base import TaskName
from kdtui.profile.network_tables import BUILT_IN, NetworkTable

SMP = Model(encoder="tu-test_resnet", encoder_depth=3, decoder_channels=(8, 8, 8))


class Own(nn.Module):
    """A network that defines its inputs, outputs and features."""

    extra_inputs = ("shift",)

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Conv2d(3, 5, 1)

    def forward(self, images: Tensor, shift: Tensor | None = None) -> Tensor:
        maps: Tensor = self.body(images)
        return maps if shift is None else maps + shift.view(-1, 1, 1, 1)

    def compose(self, raw: Tensor, task: TaskName, features: dict[str, Tensor] | None = None) -> Outputs:
        return Outputs(raw[:, :2], {"edges": raw[:, 2:]}, features or {})

    def logit_channels(self, task: TaskName, classes: int) -> dict[str, int]:
        return {"logits": 2, "edges": 3}

    def tap_points(self) -> dict[str, TapPoint]:
        return {"body": TapPoint(self.body, lambda output: output)}


@pytest.mark.parametrize("table", BUILT_IN)
def test_every_kind_has_a_builder_and_facts(table: type[NetworkTable]) -> None:
    kind = network_kind(table())
    assert isinstance(kind, NetworkKind)
    assert kind.stride >= 1
    assert kind.title
    assert {"architecture", "encoder", "encoder_depth", "decoder_channels"} <= kind.facts().keys()


def test_the_default_kind_is_not_written() -> None:
    profile = Profile.model_validate({"name": "x", "student": {"kind": "smp", "encoder": "resnet18"}})
    assert "kind" not in profile.model_dump()["student"]
    assert Profile.model_validate(profile.model_dump()) == profile


def test_a_network_may_define_its_inputs_outputs_and_features() -> None:
    images, shift = torch.rand(2, 3, 6, 6), torch.tensor([1.0, 2.0])
    for network in (Own(), AnySize(Own(), stride=4)):
        raw, features = tapped(network, images, ["body"], {"shift": shift, "unread": shift})
        outputs = outputs_of(network, raw, "semantic", features)
        assert {name: outputs[name].shape[1] for name in ("logits", "edges")} == channels_of(network, "semantic", 9)
        torch.testing.assert_close(raw - network(images), shift.view(-1, 1, 1, 1).expand_as(raw))
        assert features.keys() == tap_channels(network, 8, 8).keys() == {"body"}
    student = build_student(SMP, task="hierarchical", classes=3)
    assert inputs_of(student, {"shift": shift}) == {}
    assert channels_of(student, "hierarchical", 3) == {"logits": 3, "bg_fg": 2, "target_nontarget": 2}


def test_an_input_missing_from_the_data_is_refused_before_training() -> None:
    dataset = build_dataset(SyntheticData(height=32, width=32, val_samples=1), "val")
    check_inputs(build_student(SMP, task="hierarchical", classes=3), dataset)
    with pytest.raises(ModelError, match="an input that these data do not have") as refused:
        check_inputs(Own(), dataset)
    assert refused.value.found == "shift"
