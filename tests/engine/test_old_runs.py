"""Run folders that an earlier version made: a teacher, and a student that was distilled, resumed, exported, evaluated.

``tests/old_runs/runs_0_1_0.tar.xz`` is a run store of kdtui 0.1.0 at 2d065c6 with ``@STORE@`` for its absolute path.
"""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from kdtui import events
from kdtui.compare import compare, entries_of
from kdtui.engine import checkpoint
from kdtui.engine.evaluate_file import assess
from kdtui.engine.export.source import of_run
from kdtui.engine.teacher_report import inspect
from kdtui.profile import load
from kdtui.store.export_files import export_path, report_of
from kdtui.store.history import History
from kdtui.store.run import Run
from kdtui.store.state import State
from kdtui.store.store import RunStore
from tests.engine.runs import StoppedAt, curve, events_of, fit, make_run, same_weights

ARCHIVE = Path(__file__).parents[1] / "old_runs" / "runs_0_1_0.tar.xz"


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    root = tmp_path / "runs"
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(root, filter="data")
    for path in root.rglob("*"):
        if path.suffix in (".toml", ".json", ".jsonl", ".txt"):
            path.write_text(path.read_text().replace("@STORE@", str(root)))
    return RunStore(root)


def test_they_are_listed_and_compared(store: RunStore) -> None:
    teacher, student = store.summaries()
    assert (teacher.name, student.name) == ("old-teacher", "old-distilled")
    assert {teacher.state, student.state} == {State.FINISHED}
    assert (student.epoch, student.epochs, student.attempt) == (3, 3, 2)
    assert student.tags == ("old",)
    assert student.teacher_miou == teacher.best_miou == pytest.approx(0.2239, abs=1e-4)
    assert student.best_miou == pytest.approx(0.2266, abs=1e-4)
    comparison = compare(entries_of(store, store.runs()))
    assert [row.name for row in comparison.rows] == ["old-distilled", "old-teacher"]
    history = History(events_of(store.find("old-distilled")))
    assert history.curves["val/miou"].steps == [2, 4, 6]
    assert len(history.attempts) == 2


def test_profile_checkpoint_export_and_evaluation_are_read(store: RunStore) -> None:
    student, teacher = store.find("old-distilled"), store.find("old-teacher")
    profile = student.profile()
    assert profile.teacher.checkpoint == str(teacher.best)
    assert profile.data.pipeline == load(student.profile_path).data.pipeline == 1
    assert assess(profile, str(student.best), "val")["miou"] == pytest.approx(0.2266, abs=1e-3)
    assert json.loads((student.evaluations / "test.json").read_text())["split"] == "test"
    assert inspect(str(teacher.best)).encoder == "tu-mobilenetv3_small_050"
    assert of_run(student, student.best)
    export = export_path(student.best, "fp32")
    assert export.is_file()
    assert report_of(export).is_file()
    assert checkpoint.load(student.last)["resume"]["epochs_done"] == 3


def test_a_finished_one_resumes_with_more_epochs(store: RunStore) -> None:
    student: Run = store.find("old-distilled")
    before = curve(student, "val", "miou")
    assert fit(student, attempt=3, total_epochs=4) == "finished"
    after = curve(student, "val", "miou")
    assert after[:3] == before
    assert [step for step, _ in after] == [2, 4, 6, 8]
    started = [event for event in events_of(student) if isinstance(event, events.Started)]
    assert [event.resumed_step for event in started] == [0, 4, 6]


def test_a_run_without_a_pipeline_resumes_on_the_first_bit_for_bit(tmp_path: Path) -> None:
    options: dict[str, Any] = {"data__pipeline": 1, "data__augmentation": "heavy", "training__epochs": 2}
    whole, cut = (make_run(tmp_path / name, **options) for name in ("whole", "cut"))
    for run in (whole, cut):  # as an earlier version wrote it
        run.profile_path.write_text(run.profile_path.read_text().replace("pipeline = 1\n", ""))
    assert "pipeline" not in cut.profile_path.read_text()
    assert fit(whole) == "finished"
    assert fit(StoppedAt(cut.path, lambda seen: any(isinstance(event, events.Saved) for event in seen))) == "stopped"
    assert fit(cut, attempt=2) == "finished"
    assert same_weights(cut.last, whole.last)
    assert curve(cut, "train", "loss") == curve(whole, "train", "loss")
