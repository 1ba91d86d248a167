"""export and measure, and what they add to train and compare."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from kdtui.export_options import OPTIONS
from kdtui.store.run import Run
from kdtui.store.store import RunStore
from tests.cli.conftest import Kdtui, Trained
from tests.waiting import eventually, finished


@pytest.fixture
def alone(trained: Trained) -> Run:
    return trained("alone", epochs=2)


@pytest.mark.usefixtures("alone")
class TestExport:
    def test_one_run(self, kdtui: Kdtui, store: RunStore) -> None:
        done = kdtui("export", "latest")
        run = store.find("latest")
        assert done.code == 0
        assert done.out.splitlines()[0] == str(run.checkpoints / "best_model.onnx")
        assert "mIoU 0.6000 on 7 validation images" in done.out
        assert "exporting" in done.err
        assert run.exports() == [run.checkpoints / "best_model.onnx"]

    def test_several_runs_and_precisions(self, kdtui: Kdtui, trained: Trained) -> None:
        trained("second")
        done = kdtui("export", "alone", "second", "--precision", "fp32", "--precision", "int8", "--json")
        assert [Path(row["path"]).name for row in done.json] == ["best_model.onnx", "best_model.int8.onnx"] * 2
        assert len({Path(row["path"]).parent for row in done.json}) == 2

    def test_every_option_reaches_the_engine(self, kdtui: Kdtui) -> None:
        values = {"checkpoint": "last", "precision": "int8", "dynamic": "batch", "input": "uint8", "output": "argmax"}
        values |= {"batch": "2", "height": "64", "width": "32", "opset": "17", "calibration": "5", "limit": "0.5"}
        values |= {"keep_float": "both"}
        flags = [word for name, value in values.items() for word in (f"--{name.replace('_', '-')}", value)]
        (row,) = kdtui("export", "latest", *flags, "--parts", "--slim", "--json").json
        told = row["options"]
        assert {name: str(told[name]) for name in values} == values
        assert (told["parts"], told["slim"]) == (True, True)
        assert set(told) == {option.name for option in OPTIONS}
        assert Path(row["path"]).name == "last.int8.onnx"
        assert row["asked"]["checkpoint"].endswith("last.pth")

    def test_one_that_is_refused_does_not_keep_the_others_from_being_made(self, kdtui: Kdtui) -> None:
        done = kdtui("export", "latest", "--limit", "0", "--json")
        assert done.code == 4
        assert done.json[0]["error"] == "ExportError"
        assert "2 points lost" in done.err
        assert "a higher limit" in done.err

    def test_one_precision_that_fails_leaves_the_other_and_one_cause_is_reported_once(
        self, kdtui: Kdtui, here: Path, store: RunStore
    ) -> None:
        both = ("--precision", "fp32", "--precision", "int8", "--json")
        done = kdtui("export", "latest", *both, "--calibration", "13")
        assert (done.code, [row.get("error") for row in done.json]) == (4, [None, "ExportError"])
        assert store.find("latest").exports() == [store.find("latest").checkpoints / "best_model.onnx"]
        (here / "theirs.pth").write_text("")
        done = kdtui("export", "theirs.pth", *both)
        assert (done.code, [row.get("error") for row in done.json]) == (4, ["CheckpointError"] * 2)
        assert done.err.count("the file is empty") == 1

    def test_two_exports_of_one_file_name_are_refused(self, kdtui: Kdtui, here: Path) -> None:
        for folder in ("a", "b", "out"):
            (here / folder).mkdir()
        for folder in ("a", "b"):
            (here / folder / "theirs.pth").write_text("x")
        done = kdtui("export", "a/theirs.pth", "b/theirs.pth", "--to", "out")
        assert done.code == 2
        assert "two exports would have the same file name" in done.err
        assert list((here / "out").iterdir()) == []

    def test_another_folder(self, kdtui: Kdtui, store: RunStore, here: Path) -> None:
        (here / "out").mkdir()
        done = kdtui("export", "latest", "--to", "out")
        assert done.out.splitlines()[0] == str(here / "out" / f"{store.find('latest').id}-best_model.onnx")

    def test_what_is_not_there_and_what_is_not_allowed(self, kdtui: Kdtui) -> None:
        for arguments, said in (
            (["nothing"], "neither a run nor a checkpoint"),
            (["latest", "--checkpoint", "7"], "no such checkpoint"),
            (["latest", "--checkpoint", "newest"], "--checkpoint"),
            (["latest", "--precision", "fp8"], "fp32, fp16, int8"),
            (["latest", "--height", "64"], "must be given together"),
            (["latest", "--classes", "a,b"], "cannot be overridden"),
        ):
            done = kdtui("export", *arguments)
            assert done.code == 2, arguments
            assert said in done.err, arguments

    def test_a_foreign_checkpoint(self, kdtui: Kdtui, here: Path) -> None:
        (here / "theirs.pth").write_text("x")
        done = kdtui("export", "theirs.pth", "--classes", "sky, road", "--profile", "baseline", "--json")
        (row,) = done.json
        assert row["path"] == str(here / "theirs.onnx")
        assert row["asked"]["--classes"] == '["sky", "road"]'
        assert "--profile" in row["asked"]
        assert "no validation data" in kdtui("export", "theirs.pth").out

    @pytest.mark.parametrize(
        ("names", "said"),
        [
            ("a,b,a", "duplicate class name"),
            ("a,,b", "a class has no name"),
            ("", "a class has no name"),
            ("a,\x1b[31mb", "control characters"),
        ],
    )
    def test_names_that_tell_no_classes_apart(self, kdtui: Kdtui, here: Path, names: str, said: str) -> None:
        (here / "theirs.pth").write_text("x")
        done = kdtui("export", "theirs.pth", "--classes", names)
        assert done.code == 2
        assert said in done.err
        assert "\x1b" not in done.err
        assert not (here / "theirs.onnx").exists()

    def test_a_checkpoint_of_a_run_is_that_run_s(self, kdtui: Kdtui, store: RunStore) -> None:
        run = store.find("latest")
        (row,) = kdtui("export", str(run.best), "--json").json
        assert row["asked"]["--run"] == str(run.path)

    def test_an_onnx_file_is_refused_with_the_command_that_works(
        self, kdtui: Kdtui, store: RunStore, here: Path
    ) -> None:
        run = store.find("latest")
        own, other = run.checkpoints / "best_model.onnx", here / "theirs.ONNX"
        for file in (own, other):
            file.write_bytes(b"\x08\x08")
        for file, hint in ((own, f"kdtui export {run.id}"), (other, "kdtui export RUN|CHECKPOINT")):
            done = kdtui("export", str(file))
            assert (done.code, file.read_bytes()) == (4, b"\x08\x08")
            assert "no PyTorch weights" in done.err
            assert hint in done.err
        for file, hint in ((run.best, f"kdtui measure {run.id}"), (run.manifest_path, "kdtui inspect FILE")):
            done = kdtui("measure", str(file))
            assert done.code == 2
            assert "only runs and ONNX files can be measured" in done.err
            assert hint in done.err
        assert kdtui("measure", str(run.path)).code == 0

    def test_an_onnx_file_is_measured_alone(self, kdtui: Kdtui, here: Path) -> None:
        (here / "theirs.onnx").touch()
        done = kdtui("measure", "theirs.onnx", "--image-size", "16x24")
        assert done.code == 0, done.err
        assert "1.00 M" in done.out and "onnxruntime file, batch 1" in done.out and "MACs" not in done.out
        assert "16 x 24" in done.err and "MACs and memory of a single file are not known" in done.err
        assert kdtui("measure", "./theirs.onnx", "--json").json.keys() == {str(here / "theirs.onnx")}
        assert "theirs.onnx" in kdtui("measure", "theirs.onnx", "--markdown").out
        for words, message in (
            (("theirs.onnx", "latest"), "runs and files are measured by separate commands"),
            (("theirs.onnx", "--device", "gpu"), "on the CPU"),
            (("theirs.onnx", "--image-size", "16"), "not a valid size"),
            (("latest", "--image-size", "16x16"), "--image-size is for ONNX files"),
        ):
            done = kdtui("measure", *words)
            assert done.code == 2 and message in done.err

    def test_ctrl_c_ends_the_engine_and_reports_that_nothing_changed(self, here: Path) -> None:
        began = here / "began"
        argv = [sys.executable, "-c", "from kdtui.cli.app import main; main()", "export", "latest"]
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "KDTUI_TEST_SLOW_EXPORT": str(began)},
        )
        eventually(began.exists, "the export begins")
        process.send_signal(signal.SIGINT)
        _, err = finished(process)
        assert process.returncode == 130
        assert b"unchanged" in err
        assert b"Traceback" not in err


@pytest.mark.usefixtures("alone")
class TestMeasure:
    def test_a_run_alone_and_a_distilled_one(self, kdtui: Kdtui, store: RunStore, trained: Trained) -> None:
        trained("taught", profile="distill-b0-from-b3", teacher="alone")
        done = kdtui("measure", "taught", "alone", "--threads", "2", "--repeats", "4")
        assert done.code == 0
        assert "2.00x" in done.out
        assert "10.00 ms (10.00 to 10.00)" in done.out
        assert "2 threads, median of 4 interleaved repeats" in done.err
        table = kdtui("measure", "taught", "alone", "--markdown").out
        lines = [line for line in table.splitlines() if line.startswith("| ")]
        assert len(lines) == 2 + 2  # the student of both has the same weights here, and is one network
        assert len({line.count(" | ") for line in lines}) == 1
        assert "(2.00x)" in lines[3]
        assert set(kdtui("measure", "alone", "--json").json) == {store.find("alone").id}

    def test_compare_shows_what_was_measured(self, kdtui: Kdtui) -> None:
        assert "latency" not in kdtui("compare", "alone").out
        kdtui("measure", "alone")
        assert "10.00 ms" in kdtui("compare", "alone").out
        done = kdtui("compare", "alone", "--pareto", "latency")
        assert "onnxruntime int8" in done.out
        assert kdtui("compare", "alone", "--pareto", "parameters", "--json").json["cost"] == "parameters"
        assert kdtui("compare", "alone", "--pareto", "latency", "--format", "csv").code == 2

    def test_without_a_checkpoint_or_a_device(
        self, kdtui: Kdtui, store: RunStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("KDTUI_SLOTS", "gpu:0")
        assert kdtui("measure", "alone", "--device", "gpu").code == 2
        store.find("alone").best.unlink()
        done = kdtui("measure", "alone")
        assert done.code == 2
        assert "no best checkpoint" in done.err

    def test_a_damaged_file_is_reported_and_the_others_are_compared(
        self, kdtui: Kdtui, store: RunStore, trained: Trained
    ) -> None:
        trained("other")
        kdtui("measure", "alone", "other")
        broken = store.find("alone")
        for written in ("{", "[]", '{"student": {"latency": 3}}', '{"student": {}, "teacher": 7}'):
            broken.measurements_path.write_text(written)
            for flags in ((), ("--pareto", "latency"), ("--pareto", "parameters")):
                done = kdtui("compare", "alone", "other", *flags)
                assert done.code == 0
                assert "other" in done.out and "10.00 ms" in done.out
                assert f"{broken.id}: The run's measurements cannot be used" in done.err
                assert f"`kdtui measure {broken.id}` replaces them" in done.err
                assert "Error" not in done.err
                notes = kdtui("compare", "alone", "other", *flags, "--json").json["notes"]
                assert sum("cannot be used" in note for note in notes) == 1
            assert kdtui("compare", "alone", "other", "--format", "markdown").out.count("cannot be used") == 1


def test_train_exports_what_it_trained(kdtui: Kdtui, store: RunStore) -> None:
    done = kdtui("train", "baseline", "--epochs", "1", "--export-onnx")
    assert done.code == 0
    assert store.find("latest").exports()
    assert str(store.find("latest").exports()[0]) in done.out
    as_json = kdtui("train", "baseline", "--epochs", "1", "--export-onnx", "--json")
    assert as_json.json[0]["name"] == "baseline"
    skipped = kdtui("train", "baseline", "--skip-training", "--export-onnx")
    assert skipped.code == 0
    assert "best_model.onnx" in skipped.out
    for flag in ("--detach", "--dry-run"):
        assert kdtui("train", "baseline", "--export-onnx", flag).code == 2


def test_a_run_that_failed_is_not_exported(kdtui: Kdtui, store: RunStore) -> None:
    done = kdtui("train", "baseline", "--name", "fails", "--export-onnx")
    assert done.code == 4
    assert store.find("fails").exports() == []
