from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import segmentation_models_pytorch as smp
import torch

from kdtui.engine.check import check
from kdtui.engine.dry_run import check_scorable, check_teaching, check_trainable
from kdtui.engine.evaluate_file import assess
from kdtui.engine.models import ARCHITECTURES, build_network, stride
from kdtui.engine.profile_model import count_macs
from kdtui.engine.teacher import load_teacher
from kdtui.errors import CheckpointError, ModelError, TeacherError
from kdtui.profile import Model, Profile, SyntheticData, Teacher, Training
from tests.engine.runs import curve, fit, make_run, tiny_profile

SLIM = {"Unet", "UnetPlusPlus", "MAnet"}


def student(architecture: str, depth: int) -> Model:
    if architecture == "DPT":
        return Model(architecture="DPT", encoder="tu-test_vit3", encoder_depth=4, decoder_channels=16)
    staged = architecture in SLIM
    width = (8,) * depth if staged else {"Linknet": None, "FPN": 64}.get(architecture, 16)
    return Model(architecture=architecture, encoder="tu-test_resnet", encoder_depth=depth, decoder_channels=width)


def profile(model: Model, side: int, batch_size: int, micro_batch_size: int | None = None) -> Profile:
    return Profile(
        name="trial",
        data=SyntheticData(height=side, width=side),
        student=model,
        training=Training(batch_size=batch_size, micro_batch_size=micro_batch_size),
    )


@pytest.mark.parametrize(
    ("architecture", "depth"),
    [(architecture, 5) for architecture in ARCHITECTURES]
    + [
        # Only these answer in a size that follows the depth.
        pytest.param(architecture, 3, marks=[] if architecture in ("PSPNet", "FPN") else pytest.mark.slow)
        for architecture in ARCHITECTURES
    ],
)
def test_what_is_let_through_makes_a_step_and_what_is_refused_cannot(architecture: str, depth: int) -> None:
    model = student(architecture, depth)
    network = build_network(model, task="hierarchical", classes=3)
    let_through: list[tuple[int, int]] = []
    large = 160 if architecture == "DPT" else 128
    for side, images in ((stride(model), 1), (stride(model), 2), (2 * stride(model), 1), (large, 2)):
        if side == large and let_through:
            break
        wanted = profile(model, max(16, side), 2, images)
        padded = -(-wanted.data.height // stride(model)) * stride(model)
        try:
            check_trainable(network, wanted)
            refused = False
        except ModelError:
            refused = True
        pictures = torch.zeros(images, 3, padded, padded)
        if refused:
            with pytest.raises((ValueError, RuntimeError, AssertionError)):
                network.train()(pictures)
                network.eval()(pictures[:1])
            continue
        assert count_macs(network, height=padded, width=padded) > 0
        answer = network.train()(pictures)
        assert answer.shape == (images, 4, padded, padded)
        answer.square().mean().backward()
        let_through.append((side, images))
    assert let_through, "nothing that this architecture could be trained with"


@pytest.mark.parametrize("depth", [pytest.param(4, marks=pytest.mark.slow), 5])
def test_a_deep_pspnet_trains(tmp_path: Path, depth: int) -> None:
    table = {"architecture": "PSPNet", "encoder": "tu-test_resnet", "encoder_depth": depth, "decoder_channels": 16}
    run = make_run(tmp_path, student=table, training__epochs=1)
    assert fit(run) == "finished"
    assert curve(run, "val", "miou")
    teacher, _ = load_teacher(run.best, teacher=Teacher(), task="hierarchical", classes=3)
    assert teacher(torch.zeros(1, 3, 64, 32)).shape == (1, 4, 64, 32)


def test_a_network_that_does_not_take_one_image_alone_is_refused_with_a_size_that_it_takes() -> None:
    model = student("FPN", 5)
    network = build_network(model, task="hierarchical", classes=3)
    with pytest.raises(ModelError, match="does not accept images of this size") as caught:
        check_trainable(network, profile(model, 32, 2))
    assert caught.value.hint == "--set data.height=64 --set data.width=64"
    check_trainable(network, profile(model, 64, 2))


def test_one_image_at_a_time_is_refused_where_a_norm_would_see_one_value(tmp_path: Path) -> None:
    table = {"architecture": "DeepLabV3", "encoder": "tu-test_resnet", "decoder_channels": 16}
    wrong: dict[str, Any] = {"student": table, "training__batch_size": 6, "training__micro_batch_size": 1}
    looks = {look["name"]: look for look in check(tiny_profile(**wrong))["checks"]}
    assert not looks["student"]["ok"]
    assert "one image per forward pass" in looks["student"]["message"]
    assert looks["student"]["hint"] == "--set training.micro_batch_size=2"
    run = make_run(tmp_path, **wrong)
    with pytest.raises(ModelError, match="one image per forward pass"):
        fit(run)
    mended = {look["name"]: look for look in check(tiny_profile(**wrong | {"training__micro_batch_size": 2}))["checks"]}
    assert mended["student"]["ok"]


def test_the_batch_is_named_where_there_is_nothing_to_divide() -> None:
    model = student("UPerNet", 5)
    network = build_network(model, task="hierarchical", classes=3)
    wanted = Profile(name="trial", student=model, training=Training(batch_size=3, devices=3))
    with pytest.raises(ModelError) as caught:
        check_trainable(network, wanted)
    assert caught.value.where == "training.batch_size"
    assert caught.value.hint == "--set training.batch_size=6"


@pytest.mark.parametrize(("architecture", "side"), [("PAN", 128), ("DPT", 160)])
def test_the_hint_of_a_wrong_size_is_one_that_works(architecture: str, side: int) -> None:
    model = student(architecture, 5)
    network = build_network(model, task="hierarchical", classes=3)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    with pytest.raises(ModelError, match="does not accept images of this size") as caught:
        check_trainable(network, profile(model, 64, 2))
    assert caught.value.hint == f"--set data.height={side} --set data.width={side}"
    check_trainable(network, profile(model, side, 2))
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())


