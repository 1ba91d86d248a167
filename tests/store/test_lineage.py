"""The chain of teachers of a run, also where runs are missing, damaged or their own ancestors."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from kdtui.events import Started
from kdtui.profile import Distillation, Profile
from kdtui.store.lineage import lineage
from kdtui.store.run import EventLog, Run
from kdtui.store.store import RunStore


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    return RunStore(tmp_path / "runs")


def entry(teacher: Run | str) -> dict[str, Any]:
    path = str(teacher.best) if isinstance(teacher, Run) else teacher
    return {"checkpoint": path, "sha256": "ab" * 32, "run": teacher.id if isinstance(teacher, Run) else None}


def make(store: RunStore, name: str, *teachers: Run | str, parameters: int = 1_000_000) -> Run:
    """A run that has started, with what it measured of its teachers."""
    profile = Profile(name=name, distillation=Distillation(enabled=bool(teachers)))
    entries = [entry(teacher) for teacher in teachers]
    others = {"ensemble": entries[1:]} if entries[1:] else {}
    run = store.create(profile, teacher={**entries[0], **others} if entries else None)
    measured = [{"miou": 0.5 + number / 10, "parameters": 5_000_000} for number, _ in enumerate(teachers)]
    teacher = {**measured[0], **({"ensemble": measured} if others else {})} if measured else None
    with EventLog(run.events_path) as log:
        log.append(Started(1, (), "cpu", "fp32", 1, 1, 1, 1, 0, {"parameters": parameters}, teacher))
    return run


def test_a_chain_ends_at_a_file_with_its_hash(store: RunStore) -> None:
    teacher = make(store, "teacher", "/models/big.pth", parameters=3_000_000)
    student = make(store, "student", make(store, "assistant", teacher, parameters=2_000_000))
    (chain,) = lineage(student, store).chains()
    assert [one.name for one in chain] == ["big.pth", "teacher", "assistant", "student"]
    assert [one.parameters for one in chain] == [5_000_000, 3_000_000, 2_000_000, 1_000_000]
    assert lineage(student, store).lines() == [
        "big.pth (sha256 abababababab, mIoU 0.5000, 5.00 M parameters) -> "
        f"{teacher.id} (mIoU 0.5000, 3.00 M parameters) -> "
        f"{chain[2].run} (mIoU 0.5000, 2.00 M parameters) -> {student.id} (1.00 M parameters)"
    ]
    assert json.loads(json.dumps(lineage(student, store).to_json()))["teachers"][0]["name"] == "assistant"


def test_a_run_without_a_teacher_has_no_lines(store: RunStore) -> None:
    assert lineage(make(store, "alone"), store).lines() == []


def test_a_removed_run_is_named_with_what_its_student_measured(store: RunStore) -> None:
    teacher = make(store, "teacher")
    student = make(store, "student", teacher)
    shutil.rmtree(teacher.path)
    (line,) = lineage(student, store).lines()
    assert line.startswith(f"{teacher.id} (missing, mIoU 0.5000, 5.00 M parameters) -> {student.id}")


def test_several_teachers_are_a_line_each(store: RunStore) -> None:
    student = make(store, "student", make(store, "one", "/a.pth"), make(store, "two"))
    first, second = lineage(student, store).lines()
    assert first.startswith("a.pth (")
    assert "two (mIoU 0.6000" in second


@pytest.mark.parametrize("damage", ["circle", "text", "list", "other ids"])
def test_a_circle_or_a_damaged_manifest_ends_the_chain(store: RunStore, damage: str) -> None:
    teacher = make(store, "teacher", "/a.pth")
    student = make(store, "student", teacher)
    body = json.loads(teacher.manifest_path.read_text())
    written = {
        "circle": {**body, "teacher": entry(student)},
        "text": "{",
        "list": {**body, "teacher": {"checkpoint": 3, "run": ["x"], "ensemble": [1, {"run": "../../x"}]}},
        "other ids": {**body, "teacher": {"run": "../../etc", "checkpoint": "/x/checkpoints/y"}},
    }[damage]
    teacher.manifest_path.write_text(written if isinstance(written, str) else json.dumps(written))
    lines = lineage(student, store).lines()
    assert all(line.endswith(f"-> {student.id} (1.00 M parameters)") for line in lines)
    assert ("repeated" in lines[0]) == (damage == "circle")


def test_the_id_of_a_teacher_does_not_lead_out_of_the_store(store: RunStore) -> None:
    student = make(store, "student", make(store, "teacher"))
    shutil.copytree(student.path, store.root.parent / "outside")
    body = json.loads(student.manifest_path.read_text())
    body["teacher"] = {"run": "../outside", "checkpoint": "a.pth"}
    student.manifest_path.write_text(json.dumps(body))
    assert lineage(student, store).teachers[0].state == "missing"
