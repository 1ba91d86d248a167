"""A kind of network with inputs, outputs, metrics and a score of its own, trained as any other."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torchmetrics import Metric

from kdtui import events
from kdtui.engine import checkpoint
from kdtui.engine.data import build_dataset, eval_loader
from kdtui.engine.evaluate import Evaluation, evaluate, predictor
from kdtui.engine.export import export
from kdtui.engine.export.source import of_run
from kdtui.engine.export.verify import session
from kdtui.engine.metrics import Scores
from kdtui.engine.models import AnySize
from kdtui.engine.network import NetworkKind, check_metrics, network_kind
from kdtui.engine.predict import PredictRequest, predict
from kdtui.engine.ranks import make_fabric
from kdtui.errors import ExportError, ModelError, UsageError
from kdtui.export_options import ExportOptions
from kdtui.profile import Model, SyntheticData
from kdtui.store.run import Run
from kdtui.store.store import RunStore
from tests.engine.instances import Instances, InstancesKind, TargetIoU
from tests.engine.runs import curve, events_of, fit, make_run


@pytest.fixture(scope="module", autouse=True)
def instances() -> Iterator[None]:
    """The tables of the default kinds of network and data name those of these tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Model, "implementation", "tests.engine.instances:InstancesKind")
        patch.setattr(SyntheticData, "implementation", "tests.engine.instances:BoxesOfPeople")
        yield


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Run:
    changes: dict[str, Any] = {"training__epochs": 2, "training__precision": "fp32", "training__visualize_every": 1}
    run = make_run(tmp_path_factory.mktemp("instances"), **changes)
    assert fit(run) == "finished"
    return run


def first_event(run: Run, kind: type[events.Started]) -> events.Started:
    return next(event for event in events_of(run) if isinstance(event, kind))


def saved_as_best(run: Run) -> list[tuple[str | None, float | None]]:
    return [(e.monitor, e.value) for e in events_of(run) if isinstance(e, events.Saved) and e.tag == "best"]


def test_its_score_determines_the_best_checkpoint_and_its_metrics_are_reported(trained: Run, tmp_path: Path) -> None:
    shutil.copytree(trained.path, tmp_path / trained.id)
    run = Run(tmp_path / trained.id)
    (_, miou, first, boxes), (_, _, second, _) = curve(run, "val", "miou", "earliness", "boxes")
    assert first > second
    assert boxes not in (0, 10)  # as many label maps as boxes, not as images
    assert saved_as_best(run) == [("val/earliness", first)]
    content = checkpoint.load(run.best)
    assert (content["best"], content["epoch"], content["monitor"]) == (first, 1, "earliness")
    assert len(list(run.visualization(2).glob("*.png"))) == 4
    assert first_event(run, events.Started).student["picture_legend"] == "a colour for each box"

    summary = RunStore(tmp_path).summary(run)
    assert summary.best_miou == miou  # of the best epoch, which is not the largest one
    assert summary.metrics.keys() == {"target_iou", "boxes", "earliness", "best_earliness"}
    assert summary.metrics["best_earliness"] == first

    # A later attempt does not replace it, and restores it from the checkpoint of its epoch.
    run.best.unlink()
    assert fit(run, attempt=2, total_epochs=3) == "finished"
    assert saved_as_best(run)[1:] == []
    assert checkpoint.load(run.best)["best"] == first
    assert curve(run, "val", "best_earliness", "best_miou")[-1] == (9, first, miou)


@pytest.mark.parametrize("data", [{}, {"data__sample": "image", "data__mask_size": [8, 8]}], ids=["own", "pictures"])
def test_the_step_does_not_depend_on_micro_batches_with_different_numbers_of_label_maps(
    tmp_path: Path, data: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Model, "regions", bool(data))
    arguments: dict[str, Any] = {"training__epochs": 1, "training__precision": "fp32", "training__log_every": 1}
    arguments |= data
    losses = []
    for micro in (8, 2):
        run = make_run(tmp_path, name=f"by-{micro}", training__micro_batch_size=micro, **arguments)
        assert fit(run) == "finished"
        losses.append([value for _, value in curve(run, "train", "loss")])
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_metrics_do_not_depend_on_batches() -> None:
    dataset = build_dataset(SyntheticData(height=16, width=16, val_samples=6), "val")
    network = Instances()
    torch.nn.init.zeros_(network.head.weight)
    network.head.bias = torch.nn.Parameter(torch.tensor([-9.0, 9.0, 9.0, -9.0]))  # target everywhere
    predict = predictor(
        AnySize(network, stride=3), make_fabric(accelerator="cpu"), task="hierarchical", channels_last=False
    )
    whole, parts = (
        evaluate(
            predict,
            eval_loader(dataset, size),
            Evaluation(dataset),
            classes=dataset.classes,
            device=torch.device("cpu"),
            metrics=(TargetIoU(),),
        )
        for size in (6, 2)
    )
    assert whole.metrics["boxes"] == sum(map(dataset.label_maps, range(6)))
    assert whole == parts
    assert whole.scalars()["target_iou"] == whole.value("target_iou") > 0
    assert Scores(0.0, {}, 0.0, 0.0, metrics={"target_iou": None}).value("target_iou") == 0


