"""An export from a run: what the file answers, tells and does not tell, and what a failure leaves."""

from __future__ import annotations

import json
import resource
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from kdtui.engine.export import export
from kdtui.engine.export.deployed import InputSize
from kdtui.engine.export.make import Shared
from kdtui.engine.export.source import ExportNetwork, of_checkpoint, of_run
from kdtui.engine.models import build_network, stride
from kdtui.errors import CheckpointError, DataError, ExportError, Interrupted, UsageError
from kdtui.export_options import ExportOptions
from kdtui.profile import Model, Teacher
from kdtui.store.export_files import report_of
from kdtui.store.identity import hostname
from kdtui.store.run import Run
from tests.engine.export.asking import ask, floats, logits, pictures
from tests.engine.export.conftest import Made
from tests.engine.networks import unet

# The TorchScript exporter takes a second where dynamo takes ten; what is tested here is what stands around either.
QUICK = ExportOptions(opset=17)
SECRETS = (b"/kdtui", b"site-packages", b'.py"', b"Traceback", b'File "', b"/tmp/", b"/home/", b"pkg.torch")


def files_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_file_answers_as_the_network_does_at_any_size(exported: Made, source: ExportNetwork) -> None:
    for images in (pictures(1), pictures(3, 64, 40)):
        (answer,) = ask(exported.path, floats(images))
        np.testing.assert_allclose(answer, logits(source, images).numpy(), atol=1e-3)
    (odd,) = ask(exported.path, floats(pictures(2, 37, 45)))
    assert odd.shape == (2, 3, 37, 45)


def test_its_report(exported: Made, run: Run) -> None:
    report = exported.report
    assert (report["exporter"], report["exporter_note"], report["opset"]) == ("dynamo", None, 18)
    assert report["bytes"] == exported.path.stat().st_size
    assert report["inputs"]["images"]["shape"] == ["batch", 3, "height", "width"]
    assert list(report["outputs"]) == ["logits"]
    verified = report["verified"]
    assert verified["outputs"]["logits"]["relative"] < 1e-3
    assert verified["outputs"]["logits"]["agreement"] >= 0.999
    shapes = {tuple(shape) for shape in verified["outputs"]["logits"]["shapes"]}
    assert len({shape[0] for shape in shapes}) >= 3
    assert len({shape[2:] for shape in shapes}) >= 3
    assert verified["validation"]["images"] == run.profile().data.model_dump()["val_samples"]
    assert abs(verified["validation"]["drop_points"]) < 0.1


def test_the_file_tells_what_it_is(exported: Made, run: Run) -> None:
    told = exported.report["metadata"]
    assert told["run"] == run.id
    assert (told["architecture"], told["encoder"]) == ("Unet", "tu-test_resnet")
    assert json.loads(told["classes"]) == ["background", "target", "other"]
    assert json.loads(told["input_size"]) == [32, 32]
    assert json.loads(told["normalisation"])["inside"] is True
    assert float(told["miou"]) == exported.report["verified"]["validation"]["miou"]
    assert "temperature" not in told  # it was not distilled


def test_the_file_tells_nothing_of_the_machine(exported: Made, run: Run) -> None:
    content = exported.path.read_bytes()
    assert [secret for secret in (*SECRETS, str(run.path.parent).encode()) if secret in content] == []
    model = onnx.load(exported.path)
    assert {node.doc_string for node in model.graph.node} == {""}
    assert {entry.domain for entry in model.opset_import} == {""}


def test_the_format_is_as_old_as_the_operators_allow(exported: Made, source: ExportNetwork, tmp_path: Path) -> None:
    assert onnx.load(exported.path).ir_version == 8  # onnxruntime 1.17 reads up to 9
    for precision in ("fp32", "int8"):
        options = replace(QUICK, precision=precision, limit=100.0, calibration=2)
        export(source, tmp_path / "a.onnx", options)
        assert onnx.load(tmp_path / "a.onnx").ir_version == 8


def test_precisions_of_one_command_trace_the_network_once(source: ExportNetwork, tmp_path: Path) -> None:
    folder = tmp_path / "shared"
    folder.mkdir()
    shared = Shared(folder)
    first = export(source, tmp_path / "a.onnx", QUICK, shared=shared)
    (graph,) = folder.glob("*.onnx")
    traced = graph.stat().st_mtime_ns
    int8 = replace(QUICK, precision="int8", limit=100.0, calibration=2)
    second = export(source, tmp_path / "b.onnx", int8, shared=shared)
    assert (second["exporter"], second["exporter_note"]) == (first["exporter"], first["exporter_note"])
    assert [file.stat().st_mtime_ns for file in folder.glob("*.onnx")] == [traced]
    # Torch's answers of the first verification are those that the second would have asked for.
    alone = export(source, tmp_path / "d.onnx", int8)
    assert alone["verified"] == second["verified"]
    export(source, tmp_path / "c.onnx", replace(QUICK, output="argmax"), shared=shared)
    assert len(list(folder.glob("*.onnx"))) == 2  # another graph is no precision of this one


