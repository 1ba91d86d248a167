"""A run of a tiny network trained in this process, and one dynamo export of it that many tests look at."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from kdtui.engine.export import export
from kdtui.engine.export.source import Source, of_run
from kdtui.exports import ExportOptions
from kdtui.store.run import Run
from tests.engine.runs import fit, make_run


@dataclass(frozen=True)
class Made:
    """An export as it lies on the disk."""

    path: Path
    report: dict[str, Any]
    options: ExportOptions


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    wide = [64, 64, 64]  # so that the weights are most of a file
    made = make_run(
        tmp_path_factory.mktemp("runs"), name="exported", training__epochs=3, student__decoder_channels=wide
    )
    assert fit(made) == "finished"
    return made


@pytest.fixture(scope="session")
def source(run: Run) -> Source:
    return of_run(run, run.best)


@pytest.fixture(scope="session")
def exported(source: Source, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """As it is where nothing is chosen."""
    path = tmp_path_factory.mktemp("export") / "best_model.onnx"
    return Made(path, export(source, path, ExportOptions()), ExportOptions())
