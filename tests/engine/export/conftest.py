"""A run of a tiny network trained in this process, and one dynamo export of it that many tests look at."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from kdtui.engine.export import export
from kdtui.engine.export.source import ExportNetwork, of_run
from kdtui.export_options import ExportOptions
from kdtui.store.export_files import report_of
from kdtui.store.run import Run
from kdtui.store.store import RunStore
from tests.engine.runs import fit, make_run


@dataclass(frozen=True)
class Made:
    """The files of an export."""

    path: Path
    report: dict[str, Any]
    options: ExportOptions


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    """A folder that one process of a suite fills for all of them."""
    root = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent
    folder = root / name
    with (root / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # until the file is closed
        if not folder.exists():
            begun = root / f"{name}.{os.getpid()}"
            begun.mkdir()
            make(begun)
            begun.rename(folder)
    return folder


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    wide = [64, 64, 64]  # so that the weights are most of a file

    def train(folder: Path) -> None:
        made = make_run(folder, name="exported", training__epochs=3, student__decoder_channels=wide)
        assert fit(made) == "finished"

    (trained,) = RunStore(made_once(tmp_path_factory, "exported-run", train)).runs()
    return trained


@pytest.fixture(scope="session")
def source(run: Run) -> ExportNetwork:
    return of_run(run, run.best)


@pytest.fixture(scope="session")
def exported(source: ExportNetwork, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """As it is where nothing is chosen."""

    def write(folder: Path) -> None:
        (folder / "export").mkdir()
        path = folder / "export" / "best_model.onnx"
        assert export(source, path, ExportOptions()) == json.loads(report_of(path).read_bytes())

    path = made_once(tmp_path_factory, "exported", write) / "export" / "best_model.onnx"
    return Made(path, json.loads(report_of(path).read_bytes()), ExportOptions())
