"""Weights of another run: their file and hash are recorded when the run is created."""

from __future__ import annotations

from pathlib import Path

import pytest

from kdtui.store.files import sha256_of
from kdtui.store.store import RunStore
from tests.cli.conftest import Kdtui, Trained


def test_weights_of_a_run_are_recorded_as_a_file_with_its_hash(
    kdtui: Kdtui, store: RunStore, trained: Trained, here: Path
) -> None:
    source = trained("source")
    source.best.write_text("weights")
    weights = ["--student-weights", "run:source"]
    done = kdtui("train", "baseline", "--name", "fine", "--epochs", "1", *weights)
    assert done.code == 0, done.err
    run = store.find("fine")
    assert run.profile_table()["student"]["weights"] == str(source.best)
    assert run.manifest().weights == {
        "checkpoint": str(source.best),
        "sha256": sha256_of(source.best),
        "run": source.id,
    }
    assert trained("plain").manifest().weights is None
    assert "weights" not in store.find("plain").manifest_path.read_text()
    distilled = ["distill", "--teacher", "fine", "--student", "resnet18", "--name", "pupil", "--epochs", "1"]
    run.best.write_text("weights of a teacher")
    assert kdtui(*distilled).code == 0
    assert "weights" not in store.find("pupil").profile_table()["student"]  # they were those of the teacher


@pytest.mark.parametrize("name", ["nothing", "2", "untrained"])
def test_a_run_without_them_is_refused_before_a_run_is_created(
    kdtui: Kdtui, store: RunStore, trained: Trained, name: str
) -> None:
    trained("other")
    trained("untrained").best.unlink(missing_ok=True)
    before = len(store.runs())
    done = kdtui("train", "baseline", "--student-weights", f"run:{name}")
    assert done.code == 2
    assert name in done.err
    assert "student.weights" in done.err or name == "untrained"
    assert "next:" in done.err
    assert len(store.runs()) == before


def test_of_several_runs_of_a_name_the_newest_finished_one_is_used(
    kdtui: Kdtui, store: RunStore, trained: Trained
) -> None:
    _, newer = trained("twice"), trained("twice")
    assert kdtui("train", "baseline", "--name", "fine", "--epochs", "1", "--student-weights", "run:twice").code == 0
    assert store.find("fine").profile_table()["student"]["weights"] == str(newer.best)


def test_their_new_location_has_to_have_the_same_file(
    kdtui: Kdtui, store: RunStore, trained: Trained, here: Path
) -> None:
    for name, text in (("w.pth", "weights"), ("copy.pth", "weights"), ("other.pth", "other weights")):
        (here / name).write_text(text)
    assert kdtui("train", "baseline", "--name", "fine", "--epochs", "1", "--set", "student.weights=w.pth").code == 0
    resume = ["resume", "fine", "--total-epochs", "2", "--set"]
    refused = kdtui(*resume, "student.weights=other.pth")
    assert refused.code == 2
    assert "not the checkpoint of weights that the run was created with" in refused.err
    assert kdtui(*resume, "student.weights=copy.pth").code == 0
    assert store.find("fine").profile_table()["student"]["weights"] == str(here / "copy.pth")
