"""An exported file is evaluated as the checkpoint that it was made from."""

from __future__ import annotations

import json
from pathlib import Path

import onnx
import pytest

from kdtui.engine.evaluate_file import assess
from kdtui.engine.export import export
from kdtui.engine.export.source import of_run
from kdtui.errors import CheckpointError, KdtuiError, UsageError
from kdtui.export_options import ExportOptions
from kdtui.store.files import sha256_of
from kdtui.store.run import Run
from tests.engine.runs import fit, make_run, tiny_profile


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Run:
    run = make_run(tmp_path_factory.mktemp("runs"), training__epochs=1)
    assert fit(run) == "finished"
    return run


def rename_classes(path: Path, names: list[str]) -> None:
    model = onnx.load(path)
    [entry] = [entry for entry in model.metadata_props if entry.key == "classes"]
    entry.value = json.dumps(names)
    onnx.save(model, path)


@pytest.mark.parametrize(("output", "dynamic", "form"), [("logits", "all", "uint8"), ("argmax", "none", "normalised")])
def test_an_export_has_the_scores_of_its_checkpoint(
    trained: Run, tmp_path: Path, output: str, dynamic: str, form: str
) -> None:
    path = tmp_path / "net.onnx"
    export(
        of_run(trained, trained.best),
        path,
        ExportOptions(opset=17, dynamic=dynamic, batch=2, output=output, input=form),
    )
    expected = assess(trained.profile(), str(trained.best), "test")
    answer = assess(trained.profile(), str(path), "test")
    assert answer.keys() == expected.keys()
    assert answer["miou"] == pytest.approx(expected["miou"], abs=0.02)  # uint8 input is rounded
    assert answer["sha256"] == sha256_of(path)
    for key in ("encoder", "architecture", "samples", "scored_at", "note"):
        assert answer[key] == expected[key], key
    rename_classes(path, ["a", "b", "c"])
    with pytest.raises(CheckpointError, match="classes of this file differ"):
        assess(trained.profile(), str(path), "test")
    rename_classes(path, ["background", "other", "target"])
    swapped = assess(trained.profile(), str(path), "test")
    assert "reordered by name" in swapped["note"]
    assert swapped["iou"].keys() == expected["iou"].keys()
    larger = tiny_profile(data__height=64)
    if dynamic == "all":
        assert assess(larger, str(path), "test")["scored_at"] == "32x64"
    else:
        with pytest.raises(UsageError, match="fixed input size"):
            assess(larger, str(path), "test")


def test_what_is_no_onnx_file_is_refused(trained: Run, tmp_path: Path) -> None:
    (tmp_path / "net.onnx").write_bytes(b"no model")
    with pytest.raises(KdtuiError) as refused:
        assess(trained.profile(), str(tmp_path / "net.onnx"), "test")
    assert str(tmp_path / "net.onnx") in str(refused.value)