def test_only_the_report_is_next_to_the_file(exported: Made) -> None:
    assert files_in(exported.path.parent) == ["best_model.onnx", "best_model.onnx.json"]


def test_an_older_opset_is_written_by_the_older_exporter_as_the_report_states(
    source: ExportNetwork, tmp_path: Path
) -> None:
    report = export(source, tmp_path / "a.onnx", QUICK)
    assert (report["exporter"], report["opset"]) == ("torchscript", 17)
    assert "opset 18" in report["exporter_note"]
    assert report["inputs"]["images"]["shape"] == ["batch", 3, "height", "width"]


def test_bytes_in_and_classes_out(source: ExportNetwork, tmp_path: Path) -> None:
    path = tmp_path / "a.onnx"
    export(source, path, replace(QUICK, input="uint8", output="argmax"))
    images = pictures(2, 64, 32)
    (answer,) = ask(path, images)
    assert answer.dtype == np.uint8
    assert (answer == logits(source, images).argmax(dim=1).numpy()).mean() > 0.999


@pytest.mark.parametrize("kind", ["float", "uint8"])
def test_half_precision_of_a_graph_that_casts_to_single(
    source: ExportNetwork, tmp_path: Path, kind: Literal["float", "uint8"]
) -> None:
    """The older exporter writes a cast of a float to a float, and pixels as bytes are always cast."""
    path, images = tmp_path / "a.onnx", pictures(2, 64, 32)
    export(source, path, replace(QUICK, precision="fp16", input=kind, output="softmax"))
    (answer,) = ask(path, images if kind == "uint8" else floats(images))
    np.testing.assert_allclose(answer, logits(source, images).softmax(dim=1).numpy(), atol=0.01)


@pytest.mark.parametrize("contents", [pytest.param("softmax", marks=pytest.mark.slow), "argmax"])
def test_the_dynamo_exporter_writes_every_contents(source: ExportNetwork, tmp_path: Path, contents: str) -> None:
    """Not one of its own names for what is inside the graph may be that of an output."""
    simple = replace(source, network=nn.Conv2d(3, 4, 3, padding=1).eval())
    report = export(simple, tmp_path / "a.onnx", ExportOptions(output=contents, input="uint8", parts=True))
    assert report["exporter"] == "dynamo", report["exporter_note"]
    main = "probabilities" if contents == "softmax" else "classes"
    assert list(report["outputs"]) == [main, "bg_fg", "target_nontarget"]


def test_parts_and_probabilities_at_a_static_size(source: ExportNetwork, tmp_path: Path) -> None:
    path = tmp_path / "a.onnx"
    wanted = replace(QUICK, output="softmax", parts=True, dynamic="none", batch=2, height=64, width=32, slim=True)
    report = export(source, path, wanted)
    assert report["inputs"]["images"]["shape"] == [2, 3, 64, 32]
    assert list(report["outputs"]) == ["probabilities", "bg_fg", "target_nontarget"]
    images = pictures(2, 64, 32)
    main, bg_fg, target = ask(path, floats(images))
    np.testing.assert_allclose(main, logits(source, images).softmax(dim=1).numpy(), atol=1e-5)
    np.testing.assert_allclose(main[:, 1], bg_fg[:, 1] * target[:, 0], atol=1e-5)
    np.testing.assert_allclose(bg_fg.sum(axis=1), 1, atol=1e-5)


def test_a_size_that_the_network_cannot_take_is_refused(source: ExportNetwork, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="static input") as caught:
        export(source, tmp_path / "a.onnx", replace(QUICK, dynamic="none", height=33, width=32))
    assert caught.value.allowed == "multiples of 8"
    assert files_in(tmp_path) == []


@pytest.mark.parametrize(
    ("architecture", "encoder", "side", "found"),
    [
        ("UPerNet", "resnet18", 64, "pooling to 2x2, 3x3, 6x6"),
        ("PSPNet", "resnet18", 64, "pooling to 2x2, 3x3, 6x6"),
        ("DPT", "tu-vit_tiny_patch16_224", 224, "for 224x224 that does not accept 240x240"),
    ],
)
def test_a_network_of_one_size_is_reported_at_once_with_the_options_of_its_export(
    source: ExportNetwork, tmp_path: Path, architecture: str, encoder: str, side: int, found: str
) -> None:
    model = Model(architecture=architecture, encoder=encoder, encoder_depth=4, decoder_channels=16)
    network = build_network(model, task="hierarchical", classes=3).eval()
    one_size = replace(source, network=network, stride=stride(model), size=InputSize(side, side))
    for options in (ExportOptions(), ExportOptions(dynamic="size", precision="int8")):
        with pytest.raises(ExportError, match="a fixed size") as caught:
            export(one_size, tmp_path / "a.onnx", options)
        assert found in (caught.value.found or "")
        assert "kdtui export RUN --dynamic batch" in (caught.value.hint or "")
    assert files_in(tmp_path) == []


def test_the_untrained_student(run: Run, tmp_path: Path) -> None:
    report = export(of_run(run, run.untrained), tmp_path / "a.onnx", QUICK)
    assert report["verified"]["validation"]["miou"] < 0.9


