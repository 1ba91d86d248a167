"""Every layout of data, from the files to an exported network."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest

from kdtui.engine import checkpoint
from kdtui.engine.data import pixel_format, with_statistics
from kdtui.engine.evaluate_file import assess
from kdtui.engine.export import export
from kdtui.engine.export.make import read_facts
from kdtui.engine.export.source import of_run
from kdtui.engine.teacher_report import open_teacher
from kdtui.export_options import ExportOptions
from kdtui.profile import Profile, Teacher
from kdtui.store.store import RunStore
from tests.engine.data.miniatures import MINIATURES
from tests.engine.data.test_layouts import table_of
from tests.engine.runs import TINY, fit

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("name", MINIATURES)
def test_a_layout_is_trained_evaluated_and_exported(tmp_path: Path, name: str) -> None:
    miniature = MINIATURES[name](tmp_path / "data")
    data = table_of(miniature, tmp_path / "data")
    student = {"encoder": "resnet18", "encoder_depth": 3, "decoder_channels": [8, 8, 8]}
    training = {**TINY["training"], "epochs": 1, "batch_size": 2, "visualize_every": 1}
    profile = Profile.model_validate({"name": name, "data": data, "student": student, "training": training})
    run = RunStore(tmp_path / "runs").create(profile)
    assert fit(run) == "finished"
    computed = with_statistics(data)
    assert run.profile().data == computed and list((run.visualization(1)).glob("*.png"))
    scores = assess(run.profile(), str(run.best), "val")
    assert np.isfinite(scores["miou"]) and scores["iou"].keys() == {*(computed.class_names() or ())}
    pixels = pixel_format(computed)
    assert checkpoint.load(run.best)["pixels"]["bgr"] == pixels.bgr
    _, report = open_teacher(run.best, Teacher())
    assert tuple(report.mean or ()) == pixels.mean and report.in_channels == pixels.channels
    source = of_run(run, run.best)
    target = tmp_path / "student.onnx"
    options = ExportOptions(input="uint8")
    assert export(source, target, options, progress=lambda *_: None)["verified"]
    facts = read_facts(target)
    assert (
        json.loads(facts["channels"])
        == pixels.channels
        == onnx.load(target).graph.input[0].type.tensor_type.shape.dim[3].dim_value
    )
    assert tuple(json.loads(facts["normalisation"])["mean"]) == pytest.approx(pixels.mean)
    assert json.loads(facts.get("value_range", "null")) == (None if data.value_range is None else [*data.value_range])
