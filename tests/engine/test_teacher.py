from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from kdtui.engine import checkpoint
from kdtui.engine.models import build_network
from kdtui.engine.teacher import load_teacher
from kdtui.engine.teacher_report import inspect
from kdtui.errors import TeacherError
from kdtui.profile import Teacher
from kdtui.store.files import sha256_of
from tests.engine.networks import ENCODER, MODEL, build, own_payload, same_answers, unet

# Our own checkpoints


def test_our_own_checkpoint_teaches_what_it_learnt(own: Path, network: nn.Module) -> None:
    loaded, report = load_teacher(own, teacher=Teacher(), task="hierarchical", classes=3)
    assert same_answers(loaded, network)
    assert not loaded.training
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
    assert (report.architecture, report.encoder, report.encoder_depth) == ("Unet", ENCODER, 3)
    assert (report.task, report.classes, report.out_channels) == ("hierarchical", 3, 4)
    assert (report.container, report.prefix, report.decoder_channels) == ("student", "", [8, 8, 8])
    assert report.class_names == ["background", "target", "other"]
    assert report.sha256 == sha256_of(own)


def test_the_tensors_alone_determine_all_but_the_task(own: Path, bare: Path) -> None:
    words = {"path", "container", "candidates", "places", "class_names", "metadata", "bytes", "sha256"}
    told, inferred = (
        {key: value for key, value in report.to_json().items() if key not in words}
        for report in (inspect(own), inspect(bare, task="hierarchical"))
    )
    assert told == inferred
    assert inspect(bare).task == "semantic"


def test_words_that_contradict_the_tensors_are_not_believed(tmp_path: Path, network: nn.Module) -> None:
    lies = {"architecture": "FPN", "encoder": "resnet50", "encoder_depth": 5, "decoder_channels": 99}
    checkpoint.save(tmp_path / "a.pth", own_payload(network, model=lies))
    report = inspect(tmp_path / "a.pth")
    assert (report.architecture, report.encoder, report.encoder_depth) == ("Unet", ENCODER, 3)


def test_parameters_agree_with_the_student_that_was_built(own: Path) -> None:
    student = build_network(MODEL, task="hierarchical", classes=3)
    report = inspect(own)
    assert report.parameters == sum(parameter.numel() for parameter in student.parameters())
    assert report.parameters_used == sum(p.numel() for p in student.parameters() if p.requires_grad)
    assert report.parameters_used < report.parameters


def test_the_report_is_json_with_the_promised_keys(own: Path) -> None:
    promised = {
        *("architecture", "encoder", "classes", "out_channels", "task", "in_channels", "parameters", "parameters_used"),
        *("container", "prefix", "sha256", "decoder_channels", "encoder_depth", "candidates", "class_names"),
        *("metadata", "ignored_keys", "bytes", "path", "places", "family", "mean", "std", "bgr"),
    }
    report = inspect(own).to_json()
    assert report.keys() == promised
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    assert report["metadata"]["run"] == "some-run"
    assert report["bytes"] == own.stat().st_size


# Other people's


