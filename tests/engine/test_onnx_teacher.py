"""Teachers that are ONNX files: what they take and answer, and what is refused."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kdtui.engine import export as exports
from kdtui.engine.data import MEAN, STD, PixelFormat
from kdtui.engine.dry_run import takes
from kdtui.engine.evaluate_file import assess
from kdtui.engine.export.deployed import InputSize
from kdtui.engine.export.make import write_facts
from kdtui.engine.export.source import ExportNetwork, of_checkpoint
from kdtui.engine.file_kinds import ONNX_SNIPPET
from kdtui.engine.models import build_network, outputs_of
from kdtui.engine.onnx_teacher import decisions
from kdtui.engine.teacher import load_teacher, notes_of
from kdtui.engine.teacher_report import inspect
from kdtui.errors import CheckpointError, ModelError, TeacherError
from kdtui.export_options import ExportOptions
from kdtui.profile import Profile, Teacher
from kdtui.profile.base import TaskName
from tests.engine.foreign import Pooled, export
from tests.engine.networks import MODEL
from tests.engine.runs import TINY, fit, make_run

IMAGENET = PixelFormat(MEAN, STD)
IMAGES = torch.randn(3, 3, 32, 48, generator=torch.Generator().manual_seed(4))


def load(path: Path, *, task: TaskName = "semantic", classes: int = 5, **settings: Any) -> nn.Module:
    network, _ = load_teacher(path, teacher=Teacher(**settings), task=task, classes=classes, pixels=IMAGENET)
    return network


def answer(network: nn.Module, images: Tensor = IMAGES) -> Tensor:
    with torch.inference_mode():
        logits: Tensor = network(images)
    return logits


def expected(images: Tensor = IMAGES) -> Tensor:
    return F.interpolate(answer(Pooled(), images), images.shape[-2:], mode="bilinear", align_corners=False)


class Through(nn.Module):
    """The pooled network with something after it, or before it."""

    def __init__(self, after: Any, before: Any = None) -> None:
        super().__init__()
        self.network, self.after, self.before = Pooled(), after, before

    def forward(self, images: Tensor) -> Any:
        return self.after(self.network(images if self.before is None else self.before(images)))


@pytest.mark.parametrize("fixed", [False, True])
def test_logits_are_those_of_the_network_at_the_size_of_the_images(tmp_path: Path, fixed: bool) -> None:
    path = export(Pooled(), tmp_path / "a.onnx", fixed=fixed)
    if fixed:  # two images of 64x64 per call
        sized = F.interpolate(IMAGES, (64, 64), mode="bilinear", antialias=True)
        wanted = F.interpolate(answer(Pooled(), sized), IMAGES.shape[-2:], mode="bilinear")
    else:
        wanted = expected()
    loaded = load(path)
    torch.testing.assert_close(answer(loaded), wanted, rtol=1e-3, atol=1e-4)
    assert ("64x64 only" in "\n".join(notes_of(loaded))) == fixed


@pytest.mark.parametrize(
    "after",
    [lambda logits: logits.softmax(dim=1), lambda logits: F.interpolate(logits.softmax(dim=1), scale_factor=2.0)],
    ids=["softmax", "resized softmax"],
)
def test_probabilities_are_converted_to_logits(tmp_path: Path, after: Any) -> None:
    network = Through(after)
    loaded = load(export(network, tmp_path / "a.onnx"))
    wanted = answer(network)
    torch.testing.assert_close(
        answer(loaded, IMAGES).softmax(dim=1),
        F.interpolate(wanted.log(), IMAGES.shape[-2:], mode="bilinear").softmax(dim=1),
        rtol=1e-3,
        atol=1e-4,
    )


def test_one_probability_is_two_classes(tmp_path: Path) -> None:
    network = Pooled(classes=1)
    path = export(nn.Sequential(network, nn.Sigmoid()), tmp_path / "a.onnx")
    report = inspect(path)
    assert (report.classes, report.out_channels) == (2, 1)
    main = outputs_of(network, answer(load(path, classes=2)), "semantic").main
    wanted = F.interpolate(answer(network), IMAGES.shape[-2:], mode="bilinear")
    torch.testing.assert_close(main[:, 1:], wanted, rtol=1e-3, atol=1e-3)


def test_channels_last_and_bytes_are_taken(tmp_path: Path) -> None:
    def to_float(images: Tensor) -> Tensor:
        return images.permute(0, 3, 1, 2).float() / 255

    network = Through(lambda logits: logits, to_float)
    path = export(network, tmp_path / "a.onnx", torch.zeros(1, 32, 48, 3, dtype=torch.uint8))
    pixels = torch.randint(0, 256, (2, 3, 32, 48), generator=torch.Generator().manual_seed(5))
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (MEAN, STD))
    loaded = load(path)
    seen = answer(loaded, (pixels / 255 - mean) / std)
    torch.testing.assert_close(seen, expected(pixels / 255), rtol=1e-3, atol=1e-3)
    assert inspect(path).std == pytest.approx([1 / 255] * 3)


def test_the_settings_of_the_input_apply(tmp_path: Path) -> None:
    path = export(Pooled(), tmp_path / "a.onnx")
    loaded = load(path, mean=[0.5, 0.5, 0.5], std=[0.5, 0.5, 0.5], bgr=True)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (MEAN, STD))
    picture = IMAGES * std + mean
    torch.testing.assert_close(answer(loaded), expected((picture.flip(1) - 0.5) / 0.5), rtol=1e-3, atol=1e-3)


# Files of kdtui


@pytest.fixture(scope="module")
def source() -> ExportNetwork:
    torch.manual_seed(1)
    network = build_network(MODEL, task="hierarchical", classes=3).eval().requires_grad_(False)
    classes = ("background", "target", "other")
    facts = {"checkpoint_sha256": "0" * 64, "architecture": "Unet", "encoder": MODEL.encoder}
    size = InputSize(32, 48)
    return ExportNetwork(network, "hierarchical", classes, 8, size, None, facts, out_channels=4)


@pytest.mark.parametrize(("kind", "contents"), [("float", "logits"), ("uint8", "softmax")])
def test_a_file_of_kdtui_describes_itself(tmp_path: Path, source: ExportNetwork, kind: str, contents: str) -> None:
    options = ExportOptions(opset=17, input=kind, output=contents, parts=kind == "float")
    exports.export(source, tmp_path / "a.onnx", options)
    report = inspect(tmp_path / "a.onnx")
    assert (report.task, report.classes, report.out_channels, report.architecture) == ("hierarchical", 3, 4, "Unet")
    assert report.class_names == ["background", "target", "other"]
    loaded = load(tmp_path / "a.onnx", task="hierarchical", classes=3)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (MEAN, STD))
    images = ((IMAGES * std + mean).clamp(0, 1).mul(255).round() / 255 - mean) / std
    ours = outputs_of(loaded, answer(loaded, images), "hierarchical")
    theirs = outputs_of(source.network, answer(source.network, images), "hierarchical")
    for name in ("logits", "bg_fg", "target_nontarget"):
        torch.testing.assert_close(ours[name].softmax(dim=1), theirs[name].softmax(dim=1), rtol=1e-3, atol=1e-3)


def test_a_file_with_classes_alone_is_refused(tmp_path: Path) -> None:
    export(Through(lambda logits: logits.argmax(dim=1)), tmp_path / "a.onnx")
    with pytest.raises(TeacherError, match="has no logits") as refused:
        inspect(tmp_path / "a.onnx")
    assert "kdtui export RUN --output logits" in str(refused.value.hint)


def test_decisions_compose_to_the_classes() -> None:
    classes = torch.randn(1, 3, 4, 5).log_softmax(dim=1)
    raw = decisions(classes)
    torch.testing.assert_close(outputs_of(nn.Identity(), raw, "hierarchical").main, classes)


# Several outputs, other inputs, other commands


def test_one_of_several_outputs_is_chosen_by_name(tmp_path: Path) -> None:
    network = Through(lambda logits: (logits, 2 * logits))
    path = export(network, tmp_path / "a.onnx", torch.rand(1, 3, 32, 48), output_names=["main", "doubled"])
    with pytest.raises(TeacherError, match="several outputs") as refused:
        inspect(path)
    assert "main, doubled" in str(refused.value.allowed) and "teacher.output" in str(refused.value.hint)
    with pytest.raises(TeacherError, match="no output of this name"):
        inspect(path, output="other")
    torch.testing.assert_close(answer(load(path, output="doubled")), 2 * expected(), rtol=1e-3, atol=1e-3)


def test_other_networks_than_for_segmentation_are_refused(tmp_path: Path) -> None:
    path = export(Through(lambda logits: logits.mean(dim=(2, 3))), tmp_path / "a.onnx")
    with pytest.raises(TeacherError, match="no output of a segmentation network"):
        inspect(path)
    two = export(nn.Linear(3, 2), tmp_path / "two.onnx", torch.rand(1, 3))
    with pytest.raises(TeacherError, match="does not take images alone"):
        inspect(two)


def damaged(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-200])


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:100])


def unknown_operator(path: Path) -> None:
    model = onnx.load(path)
    model.graph.node[0].op_type, model.graph.node[0].domain = "Mine", "my.own"
    path.write_bytes(model.SerializeToString())


def not_utf8(path: Path) -> None:
    name = onnx.load(path).graph.output[0].name.encode()
    path.write_bytes(path.read_bytes().replace(name, b"\x98" * len(name)))


def external(path: Path) -> None:
    model = onnx.load(path)
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../etc/passwd")
    path.write_bytes(model.SerializeToString())


@pytest.mark.parametrize("change", [damaged, cut, unknown_operator, not_utf8, external])
def test_a_file_that_cannot_be_run_is_one_message(
    tmp_path: Path, change: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    path = export(Pooled(), tmp_path / "a.onnx")
    change(path)
    with pytest.raises(CheckpointError) as refused:
        inspect(path)
    assert refused.value.where == str(path) and "\n" not in str(refused.value.found)
    assert not capfd.readouterr().out  # the answer of the engine


def test_names_in_the_metadata_are_the_classes(tmp_path: Path) -> None:
    path = export(Pooled(), tmp_path / "a.onnx")
    model = onnx.load(path)
    write_facts(model, {"names": "{0: 'x'}", "classes": ["sky", "road", "car", "tree", "person"], "bad": "\ud83d"[:0]})
    onnx.save(model, path)
    report = inspect(path)
    assert report.class_names == ["sky", "road", "car", "tree", "person"]
    assert report.family == "ONNX"


def test_it_is_evaluated_but_not_exported(tmp_path: Path) -> None:
    path = export(Pooled(classes=4), tmp_path / "a.onnx")
    with pytest.raises(CheckpointError, match="no PyTorch weights to export") as refused:
        of_checkpoint(path, teacher=Teacher())
    assert "kdtui evaluate" in str(refused.value.hint)
    three = export(Pooled(classes=3), tmp_path / "three.onnx")
    with pytest.raises(TeacherError, match="classes of this teacher differ"):
        assess(Profile.model_validate(TINY | {"data": {"kind": "synthetic", **TINY["data"]}}), str(three), "val")


def test_terms_on_features_are_refused(tmp_path: Path) -> None:
    model = onnx.load(export(Pooled(classes=3), tmp_path / "a.onnx"))
    write_facts(model, {"kdtui": "0.1.0", "task": "hierarchical", "input": "float"})
    onnx.save(model, tmp_path / "a.onnx")
    run = make_run(
        tmp_path,
        teacher={"checkpoint": str(tmp_path / "a.onnx")},
        distillation={"enabled": True, "terms": [{"kind": "feature", "on": "encoder"}]},
    )
    with pytest.raises(ModelError, match="no output of this name") as refused:
        fit(run)
    assert refused.value.allowed == "logits, bg_fg, target_nontarget"


def test_a_size_that_the_graph_does_not_take_is_refused_before_training(tmp_path: Path) -> None:
    class Halved(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            even, odd = images[..., ::2], images[..., 1::2]
            return even + odd

    model = onnx.load(export(Halved(), tmp_path / "a.onnx"))
    write_facts(model, {"kdtui": "0.1.0", "task": "hierarchical", "input": "float"})
    onnx.save(model, tmp_path / "a.onnx")
    network = load(tmp_path / "a.onnx", task="hierarchical", classes=3)
    assert takes(network, 32, 32) and not takes(network, 32, 33)


@pytest.mark.slow
def test_the_command_in_hints_writes_a_file_that_teaches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    model = Pooled()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch about itself
        exec(ONNX_SNIPPET.partition(": ")[2], {"torch": torch, "model": model})
    torch.testing.assert_close(answer(load(tmp_path / "teacher.onnx")), expected(), rtol=1e-3, atol=1e-3)
    assert len(list(tmp_path.glob("teacher.onnx*"))) in (1, 2)
