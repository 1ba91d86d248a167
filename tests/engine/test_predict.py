from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from PIL import Image

from kdtui.engine.export import export
from kdtui.engine.export.source import of_run
from kdtui.engine.predict import PredictRequest, predict
from kdtui.errors import CheckpointError, ExportError, UsageError
from kdtui.export_options import ExportOptions
from kdtui.profile import dump
from kdtui.store.run import Run
from tests.engine.runs import fit, make_run


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Run:
    run = make_run(tmp_path_factory.mktemp("runs"), training__epochs=1)
    assert fit(run) == "finished"
    return run


@pytest.fixture
def pictures(tmp_path: Path) -> list[tuple[str, str]]:
    """Three pictures of different sizes and kinds."""
    noise = np.random.default_rng(0).integers(0, 256, (3, 70, 90, 3), np.uint8)
    names = ["a.png", "b.jpg", "c.png"]
    Image.fromarray(noise[0]).save(tmp_path / names[0])
    Image.fromarray(noise[1, :33, :41]).save(tmp_path / names[1])
    Image.fromarray(noise[2, :, :50, 0]).save(tmp_path / names[2])
    return [(str(tmp_path / name), str(tmp_path / "out" / Path(name).stem)) for name in names]


def asked(request: PredictRequest) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    reports: list[dict[str, Any]] = []

    def progress(words: str, done: int, total: int, *, report: dict[str, Any] | None = None) -> None:
        if report is not None:
            reports.append(report)

    return predict(request, progress), reports


def classes(path: str) -> np.ndarray:
    with Image.open(path) as image:
        assert image.mode == "P"
        return np.asarray(image)


@pytest.mark.parametrize("mode", ["resize", "whole", "slide"])
def test_each_result_has_the_size_of_its_picture(trained: Run, pictures: list[tuple[str, str]], mode: str) -> None:
    request = PredictRequest(pictures, str(trained.best), run=str(trained.path), mode=mode, overlay=True)
    answer, reports = asked(request)
    assert (answer["pictures"], answer["skipped"], answer["mode"], reports) == (3, 0, mode, [])
    for source, target in pictures:
        with Image.open(source) as picture:
            size = picture.size
        labels = classes(f"{target}.png")
        assert labels.shape[::-1] == size
        assert labels.max() < len(answer["classes"])
        with Image.open(f"{target}-overlay.png") as overlay:
            assert (overlay.size, overlay.mode) == (size, "RGB")


def test_the_formats_agree(trained: Run, pictures: list[tuple[str, str]]) -> None:
    for form in ("index", "colour", "probabilities"):
        jobs = [(source, f"{target}-{form}") for source, target in pictures]
        asked(PredictRequest(jobs, str(trained.best), run=str(trained.path), format=form))
    for _, target in pictures:
        with Image.open(f"{target}-index.png") as image:
            labels = np.asarray(image)
            coloured = np.asarray(image.convert("RGB"))
        with Image.open(f"{target}-colour.png") as image:
            assert (np.asarray(image) == coloured).all()
        probabilities = np.load(f"{target}-probabilities.npy", allow_pickle=False)
        assert probabilities.dtype == np.float16
        assert probabilities.shape[1:] == labels.shape
        assert np.abs(probabilities.astype(np.float32).sum(axis=0) - 1).max() < 0.01
        chosen = np.take_along_axis(probabilities, labels[None].astype(int), axis=0)[0]
        assert (chosen >= probabilities.max(axis=0) - 1e-3).all()


def test_by_default_pictures_are_shown_as_in_the_evaluations_of_the_run(
    trained: Run, pictures: list[tuple[str, str]], tmp_path: Path
) -> None:
    profile = trained.profile()
    answers = []
    for keys in ({}, {"keep_aspect": True}, {"evaluation": "slide", "window": (32, 32), "overlap": 0.5}):
        data = profile.data.model_copy(update=keys)
        file = tmp_path / "profile.toml"
        file.write_bytes(dump(profile.model_copy(update={"data": data})))
        request = PredictRequest(pictures, str(trained.best), str(trained.path), str(file), format="probabilities")
        answer, _ = asked(request)
        answers.append((answer["mode"], [np.load(f"{target}.npy").tolist() for _, target in pictures]))
    assert [mode for mode, _ in answers] == ["resize", "resize", "slide"]
    assert answers[0][1] != answers[1][1] != answers[2][1]