def test_a_network_of_old_torch_and_one_in_several_files(tmp_path: Path, network: nn.Module) -> None:
    state = network.state_dict()
    old = {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")}
    torch.save(old, tmp_path / "old.pth")
    loaded, _ = load_teacher(tmp_path / "old.pth", teacher=Teacher(), task="semantic", classes=4)
    assert same_answers(loaded, network)
    table: dict[str, str] = {}
    for number, half in enumerate((list(state)[:50], list(state)[50:])):
        name = f"pytorch_model-{number}.bin"
        torch.save({key: state[key] for key in half}, tmp_path / name)
        table |= dict.fromkeys(half, name)
    (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": table}))
    loaded, report = load_teacher(tmp_path, teacher=Teacher(), task="semantic", classes=4)
    assert same_answers(loaded, network)
    hashed = report.sha256
    torch.save({key: state[key] + 1 for key in list(state)[50:]}, tmp_path / "pytorch_model-1.bin")
    assert inspect(tmp_path).sha256 != hashed


FAMILIES = (
    ("resnet18", "", "bare"),
    ("efficientnet-b0", "unet.", "state_dict_ema"),
    ("mobilenet_v2", "student.", "model_ema"),
    ("timm-efficientnet-b0", "pretrained_unet.model.", "model_state_dict"),
    ("timm-tf_efficientnet_lite0", "ema_model.", "net"),
    ("tu-resnet18", "model.", "state_dict"),
    ("tu-mobilenetv4_conv_small", "module.model.", "bare"),
)
BIG_FAMILIES = (
    ("mobileone_s0", "model.module.", "state_dict"),
    ("timm-skresnet18", "module._orig_mod.", "state_dict"),
    ("densenet121", "net.", "student"),
    ("dpn68", "module.", "state_dict"),
    ("resnet18", "", "bare"),
    ("se_resnet50", "model.", "model"),
    ("vgg11", "_orig_mod.", "model_state_dict"),
    ("resnext50_32x4d", "", "bare"),
    ("inceptionv4", "module.", "state_dict"),
    ("inceptionresnetv2", "model.", "state_dict"),
    ("xception", "", "model"),
    ("senet154", "", "bare"),
    ("mit_b0", "model.", "state_dict"),
)


def check_family(path: Path, encoder: str, prefix: str, container: str) -> None:
    original = unet(encoder)
    state = {prefix + key: value for key, value in original.state_dict().items()}
    torch.save(state if container == "bare" else {container: state}, path)
    loaded, report = load_teacher(path, teacher=Teacher(), task="semantic", classes=4)
    assert (report.architecture, report.encoder, report.encoder_depth) == ("Unet", encoder, 3)
    assert (report.container, report.prefix) == (container, prefix)
    assert same_answers(loaded, original)


@pytest.mark.parametrize(("encoder", "prefix", "container"), FAMILIES)
def test_one_real_file_per_encoder_family(tmp_path: Path, encoder: str, prefix: str, container: str) -> None:
    check_family(tmp_path / "a.pth", encoder, prefix, container)


@pytest.mark.slow
@pytest.mark.parametrize(("encoder", "prefix", "container"), BIG_FAMILIES)
def test_one_real_file_per_big_encoder_family(tmp_path: Path, encoder: str, prefix: str, container: str) -> None:
    check_family(tmp_path / "a.pth", encoder, prefix, container)


ARCHITECTURES: tuple[tuple[str, dict[str, Any]], ...] = (
    ("Unet", {"decoder_channels": (16, 16, 16, 16), "encoder_depth": 4, "decoder_attention_type": "scse"}),
    ("Unet", {"decoder_channels": (8, 8, 8), "encoder_depth": 3, "decoder_use_norm": False}),
    ("UnetPlusPlus", {"decoder_channels": (16, 8, 8), "encoder_depth": 3}),
    ("MAnet", {"decoder_channels": (16, 16, 16), "encoder_depth": 3, "decoder_pab_channels": 8}),
    ("Linknet", {"encoder_depth": 3}),
    ("FPN", {"decoder_pyramid_channels": 32, "decoder_segmentation_channels": 32}),
    ("FPN", {"decoder_pyramid_channels": 8, "decoder_segmentation_channels": 32, "decoder_merge_policy": "cat"}),
    ("PSPNet", {"psp_out_channels": 16}),
    # An answer in another size than the images could teach nothing: smp's own default fits a depth of 3 alone.
    ("PSPNet", {"psp_out_channels": 16, "encoder_depth": 4, "decoder_use_norm": False, "upsampling": 16}),
    ("PAN", {"decoder_channels": 8}),
    ("PAN", {"decoder_channels": 8, "encoder_depth": 4}),
    ("DeepLabV3", {"decoder_channels": 8}),
    ("DeepLabV3", {"decoder_channels": 8, "encoder_depth": 3, "decoder_aspp_separable": True}),
    ("DeepLabV3Plus", {"decoder_channels": 8}),
    ("UPerNet", {"decoder_channels": 8}),
    ("UPerNet", {"decoder_channels": 8, "encoder_depth": 3}),
    ("Segformer", {"decoder_segmentation_channels": 8}),
    ("Segformer", {"decoder_segmentation_channels": 8, "encoder_depth": 3}),
)


@pytest.mark.parametrize(("architecture", "arguments"), ARCHITECTURES)
def test_every_architecture_is_read_from_its_decoder(
    tmp_path: Path, architecture: str, arguments: dict[str, Any]
) -> None:
    original = build(architecture, ENCODER, **arguments)
    torch.save(original.state_dict(), tmp_path / "a.pth")
    loaded, report = load_teacher(tmp_path / "a.pth", teacher=Teacher(), task="semantic", classes=4)
    depth = {"PSPNet": 3}.get(architecture, 5)
    assert (report.architecture, report.encoder) == (architecture, ENCODER)
    assert report.encoder_depth == arguments.get("encoder_depth", depth)
    assert same_answers(loaded, original, side=128)


@pytest.mark.slow
def test_dpt_is_read_from_its_decoder(tmp_path: Path) -> None:
    encoder = "tu-vit_tiny_patch16_224.augreg_in21k"
    original = build("DPT", encoder, decoder_intermediate_channels=(8, 8, 16, 16), decoder_fusion_channels=8)
    torch.save(original.state_dict(), tmp_path / "a.pth")
    with pytest.raises(TeacherError, match="not in the table"):
        inspect(tmp_path / "a.pth")
    loaded, report = load_teacher(tmp_path / "a.pth", teacher=Teacher(encoder=encoder), task="semantic", classes=4)
    assert (report.architecture, report.decoder_channels, report.encoder_depth) == ("DPT", 8, 4)
    assert same_answers(loaded, original, side=224)


def test_a_folder_of_save_pretrained_keeps_what_no_tensor_tells(tmp_path: Path) -> None:
    original = build("FPN", ENCODER, decoder_interpolation="bilinear", upsampling=2, activation="sigmoid")
    original.save_pretrained(tmp_path)  # type: ignore[operator]
    report = inspect(tmp_path)
    assert (report.container, report.architecture, report.encoder) == ("save_pretrained", "FPN", ENCODER)
    loaded, _ = load_teacher(tmp_path, teacher=Teacher(), task="semantic", classes=4)
    images = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        assert torch.equal(loaded(images).sigmoid(), original(images))  # the teacher's logits, not its probabilities


def test_names_of_older_smp_are_understood(tmp_path: Path) -> None:
    original = unet("tu-regnetx_002")
    state = {key.replace("encoder.model.", "encoder."): value for key, value in original.state_dict().items()}
    torch.save(state, tmp_path / "a.pth")
    loaded, report = load_teacher(tmp_path / "a.pth", teacher=Teacher(), task="semantic", classes=4)
    assert report.encoder == "tu-regnetx_002"
    assert same_answers(loaded, original)


def test_lightning_strays_and_auxiliary_heads_are_reported(tmp_path: Path) -> None:
    original = unet(aux_params={"classes": 2})
    state = {f"model.{key}": value for key, value in original.state_dict().items()}
    torch.save({"state_dict": state | {"mean": torch.zeros(1), "loss_fn.weight": torch.ones(4)}}, tmp_path / "a.ckpt")
    loaded, report = load_teacher(tmp_path / "a.ckpt", teacher=Teacher(), task="semantic", classes=4)
    assert {"mean", "loss_fn.weight", "model.classification_head.3.weight"} <= set(report.ignored_keys)
    images = torch.rand(1, 3, 32, 32)
    with torch.inference_mode():
        assert torch.equal(loaded(images), original(images)[0])


def test_half_precision_weights_teach_in_f32(tmp_path: Path, network: nn.Module) -> None:
    half = {key: value.half() if value.is_floating_point() else value for key, value in network.state_dict().items()}
    torch.save(half, tmp_path / "a.pth")
    loaded, _ = load_teacher(tmp_path / "a.pth", teacher=Teacher(), task="semantic", classes=4)
    assert {parameter.dtype for parameter in loaded.parameters()} == {torch.float32}
    assert torch.equal(
        loaded.state_dict()["encoder.model.conv_stem.weight"], half["encoder.model.conv_stem.weight"].float()
    )


@pytest.mark.parametrize(("architecture", "arguments"), [("FPN", {}), ("Unet", {"decoder_channels": (8,) * 5})])
def test_a_deep_teacher_answers_images_of_a_shallow_students_size(
    tmp_path: Path, architecture: str, arguments: dict[str, Any]
) -> None:
    original = build(architecture, ENCODER, **arguments)
    torch.save(original.state_dict(), tmp_path / "a.pth")
    loaded, _ = load_teacher(tmp_path / "a.pth", teacher=Teacher(), task="semantic", classes=4)
    images = torch.rand(2, 3, 40, 72)
    with torch.inference_mode():
        assert loaded(images).shape == (2, 4, 40, 72)
        if architecture == "FPN":  # a Unet takes such sizes by itself
            whole = original(nn.functional.pad(images, (0, 96 - 72, 0, 64 - 40)))
            assert torch.equal(loaded(images), whole[..., :40, :72])
    assert same_answers(loaded, original)


# Twins


def test_twins_are_named_and_the_user_or_the_file_decides(tmp_path: Path) -> None:
    original = unet("tu-tf_mobilenetv3_small_100")
    twins = "tu-mobilenetv3_small_100, tu-tf_mobilenetv3_small_100"
    torch.save({"state_dict": original.state_dict()}, tmp_path / "silent.ckpt")
    with pytest.raises(TeacherError, match="several encoders") as caught:
        inspect(tmp_path / "silent.ckpt")
    assert twins in caught.value.message
    assert "--encoder" in str(caught.value.hint)
    chosen = Teacher(encoder="tu-tf_mobilenetv3_small_100")
    loaded, _ = load_teacher(tmp_path / "silent.ckpt", teacher=chosen, task="semantic", classes=4)
    assert same_answers(loaded, original)
    words = {"hyper_parameters": {"encoder_name": "tu-tf_mobilenetv3_small_100"}}
    torch.save({"state_dict": original.state_dict()} | words, tmp_path / "telling.ckpt")
    assert inspect(tmp_path / "telling.ckpt").encoder == "tu-tf_mobilenetv3_small_100"
