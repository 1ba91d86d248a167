"""Intervals of single runs, from what is kept in their folders."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from pathlib import Path

import pytest

from kdtui.compare import ComparedRun, Comparison, compare, entries_of, render
from kdtui.compare.bootstrap import bootstrap
from kdtui.compare.evidence import with_evidence
from kdtui.compare.render import group_lines
from kdtui.store.run import Run
from tests.compare.counted import made, written
from tests.tui.scenes import Scene


@pytest.fixture
def runs(scene: Scene) -> list[Run]:
    """A baseline, and a run that a teacher taught."""
    baseline = scene.finished("b0-alone")
    return [baseline, scene.finished("b0-from-b3", teacher=scene.finished("b3-teacher"))]


def counted(scene: Scene, runs: list[Run]) -> list[ComparedRun]:
    """The entries of the runs, with counts that give their scores."""
    entries = []
    for seed, entry in enumerate(entries_of(scene.store, runs)):
        counts = made(seed + 1)
        written(counts, Run(entry.summary.path))
        entries.append(dataclasses.replace(entry, summary=dataclasses.replace(entry.summary, best_miou=counts.miou)))
    return entries


def evidence(entries: list[ComparedRun]) -> Comparison:
    return with_evidence(compare(entries), entries)


def test_a_single_run_has_the_interval_of_the_bootstrap_in_every_format(scene: Scene, runs: list[Run]) -> None:
    comparison = evidence(counted(scene, runs))
    (group,) = comparison.groups
    expected = bootstrap(made(2), made(1))
    assert group.interval == expected.score and group.classes == expected.classes
    words = f"b0-from-b3: {expected.score.text}"
    assert words.endswith("over 40 images: within noise for these images; other seeds not covered")
    assert group_lines(comparison)[0] == words and f"- {words}\n" in render(comparison, "markdown")
    (listed,) = json.loads(render(comparison, "json"))["groups"]
    assert listed["interval"] == dataclasses.asdict(expected.score) | {"verdict": "within noise"}
    assert listed["classes"]["rare"]["low"] == expected.classes["rare"].low
    row = next(row for row in csv.DictReader(io.StringIO(render(comparison, "csv"))) if row["group.name"])
    assert float(row["group.high"]) == expected.score.high and row["group.verdict"] == "within noise"
    assert float(row["group.low.rare"]) == expected.classes["rare"].low


def test_a_single_baseline_of_equal_time_has_the_interval_of_the_bootstrap(scene: Scene, runs: list[Run]) -> None:
    longer = scene.finished("b0-alone-equal-time-90", horizon=90)
    entries = counted(scene, [*runs, longer])
    (group,) = evidence(entries).timed
    expected = bootstrap(made(2), made(3)).score
    assert group.interval == expected
    note = f"{runs[1].id} against {longer.id}, for equal time (90 epochs): {expected.text}"
    assert note in evidence(entries).notes
    runs[1].counts("val").unlink()
    assert any(text.startswith(f"{runs[1].id}: Δ ") and "(90 epochs)" in text for text in evidence(entries).notes)


def test_a_run_without_counts_has_none_and_the_command_that_makes_them(scene: Scene, runs: list[Run]) -> None:
    entries = counted(scene, runs)
    runs[0].counts("val").unlink()
    (group,) = evidence(entries).groups
    assert group.interval is None
    assert group.without_interval == f"no counts per image; `kdtui evaluate {runs[0].id} --split val` makes them"


def test_counts_of_another_checkpoint_are_not_used(scene: Scene, runs: list[Run]) -> None:
    entries = counted(scene, runs)
    written(made(9, skill=0.5), runs[1])
    (group,) = evidence(entries).groups
    assert group.without_interval.startswith(f"the counts per image of {runs[1].id} give mIoU ")


def test_counts_are_those_of_the_split(scene: Scene, runs: list[Run]) -> None:
    entries = [dataclasses.replace(entry, split="test") for entry in counted(scene, runs)]
    (group,) = evidence(entries).groups
    assert "--split test" in group.without_interval


def test_runs_of_several_seeds_need_no_counts(scene: Scene) -> None:
    teacher = scene.finished("b3-teacher")
    runs = [scene.finished("b0-alone", seed=seed) for seed in (0, 1)]
    runs += [scene.finished("b0-from-b3", seed=seed, teacher=teacher) for seed in (0, 1)]
    (group,) = evidence(entries_of(scene.store, runs)).groups
    assert group.interval is not None and group.interval.over == "seeds"


def test_a_damaged_file_ends_no_comparison(scene: Scene, runs: list[Run], tmp_path: Path) -> None:
    entries = counted(scene, runs)
    runs[0].counts("val").write_bytes(b"PK half of")
    (group,) = evidence(entries).groups
    assert group.without_interval.startswith("the counts per image are damaged: ")