def test_a_teacher_that_takes_other_images_is_refused() -> None:
    network = build_network(student("PAN", 5), task="hierarchical", classes=3).eval()
    with pytest.raises(TeacherError, match="does not accept images of this size") as caught:
        check_teaching(network, profile(Model(), 64, 2))
    assert caught.value.hint == "--set data.height=128 --set data.width=128"
    check_teaching(network, profile(Model(), 128, 2))


def test_a_network_that_takes_other_images_is_not_scored(tmp_path: Path) -> None:
    # It answers in an eighth of 32.
    network = smp.PSPNet("resnet18", encoder_weights=None, encoder_depth=5, psp_out_channels=16, classes=4)
    network.save_pretrained(str(tmp_path / "psp"))
    wanted = profile(Model(), 64, 2).model_copy(update={"teacher": Teacher(task="hierarchical")})
    with pytest.raises(CheckpointError, match="does not accept images of this size") as caught:
        assess(wanted, str(tmp_path / "psp"), "val")
    assert "its output has" in (caught.value.found or "")


def test_a_network_of_one_size_is_evaluated_at_that_size_and_refused_at_others(tmp_path: Path) -> None:
    network = build_network(student("DPT", 5), task="hierarchical", classes=3).eval()
    with pytest.raises(CheckpointError) as caught:
        check_scorable(network, profile(Model(), 64, 2), "vit.pth")
    assert caught.value.where == "vit.pth"
    assert caught.value.hint == "--profile with one of data.height = 160 and data.width = 160"
    check_scorable(network, profile(Model(), 160, 2), "vit.pth")


def test_an_encoder_of_one_size_can_be_built_into_any_architecture() -> None:
    model = Model(encoder="tu-efficientformer_l1", decoder_channels=(8, 8, 8, 8, 8))
    network = build_network(model, task="hierarchical", classes=3)
    check_trainable(network, profile(model, 224, 2))


def test_an_encoder_that_the_decoder_cannot_use_is_refused_in_words() -> None:
    with pytest.raises(ModelError, match="FPN does not work with this encoder"):
        build_network(
            Model(architecture="FPN", encoder="tu-convnext_atto", encoder_depth=4), task="hierarchical", classes=3
        )
