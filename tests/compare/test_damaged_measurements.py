"""Any contents of one run's measurements: the runs are compared, and damage is reported."""

from __future__ import annotations

import copy
import itertools
import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from kdtui.compare import COSTS, FORMATS, cells, compare, entries_of, pareto, render
from kdtui.compare.entries import ComparedRun
from kdtui.compare.pareto import cells as pareto_cells
from kdtui.store.run import Run
from kdtui.tui.views.compression import NetworkSize, compression, read_measured, remarks
from tests.tui.scenes import Scene

STRANGE: tuple[Any, ...] = (None, "x", [], {}, True, 0, -1, float("inf"), float("nan"), 10**400)


@pytest.fixture
def run(scene: Scene) -> Run:
    found = scene.finished("b0", teacher=scene.finished("b3", best=0.76), best=0.7)
    scene.measured(found)
    return found


@pytest.fixture
def other(scene: Scene) -> Run:
    found = scene.finished("other", best=0.6)
    scene.measured(found)
    return found


def places(node: Any, place: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    yield place
    if isinstance(node, dict):
        for key, value in node.items():
            yield from places(value, (*place, key))


def damaged(whole: Any) -> Iterator[Any]:
    """The same with one value another, or missing."""
    yield from STRANGE
    for place in places(whole):
        for value in (*STRANGE, STRANGE) if place else ():
            found = node = copy.deepcopy(whole)
            for key in place[:-1]:
                node = node[key]
            if value is STRANGE:
                del node[place[-1]]
            else:
                node[place[-1]] = value
            yield found


@pytest.mark.parametrize("step", [pytest.param(1, marks=pytest.mark.slow), 7])
def test_one_runs_measurements_never_end_a_comparison(scene: Scene, run: Run, other: Run, step: int) -> None:
    whole = json.loads(run.measurements_path.read_bytes())
    sound = entries_of(scene.store, [run, other])
    refused = 0
    refusals: list[ComparedRun] = []
    for body in itertools.islice(damaged(whole), 0, None, step):
        run.measurements_path.write_text(json.dumps(body))
        entries = entries_of(scene.store, [run, other])
        assert entries[1] == sound[1]
        comparison = compare(entries)
        measured = read_measured(run)
        refused += bool(entries[0].unmeasured)
        assert bool(entries[0].unmeasured) == bool(measured.trouble) == (entries[0].measurements is None)
        assert comparison.notes.count(entries[0].unmeasured) == bool(entries[0].unmeasured)
        assert compression(NetworkSize(1, 1, 1), NetworkSize(2, 2, 2), measured=measured) is not None
        remarks(measured)
        # What is refused differs in the reason alone: such an entry is drawn once.
        if (entry := replace(entries[0], unmeasured="")) in refusals:
            continue
        if entries[0].unmeasured:
            refusals.append(entry)
        assert len(cells(comparison)[1]) == 2
        assert all(render(comparison, form) for form in FORMATS)
        fronts = [pareto(entries, cost) for cost in COSTS]
        assert all(other.id in {point.run for point in front.points} and pareto_cells(front) for front in fronts)
        for front in fronts:
            assert front.notes.count(entries[0].unmeasured) == bool(entries[0].unmeasured)
    assert refused > 100 / step


@pytest.mark.parametrize(
    "written", [b"", b"{", b"\xff", b"[" * 100_000, b"null", b"1" * 5000], ids=lambda data: repr(data[:4])
)
def test_an_incomplete_file_is_reported_once(scene: Scene, run: Run, other: Run, written: bytes) -> None:
    run.measurements_path.write_bytes(written)
    entries = entries_of(scene.store, [run, other])
    assert entries[0].unmeasured.startswith(f"{run.id}: The run's measurements cannot be used, ")
    assert entries[0].unmeasured.endswith("replaces them")