def test_a_picture_that_cannot_be_read_is_named_and_skipped(trained: Run, pictures: list[tuple[str, str]]) -> None:
    damaged = Path(pictures[1][0])
    damaged.write_bytes(damaged.read_bytes()[:200])
    jobs = [*pictures, (str(damaged.parent / "none.png"), str(damaged.parent / "out" / "none"))]
    answer, reports = asked(PredictRequest(jobs, str(trained.best), run=str(trained.path)))
    assert (answer["pictures"], answer["skipped"]) == (4, 2)
    assert [report["picture"] for report in reports] == [str(damaged), jobs[-1][0]]
    assert str(damaged) in reports[0]["error"]["message"]
    assert Path(f"{pictures[2][1]}.png").is_file()
    assert not Path(f"{pictures[1][1]}.png").exists()


@pytest.mark.parametrize("output", ["logits", "softmax", "argmax"])
@pytest.mark.parametrize(("dynamic", "form"), [("all", "uint8"), ("none", "normalised")])
def test_an_export_gives_the_classes_of_its_run(
    trained: Run, pictures: list[tuple[str, str]], tmp_path: Path, output: str, dynamic: str, form: str
) -> None:
    options = ExportOptions(opset=17, dynamic=dynamic, batch=2, output=output, input=form)
    export(of_run(trained, trained.best), tmp_path / "net.onnx", options)
    asked(PredictRequest(pictures, str(trained.best), run=str(trained.path)))
    jobs = [(source, f"{target}-onnx") for source, target in pictures]
    answer, _ = asked(PredictRequest(jobs, str(tmp_path / "net.onnx")))
    assert answer["device"] == "onnxruntime cpu"
    least = 0.99 if output != "argmax" else 0.9  # classes are interpolated, not logits
    for _, target in pictures:
        assert (classes(f"{target}.png") == classes(f"{target}-onnx.png")).mean() > least
    if dynamic == "none":
        with pytest.raises(UsageError, match="fixed input size"):
            asked(PredictRequest(jobs, str(tmp_path / "net.onnx"), mode="whole"))
    if output == "argmax":
        with pytest.raises(UsageError, match="no probabilities"):
            asked(PredictRequest(jobs, str(tmp_path / "net.onnx"), format="probabilities"))


def test_a_network_of_whole_pictures_takes_no_boxes(trained: Run, pictures: list[tuple[str, str]]) -> None:
    with pytest.raises(UsageError, match="takes no boxes") as refused:
        asked(PredictRequest(pictures, str(trained.best), run=str(trained.path), boxes="boxes.json"))
    assert refused.value.hint == "omit --boxes"


def test_a_folder_in_the_place_of_an_onnx_file_is_one_message(tmp_path: Path, pictures: list[tuple[str, str]]) -> None:
    (tmp_path / "student.onnx").mkdir()
    with pytest.raises(ExportError, match="cannot be read") as refused:
        asked(PredictRequest(pictures, str(tmp_path / "student.onnx")))
    assert refused.value.found == "Is a directory"


def test_another_programs_onnx_file_is_refused(tmp_path: Path, pictures: list[tuple[str, str]]) -> None:
    path = tmp_path / "net.onnx"
    ends = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, 3, 8, 8]) for name in ("x", "y")]
    graph = onnx.helper.make_graph([onnx.helper.make_node("Identity", ["x"], ["y"])], "graph", ends[:1], ends[1:])
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8), path)
    with pytest.raises(CheckpointError, match="not written by kdtui"):
        asked(PredictRequest(pictures, str(path)))
