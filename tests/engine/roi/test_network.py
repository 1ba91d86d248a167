"""Networks of kind ``roi``: their parts, and their training on pictures."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from kdtui.engine.data import build_dataset
from kdtui.engine.models import count_parameters, freeze_unused, outputs_of, unwrapped
from kdtui.engine.network import check_metrics, network_kind
from kdtui.engine.profile_model import count_macs, stored_parameters
from kdtui.engine.roi.head import RoiHead
from kdtui.engine.roi.network import RoiNetwork
from kdtui.engine.taps import tap_shapes, tapped
from kdtui.engine.teacher import teacher_of
from kdtui.engine.teacher_doubts import teacher_doubts
from kdtui.profile import RoiModel
from kdtui.store.run import Run
from tests.engine.roi.networks import DATA, ROIS, STUDENT, build, images
from tests.engine.runs import tiny_profile


def test_outputs_have_the_sizes_of_masks_and_pictures() -> None:
    network = build().eval()
    outputs = outputs_of(network, network(images(), ROIS), "hierarchical")
    assert outputs.main.shape == (3, 3, 16, 16)
    torch.testing.assert_close(outputs.main.exp().sum(dim=1), torch.ones(3, 16, 16))
    assert outputs["bg_fg"].shape == outputs["target_nontarget"].shape == (3, 2, 16, 16)
    assert outputs["foreground"].shape == (2, 1, 32, 32)


def test_a_picture_costs_one_pass_of_stage_1_however_many_boxes_it_has() -> None:
    network, passes = build().eval(), []
    network.stage1.register_forward_hook(lambda *_: passes.append(1))
    for rois in (ROIS, ROIS[:0], ROIS.repeat(4, 1)):
        network(images(), rois)
    assert len(passes) == 3


def boxes_passed(network: RoiNetwork) -> list[int]:
    """The numbers of boxes of the passes of the head that compute values, in a list that grows with each."""
    counts: list[int] = []
    network.head.register_forward_hook(
        lambda _, inputs, __: None if inputs[0].is_meta else counts.append(len(inputs[0]))
    )
    return counts


def test_unused_parameters_and_metrics_are_checked_without_the_cost_of_a_head() -> None:
    network, profile = build(), tiny_profile(student=dict(STUDENT), data={"kind": "synthetic"} | DATA)
    counts = boxes_passed(network)
    freeze_unused(network.requires_grad_(True))
    check_metrics(network_kind(profile.student), network, build_dataset(profile.data, "val"))
    assert sum(counts) == 0


def test_a_teacher_is_examined_with_a_bounded_number_of_boxes(trained: Run) -> None:
    data = {"kind": "synthetic"} | DATA | {"val_samples": 40}
    profile = tiny_profile(
        student=dict(STUDENT), data=data, teacher__checkpoint=str(trained.best), distillation__enabled=True
    )
    dataset = build_dataset(profile.data, "val")
    teacher = teacher_of(profile, dataset)
    assert teacher is not None
    network = unwrapped(teacher.network)
    assert isinstance(network, RoiNetwork)
    counts = boxes_passed(network)
    teacher_doubts(teacher, dataset)
    assert 0 < sum(counts) <= 8


def test_a_box_has_the_same_mask_beside_others_and_alone() -> None:
    network = build().eval()
    together = network(images(), ROIS)["masks"]
    for number in range(len(ROIS)):
        torch.testing.assert_close(network(images(), ROIS[number : number + 1])["masks"], together[number : number + 1])


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"mask": [8, 8]},
        {"mask": [32, 32]},
        {"rgb_features": False, "attention": False, "gate": False},
        {"binary": "softmax", "head_depth": 2},
        {"architecture": "FPN", "decoder_channels": 64},
    ],
)
@pytest.mark.parametrize("training", [True, False])
def test_no_boxes_give_no_masks_and_zero_gradients(changes: dict[str, Any], training: bool) -> None:
    network = build(**changes).train(training)
    statistics = {name: value.clone() for name, value in network.head.named_buffers()}
    raw, features = tapped(network, images(), ["head.0", "head.1", "head"], {"rois": ROIS[:0]})
    height, width = changes.get("mask", [16, 16])
    assert raw["masks"].shape == (0, 4, height, width)
    assert [len(values) for values in features.values()] == [0, 0, 0]
    raw["masks"].sum().backward()
    for name, parameter in network.named_parameters():
        if parameter.requires_grad and not (parameter.grad is None and name.startswith("stage1.")):
            assert parameter.grad is not None, name
            assert not parameter.grad.any()
    assert all(torch.equal(value, statistics[name]) for name, value in network.head.named_buffers())


def test_every_parameter_is_used_and_has_a_gradient() -> None:
    network = build()
    raw = network(images(), ROIS)
    (raw["masks"].square().sum() + raw["foreground"].sum()).backward()
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    assert all(parameter.grad is not None for parameter in trained)
    assert count_parameters(network).used == sum(parameter.numel() for parameter in trained)


def test_stage_1_alone_has_no_gradient_of_the_masks() -> None:
    network = build()
    network.stage1_alone = True
    raw = network(images(), ROIS)
    raw["masks"].square().sum().backward(retain_graph=True)
    assert all(parameter.grad is None for parameter in network.stage1.parameters())
    assert all(parameter.grad is not None for parameter in network.head.parameters() if parameter.requires_grad)
    raw["foreground"].sum().backward()
    assert any(parameter.grad is not None for parameter in network.stage1.parameters())


@pytest.mark.parametrize("gate", [True, False])
def test_the_first_decision_gates_the_features_of_the_second(gate: bool) -> None:
    network = build(gate=gate)
    network(images(), ROIS)["masks"][:, 2:].square().sum().backward()
    gradients = [parameter.grad for parameter in network.head.background.parameters()]
    assert any(gradient is not None and bool(gradient.any()) for gradient in gradients) == gate


def test_features_of_stage_1_and_of_the_head_have_names() -> None:
    shapes = tap_shapes(build(), 32, 32)
    assert shapes["head.0"] == (8, 8, 8)
    assert shapes["head.1"] == (4, 16, 16)
    assert shapes["head"] == (4, 16, 16)
    assert {"encoder", "decoder", "encoder.3", "decoder.0"} <= shapes.keys()
    assert build().picture_outputs == {"foreground", *(name for name in shapes if not name.startswith("head"))}


PARTS = {
    "rgb": (1_188_352, 19_072),
    "shared": (2_953_984, 46_688),
    "background": (8_380_672, 131_872),
    "gate": (16_640, 288),
    "target": (475_904, 7_520),
    "attention": (4_339, 247),
}


@pytest.mark.parametrize(
    ("width", "parameters", "gigamacs"), [(256, 13_069_559, 26.53), (64, 820_619, 1.663), (32, 206_523, 0.4177)]
)
def test_parameters_and_work_of_a_head(width: int, parameters: int, gigamacs: float) -> None:
    """On 80 x 60 cells with masks of 160 x 120: multiply-accumulates of one box."""
    with torch.device("meta"):
        head = RoiHead(RoiModel(head_channels=width), channels=3).eval()
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            masks = head(torch.empty(1, 1, 80, 60), torch.empty(1, 3, 80, 60))
    assert masks.shape == (1, 4, 160, 120)
    sizes = {name: stored_parameters(part) for name, part in head.named_children()}
    assert sum(sizes.values()) == parameters
    assert counter.get_total_flops() / 2e9 == pytest.approx(gigamacs, rel=1e-3)
    for name, (wide, slim) in PARTS.items():
        assert sizes[name] == {256: wide, 32: slim}.get(width, sizes[name])


def test_the_work_of_a_network_is_that_of_stage_1_and_one_head() -> None:
    network = build()
    stage1, whole = (count_macs(one, height=32, width=32) for one in (network.stage1, network))
    with FlopCounterMode(display=False) as counter:
        network.eval().head(torch.zeros(1, 1, 8, 8), torch.zeros(1, 3, 8, 8))
    assert whole - stage1 == counter.get_total_flops() // 2
