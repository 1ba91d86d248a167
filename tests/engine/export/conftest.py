"""A run of a tiny network trained in this process, and one dynamo export of it that many tests look at."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from kdtui.engine.export import export
from kdtui.engine.export.source import ExportNetwork, of_run
from kdtui.export_options import ExportOptions
from kdtui.store.export_files import report_of
from kdtui.store.run import Run
from tests.engine.runs import fit, make_run


@dataclass(frozen=True)
class Made:
    """The files of an export."""

    path: Path
    report: dict[str, Any]
    options: ExportOptions


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    wide = [64, 64, 64]  # so that the weights are most of a file
    root = tmp_path_factory.mktemp("exported-run")
    made = make_run(root, name="exported", training__epochs=3, student__decoder_channels=wide)
    assert fit(made) == "finished"
    return made


@pytest.fixture(scope="session")
def source(run: Run) -> ExportNetwork:
    return of_run(run, run.best)


@pytest.fixture(scope="session")
def exported(source: ExportNetwork, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """As it is where nothing is chosen."""
    path = tmp_path_factory.mktemp("export") / "best_model.onnx"
    report = export(source, path, ExportOptions())
    assert report == json.loads(report_of(path).read_bytes())
    return Made(path, report, ExportOptions())