def test_weights_that_are_not_finite_are_refused(run: Run, tmp_path: Path) -> None:
    content = torch.load(run.best, weights_only=True)
    content["student"]["segmentation_head.0.bias"][0] = float("nan")
    torch.save(content, tmp_path / "bad.pth")
    with pytest.raises(CheckpointError, match="diverged"):
        of_run(run, tmp_path / "bad.pth")


class TestExternalCheckpoint:
    @pytest.fixture(scope="class")
    def checkpoint(self, tmp_path_factory: pytest.TempPathFactory) -> Path:
        path = tmp_path_factory.mktemp("foreign") / "theirs.pth"
        torch.save({"state_dict": unet(classes=3).state_dict()}, path)
        return path

    def test_without_data_it_is_compared_and_not_scored(self, checkpoint: Path, tmp_path: Path) -> None:
        found = of_checkpoint(checkpoint, teacher=Teacher(), classes=("sky", "road", "car"))
        small = replace(QUICK, dynamic="none", height=64, width=64)
        report = export(found, tmp_path / "theirs.onnx", small)
        assert json.loads(report["metadata"]["classes"]) == ["sky", "road", "car"]
        assert report["metadata"]["task"] == "semantic"
        assert report["verified"]["validation"]["miou"] is None
        assert "run" not in report["metadata"]

    def test_other_classes_than_it_has(self, checkpoint: Path) -> None:
        with pytest.raises(CheckpointError, match="number of classes does not match") as caught:
            of_checkpoint(checkpoint, teacher=Teacher(), classes=("sky", "road"))
        assert caught.value.allowed == "3 names"

    def test_names_in_the_file_are_not_believed_either(self, tmp_path: Path) -> None:
        path = tmp_path / "theirs.pth"
        torch.save({"state_dict": unet(classes=3).state_dict(), "classes": ["sky", "sky", "car"]}, path)
        with pytest.raises(UsageError, match="duplicate class name") as caught:
            of_checkpoint(path, teacher=Teacher())
        assert caught.value.where == str(path)
        assert of_checkpoint(path, teacher=Teacher(), classes=("sky", "road", "car")).classes == ("sky", "road", "car")

    def test_int8_needs_images(self, checkpoint: Path, tmp_path: Path) -> None:
        found = of_checkpoint(checkpoint, teacher=Teacher())
        with pytest.raises(ExportError, match="training images"):
            export(found, tmp_path / "a.onnx", replace(QUICK, precision="int8", dynamic="none", height=64, width=64))
        assert files_in(tmp_path) == []


class TestFailure:
    @pytest.fixture
    def former(self, tmp_path: Path) -> Iterator[Path]:
        """A file that was there before, and is there as it was afterwards, alone."""
        path = tmp_path / "best_model.onnx"
        path.write_bytes(b"former")
        report_of(path).write_bytes(b"{}")
        yield path
        assert path.read_bytes() == b"former"
        assert files_in(tmp_path) == ["best_model.onnx", "best_model.onnx.json"]

    def test_cancelled(self, source: ExportNetwork, former: Path) -> None:
        def progress(words: str, done: int, total: int) -> None:
            if words == "verifying":
                raise Interrupted("enough")

        with pytest.raises(Interrupted):
            export(source, former, QUICK, progress=progress)

    def test_a_full_disk(self, source: ExportNetwork, former: Path) -> None:
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, limits[1]))
        try:
            with pytest.raises(ExportError, match="could not be written") as caught:
                export(source, former, QUICK)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert "MiB free" in (caught.value.found or "")

    def test_a_calibration_split_that_no_longer_exists(self, source: ExportNetwork, former: Path) -> None:
        class WithoutTrain(ExportNetwork):
            def _split(self, name: str):  # type: ignore[no-untyped-def]
                if name == "train":
                    raise DataError("there is no folder of images", where="images/train")
                return super()._split(name)

        gone = WithoutTrain(**vars(source))
        with pytest.raises(ExportError, match="training images") as caught:
            export(gone, former, replace(QUICK, precision="int8"))
        assert caught.value.where == "images/train"

    def test_an_operator_that_onnx_lacks(self, source: ExportNetwork, former: Path) -> None:
        class Bessel(nn.Module):
            def forward(self, images: torch.Tensor) -> torch.Tensor:
                return torch.Tensor(torch.special.bessel_j0(images[:, [0, 1, 2, 0]]))

        with pytest.raises(ExportError, match="cannot be written as ONNX") as caught:
            export(replace(source, network=Bessel()), former, QUICK)
        assert "bessel" in (caught.value.found or "")

    def test_what_a_killed_export_left_is_taken_away(self, source: ExportNetwork, former: Path) -> None:
        left = former.with_name(f".export-{hostname()}-999999999-1")
        left.mkdir()
        (left / "fp32.onnx").write_bytes(b"half")

        def progress(words: str, done: int, total: int) -> None:
            raise Interrupted("enough")

        with pytest.raises(Interrupted):
            export(source, former, QUICK, progress=progress)
