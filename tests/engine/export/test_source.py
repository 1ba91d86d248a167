"""What is exported when the data are not where they were: the next step is one that an export has."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
import typer.main

from kdtui.cli.app import app
from kdtui.engine.export import export
from kdtui.engine.export.source import of_checkpoint, of_run
from kdtui.errors import DataError, ExportError, KdtuiError
from kdtui.export_options import ExportOptions
from kdtui.launch.moved import moved
from kdtui.profile import Profile, Teacher
from kdtui.store.run import Run
from tests.engine.data.makers import label_folder
from tests.engine.runs import fit, make_run

QUICK = ExportOptions(opset=17)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A run whose data folder was moved to ``elsewhere`` after the training."""
    data = label_folder(tmp_path / "data", height=32, width=32).model_dump(exclude_none=True)
    run = make_run(tmp_path / "runs", data=data, training__epochs=1, training__batch_size=2)
    assert fit(run) == "finished"
    shutil.move(tmp_path / "data", tmp_path / "elsewhere")
    return run


def elsewhere(run: Run, tmp_path: Path) -> Profile:
    data = run.profile().data.model_copy(update={"root": str(tmp_path / "elsewhere")})
    return run.profile().model_copy(update={"data": data})


def options_in(error: KdtuiError) -> set[str]:
    return set(re.findall(r"--[a-z-]+", error.hint or ""))


def test_missing_data_of_a_run(run: Run, tmp_path: Path) -> None:
    command = typer.main.get_command(app).commands["export"]  # type: ignore[attr-defined]
    has = {name for parameter in command.params for name in parameter.opts}
    source = of_run(run, run.best)
    with pytest.raises(DataError, match="does not exist") as caught:
        export(source, tmp_path / "a.onnx", QUICK)
    assert options_in(caught.value) == {"--set"}
    with pytest.raises(ExportError, match="training images") as missed:
        list(source.calibration(2))
    assert options_in(missed.value) == {"--set"}
    assert "--set" in has
    # What the hint says is what works.
    assert caught.value.hint == f"kdtui export {run.id} --set data.root=FOLDER"
    now = moved(run, [f"data.root={tmp_path / 'elsewhere'}"])
    again = of_run(run, run.best, now.profile)
    assert again.classes == source.classes
    assert export(again, tmp_path / "a.onnx", QUICK)["verified"]["validation"]["miou"] is not None


def test_missing_data_of_a_profile(run: Run) -> None:
    with pytest.raises(DataError, match="does not exist") as caught:
        of_checkpoint(run.best, teacher=Teacher(), profile=run.profile())
    assert options_in(caught.value) == {"--profile"}
