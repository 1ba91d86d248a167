"""Networks for two classes with one channel: equal in loss and output to two channels whose first one is zero."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image
from torch import nn

from kdtui.catalog import cost
from kdtui.engine import checkpoint
from kdtui.engine.evaluate_file import assess
from kdtui.engine.export import export
from kdtui.engine.export.source import of_checkpoint, of_run
from kdtui.engine.losses import Labels, StepShare
from kdtui.engine.models import compose
from kdtui.engine.network import build_student
from kdtui.engine.objective import build_objective
from kdtui.engine.profile_model import stored_parameters
from kdtui.engine.teacher import load_teacher
from kdtui.engine.teacher_report import inspect
from kdtui.errors import ModelError
from kdtui.export_options import ExportOptions
from kdtui.launch.plan import out_channels
from kdtui.profile import Model, Profile, Teacher
from kdtui.store.run import Run
from tests.engine.data.makers import label_folder
from tests.engine.networks import unet
from tests.engine.runs import TINY, curve, fit, make_run

CLASSES = ("ground", "thing")
STUDENT = {**TINY["student"], "binary": "sigmoid"}


def two_classes(root: Path) -> dict[str, Any]:
    """A folder of labelled images with two classes."""
    data = label_folder(root, classes="".join(f"{number} {name}\n" for number, name in enumerate(CLASSES)), count=8)
    for path in root.glob("masks/*/*.png"):
        labels = np.array(Image.open(path))
        Image.fromarray(np.where(labels == 255, 255, labels > 0).astype(np.uint8)).save(path)
    return data.model_dump(mode="json", exclude_none=True) | {"height": 32, "width": 32}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return two_classes(tmp_path_factory.mktemp("binary"))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, data: dict[str, Any]) -> Run:
    run = make_run(tmp_path_factory.mktemp("runs"), name="sigmoid", data=data, student=STUDENT, training__epochs=1)
    assert fit(run) == "finished"
    return run


def outputs_and_labels() -> tuple[torch.Tensor, torch.Tensor, Labels]:
    i = torch.arange(120, dtype=torch.float64)
    student = (2 * torch.sin(0.37 * i)).reshape(2, 3, 4, 5)[:, :1]
    teacher = (3 * torch.cos(0.23 * i + 0.5)).reshape(2, 3, 4, 5)[:, :1]
    return student, teacher, Labels((torch.arange(40) % 2).reshape(2, 4, 5), 255)


@pytest.mark.parametrize(("temperature", "expected"), [(1.0, 0.3199066397), (4.0, 0.4735003567)])
def test_losses_are_binary_cross_entropy_and_the_binary_divergence(
    data: dict[str, Any], temperature: float, expected: float
) -> None:
    raw, teacher, labels = outputs_and_labels()
    profile = Profile.model_validate(
        TINY
        | {
            "data": data,
            "student": STUDENT,
            "distillation": {"enabled": True, "temperature": temperature, "alpha": 1.0},
            "loss": {"terms": [{"kind": "ce"}]},
        }
    )
    student = build_student(profile.student, task="semantic", classes=2)
    objective = build_objective(profile, 2, student, student)
    share = StepShare(valid_pixels=40.0, images=2, world_size=1)
    terms = objective(compose(raw, "semantic"), compose(teacher, "semantic"), labels, share)
    assert float(terms.parts["loss.distill"]) == pytest.approx(expected, rel=2e-6)
    targets = labels.masks[:, None].double()
    cross_entropy = nn.functional.binary_cross_entropy_with_logits(raw, targets)
    assert float(terms.parts["loss.base.ce"]) == pytest.approx(float(cross_entropy), rel=2e-6)


def test_the_student_has_one_channel_and_the_plan_counts_it(data: dict[str, Any]) -> None:
    profile = Profile.model_validate(TINY | {"data": data, "student": STUDENT | {"encoder": "resnet18"}})
    student = build_student(profile.student, task="semantic", classes=2)
    assert student(torch.zeros(1, 3, 32, 32)).shape[1] == out_channels(profile) == 1
    arguments = profile.student.catalog_arguments()
    assert arguments is not None
    known = cost(**arguments, out_channels=1, height=32, width=32)
    assert known is not None and known.parameters == stored_parameters(student)
    assert "binary" not in Profile.model_validate(TINY | {"data": data}).model_dump(exclude_none=True)["student"]


@pytest.mark.parametrize(("task", "classes"), [("semantic", 3), ("hierarchical", 3)])
def test_other_than_two_classes_are_refused(task: Any, classes: int) -> None:
    with pytest.raises(ModelError, match="needs two classes") as refused:
        build_student(Model.model_validate(STUDENT), task=task, classes=classes)
    assert refused.value.hint == "--set student.binary=softmax"


@pytest.mark.parametrize(("student", "teacher"), [("sigmoid", "softmax"), ("softmax", "sigmoid")])
def test_either_form_teaches_either_form(tmp_path: Path, data: dict[str, Any], student: str, teacher: str) -> None:
    network = unet(classes=1 if teacher == "sigmoid" else 2)
    torch.save(network.state_dict(), tmp_path / "teacher.pth")
    run = make_run(
        tmp_path,
        data=data,
        student={**STUDENT, "binary": student},
        training__epochs=1,
        training__log_every=1,
        teacher={"checkpoint": str(tmp_path / "teacher.pth")},
        distillation={"enabled": True},
    )
    assert fit(run) == "finished"
    assert all(value is not None for row in curve(run, "train", "loss.distill", "loss.base") for value in row)
    report = inspect(run.best)
    assert (report.out_channels, report.classes) == (1 if student == "sigmoid" else 2, 2)


def test_a_run_is_resumed_evaluated_and_its_checkpoint_identified(trained: Run, data: dict[str, Any]) -> None:
    assert fit(trained, attempt=2, total_epochs=2) == "finished"
    report = inspect(trained.best)
    assert (report.task, report.classes, report.out_channels) == ("semantic", 2, 1)
    assert report.class_names == list(CLASSES)
    profile = Profile.model_validate(TINY | {"data": data})
    best = max(point[1] for point in curve(trained, "val", "miou"))
    assert assess(profile, str(trained.best), "val")["miou"] == pytest.approx(best, abs=1e-6)


def test_a_teacher_with_swapped_classes_has_the_negative_logit(tmp_path: Path) -> None:
    network = unet(classes=1)
    checkpoint.save(tmp_path / "a.pth", {"state_dict": network.state_dict(), "classes": ["thing", "ground"]})
    loaded, _ = load_teacher(tmp_path / "a.pth", teacher=Teacher(), task="semantic", classes=2, names=CLASSES)
    images = torch.rand(1, 3, 32, 32)
    with torch.inference_mode():
        ours, theirs = (compose(one(images), "semantic").main.softmax(dim=1) for one in (loaded, network))
    torch.testing.assert_close(ours, theirs.flip(1))


def test_the_exported_file_has_two_classes_and_its_argmax_is_the_threshold(tmp_path: Path, trained: Run) -> None:
    source = of_run(trained, trained.best)
    export(source, tmp_path / "a.onnx", ExportOptions(opset=17, input="normalised", output="argmax", dynamic="none"))
    images = torch.rand(1, 3, 32, 32)
    (classes,) = onnxruntime.InferenceSession(tmp_path / "a.onnx").run(None, {"images": images.numpy()})
    with torch.inference_mode():
        raw = source.network(images)
    assert raw.shape[1] == 1
    np.testing.assert_array_equal(classes[0], (raw[0, 0] > 0).numpy())
    assert of_checkpoint(trained.best, teacher=Teacher()).classes == CLASSES