class Broken(TargetIoU):
    def update(self, *_: Any) -> None:
        raise RuntimeError("out of counts")


class Reserved(TargetIoU):
    def compute(self) -> dict[str, torch.Tensor]:
        return {"miou": self.totals[0]}


@pytest.mark.parametrize(
    ("metric", "score", "found"),
    [(Broken, "miou", "RuntimeError: out of counts"), (Reserved, "miou", "miou"), (TargetIoU, "dise", "score = dise")],
)
def test_metrics_that_cannot_be_used_are_refused_before_training(
    metric: type[Metric], score: str, found: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(InstancesKind, "score", score)
    monkeypatch.setattr(InstancesKind, "metrics", lambda self, classes: (metric(),))
    dataset = build_dataset(SyntheticData(height=16, width=16, val_samples=2), "val")
    with pytest.raises(ModelError, match="the metrics of ") as refused:
        check_metrics(network_kind(Model()), Instances(), dataset)
    assert refused.value.found == found


@pytest.mark.parametrize(
    "options", [ExportOptions(opset=17), ExportOptions(opset=17, output="argmax", dynamic="batch")]
)
def test_its_inputs_and_outputs_are_exported_and_verified_with_those_of_the_data(
    trained: Run, options: ExportOptions, tmp_path: Path
) -> None:
    source = of_run(trained, trained.best)
    report = export(source, tmp_path / "model.onnx", options)
    assert list(report["inputs"]) == ["images", "rois"]
    assert list(report["outputs"]) == ["masks", "foreground"]
    assert report["inputs"]["rois"]["shape"] == ["boxes", 5]
    assert report["outputs"]["masks"]["shape"] == ["boxes", *([] if options.output == "argmax" else [3]), 8, 8]
    verified = report["verified"]
    assert verified["validation"]["images"] == 10
    assert verified["validation"]["torch_miou"] == pytest.approx(curve(trained, "val", "miou")[0][1])
    metrics = verified["validation"]["metrics"], verified["validation"]["torch_metrics"]
    assert metrics[0]["target_iou"] == pytest.approx(metrics[1]["target_iou"], abs=1e-6)
    assert metrics[1]["target_iou"] == pytest.approx(curve(trained, "val", "target_iou")[0][1])
    assert verified["outputs"]["foreground"]["relative"] < 1e-3
    # As a user calls it: three boxes in one image of two.
    rois = np.array([[1, 0, 0, 1, 1]] * 3, np.float32)
    images = np.zeros((2, 3, 32, 32), np.float32)
    for network, run in ((tmp_path / "model.onnx", None), (trained.best, str(trained.path))):
        with pytest.raises(UsageError, match="segments the instances in boxes, and needs them"):
            predict(PredictRequest([("picture.png", "labels")], str(network), run=run), lambda report: None)
    masks, foreground = session(tmp_path / "model.onnx").run(None, {"images": images, "rois": rois})
    assert (len(masks), foreground.shape) == (3, (2, 2, 32, 32))


def test_its_calibration_has_the_inputs_of_the_data(trained: Run, tmp_path: Path) -> None:
    options = ExportOptions(opset=17, dynamic="batch", precision="int8", calibration=6, limit=100)
    report = export(of_run(trained, trained.best), tmp_path / "model.onnx", options)
    assert report["verified"]["validation"]["images"] == 10


def test_a_static_batch_is_refused_where_inputs_belong_to_no_image(trained: Run, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="for any batch size") as refused:
        export(of_run(trained, trained.best), tmp_path / "model.onnx", ExportOptions(dynamic="none"))
    assert refused.value.hint == "`kdtui export RUN --dynamic batch`"


def test_an_input_that_the_kind_does_not_declare_is_refused(trained: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(InstancesKind, "graph_inputs", NetworkKind.graph_inputs)
    with pytest.raises(ExportError, match="does not declare an input") as refused:
        of_run(trained, trained.best)
    assert refused.value.found == "rois"


def test_a_kind_without_metrics_is_not_run() -> None:
    class Plain(NetworkKind):
        stride = 1

        def build(self, *_: Any, **__: Any) -> torch.nn.Module:
            raise NotImplementedError

    dataset = build_dataset(SyntheticData(height=16, width=16, val_samples=1), "val")
    check_metrics(Plain(Model()), torch.nn.Identity(), dataset)
