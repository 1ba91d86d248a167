"""The student of a search is within the budget by its trained export, unless no trial is."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdtui.errors import StoreError
from kdtui.events import Finished, Queued
from kdtui.store.run import EventLog
from kdtui.store.state import State
from kdtui.store.store import RunStore
from kdtui.sweep.controlled import files_of, start
from kdtui.sweep.folder import BASELINE, STUDENT, SweepFolder
from kdtui.sweep.members import Place
from kdtui.sweep.search.budget import Budget, Costs
from kdtui.sweep.search.finals import MEASUREMENTS, Choice, Final, choose
from kdtui.sweep.search.results import ResultReader, to_json
from kdtui.sweep.search.work import SearchWork
from tests.sweep.search.searching import (
    assert_nothing_ran_twice,
    ends,
    kill_controller,
    made,
    members,
    notes,
    own_runs,
    trained,
)
from tests.waiting import eventually

MOBILE, RESNET = "tu-mobilenetv3_small_050", "resnet18"
FIRST, SECOND = f"{MOBILE}-Unet-w0.5", f"{MOBILE}-Unet-w0.25"
"""Of 8 and 4 ms untrained, by the double."""


# -- what follows from measurements --------------------------------------------------------------------------------


def simulated(
    budget: Budget, untrained: Mapping[str, Costs], factors: Mapping[str, list[float]]
) -> tuple[Choice, dict[str, Final]]:
    """Train and measure what is decided until all is; the factors are trained to untrained, by measurement."""
    ranking, finals = list(untrained), dict[str, Final]()
    for _ in range(5 * len(ranking)):
        choice = choose(budget, ranking, finals, untrained)
        assert choose(budget, ranking, finals, untrained) == choice  # a function of what is in the files
        if choice.settled:
            return choice, finals
        assert choice.student is not None
        before = finals.get(choice.student, Final(choice.student, "run"))
        assert not before.dropped(budget) and len(before.latencies) < MEASUREMENTS
        own = untrained[choice.student]
        times = (*before.latencies, (own.latency or 0) * factors[choice.student][len(before.latencies)])
        finals[choice.student] = dataclasses.replace(before, latencies=times, bytes=int(own.bytes or 0))
    raise AssertionError("it never ends")


trials = st.lists(
    st.tuples(st.floats(0.1, 1.0), st.lists(st.floats(0.5, 3.0), min_size=2, max_size=2)), min_size=1, max_size=8
)


@given(trials)
def test_a_student_over_the_budget_is_the_last_resort(trials: list[tuple[float, list[float]]]) -> None:
    budget = Budget(1.0, None, 1000)
    untrained = {str(place): Costs(latency, None, 900) for place, (latency, _) in enumerate(trials)}
    choice, finals = simulated(budget, untrained, {str(place): factors for place, (_, factors) in enumerate(trials)})
    assert choice.student is not None
    better = list(untrained)[: list(untrained).index(choice.student)]
    if choice.within:
        assert budget.exceeded(finals[choice.student].costs) == []
        assert all(key in choice.dropped or key in choice.beyond for key in better)
    else:
        assert {*choice.dropped, *choice.beyond} == untrained.keys()
        assert all(budget.exceeded(final.costs) for final in finals.values())
        assert budget.excess(finals[choice.student].costs) == min(budget.excess(one.costs) for one in finals.values())
    for key in choice.dropped:
        assert len(finals[key].latencies) == MEASUREMENTS  # another process may have slowed the first one
    for key in choice.beyond:  # it would be over the budget even at the smallest growth of those that are
        ratios = [(finals[one].costs.latency or 0) / (untrained[one].latency or 1) for one in choice.dropped]
        assert key not in finals and (untrained[key].latency or 0) * min(ratios) > 1.0


def test_a_file_that_is_too_large_is_not_measured_again() -> None:
    final = Final("a", "run", (0.5,), 2000)
    assert final.dropped(Budget(1.0, None, 1000)) and not final.unsure(Budget(1.0, None, 1000))


# -- the controller ------------------------------------------------------------------------------------------------


@pytest.fixture
def grown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file with the growth of trained networks; see :func:`tests.fake_engine.measure`."""
    file = tmp_path / "grown.json"
    file.write_text(json.dumps({MOBILE: [1.5], RESNET: [1.0]}))
    monkeypatch.setenv("KDTUI_TEST_GROWN", str(file))
    return file


class Desk:
    """What a controller offers, without a process."""

    retry = False

    def __init__(self, store: RunStore, folder: SweepFolder) -> None:
        self.store, self.folder = store, folder
        self.notes: list[str] = []

    def note(self, message: str) -> None:
        self.notes.append(message)

    def stopped(self) -> bool:
        return False


def finished(store: RunStore, folder: SweepFolder) -> list[str]:
    """Carry out what is left; the outcome is the last note."""
    desk = Desk(store, folder)
    work = SearchWork(desk)
    for _ in range(20):
        if (reason := work.step()) is not None:
            return [*desk.notes, reason]
    raise AssertionError("it never ends")


def searched(store: RunStore) -> SweepFolder:
    """A search with four trials, of which the first and the last were trained whole, as their baselines were."""
    folder = made(store, trials=4)
    for place, score in ((1, 0.7), (2, 0.69)):
        trained(store, folder, place, STUDENT, score)
        trained(store, folder, place, BASELINE, 0.6)
    for place in (6, 7):
        trained(store, folder, place, STUDENT, 0.3, pruned=True)
    return folder


def made_for(store: RunStore, folder: SweepFolder, place: Place) -> bool:
    return place in members(store, folder)


@pytest.mark.slow
def test_the_next_best_takes_the_place_however_often_the_controller_is_killed(
    store: RunStore, grown: Path, gate: Path
) -> None:
    folder = made(store, trials=4)
    (gate / "open").touch()
    for place in [Place(FIRST, 0, STUDENT), Place(FIRST, 0, BASELINE), Place(SECOND, 0, BASELINE)]:
        start(folder)
        eventually(partial(made_for, store, folder, place), place)
        kill_controller(folder)
    start(folder)

    ended = ends(folder)

    assert (ended.state, ended.reason) == (State.FINISHED, f"{SECOND}, 6.00 ms")
    assert_nothing_ran_twice(store, folder)
    found = members(store, folder)
    assert {place.key for place in found if place.role == BASELINE} == {FIRST, SECOND}
    finals = {place.key for place, member in found.items() if member.summary.state is State.FINISHED}
    assert finals >= {FIRST, SECOND}  # a short trial may end before it is pruned
    results = ResultReader(store, folder).read()
    beyond = {f"{RESNET}-Unet-w0.25", f"{RESNET}-Unet-w0.125"}
    assert results.of("student")[0].key == SECOND and set(results.choice.beyond) == beyond
    why = f"{FIRST} is over the budget when trained: 12.00 ms > 10.00 ms; untrained 8.00 ms"
    assert why in notes(folder) and why in results.notes
    before = own_runs(store, folder)
    start(folder)
    assert ends(folder).state is State.FINISHED and own_runs(store, folder) == before


def test_without_one_within_the_budget_the_nearest_is_named_with_the_budget_that_holds(
    store: RunStore, grown: Path
) -> None:
    grown.write_text(json.dumps({FIRST: [1.5], SECOND: [2.75]}))
    folder = searched(store)

    outcome = finished(store, folder)

    assert outcome[-1] == f"no student within 10.00 ms; the nearest is {SECOND}, 11.00 ms"
    assert f"{SECOND} is next; training it whole" in " ".join(outcome)
    results = ResultReader(store, folder).read()
    assert [entry.key for entry in results.of("student")] == [SECOND]
    assert any("the nearest is" in note and "--latency 11ms" in note for note in results.notes)
    assert any(f"{RESNET}-Unet-w0.25 (about 12.00 ms)" in note for note in results.notes)
    assert not any("within the budget of 10.00 ms" in note and not note.startswith("no ") for note in results.notes)
    body = to_json(results)
    assert (body["within_budget"], body["dropped"]) == (False, [FIRST, SECOND])
    assert finished(store, folder)[-1] == outcome[-1]


def test_a_latency_over_the_budget_is_measured_again(store: RunStore, grown: Path) -> None:
    grown.write_text(json.dumps({MOBILE: [5.0, 1.125]}))
    folder = searched(store)
    outcome = finished(store, folder)
    assert outcome[-1] == f"{FIRST}, 9.00 ms"
    assert sum(note.startswith("measuring") and note.endswith("as it is over the budget") for note in outcome) == 1
    assert "within the budget of 10.00 ms" in ResultReader(store, folder).read().notes


def test_a_file_that_was_exported_before_the_training_ended_is_made_again(store: RunStore, grown: Path) -> None:
    grown.write_text(json.dumps({MOBILE: [1.0]}))
    folder = searched(store)
    run = members(store, folder)[Place(FIRST, 0, STUDENT)].run
    early = run.best.with_suffix(".onnx")
    early.write_text("early")
    run.best.write_text("trained on")
    finished(store, folder)
    assert early.read_text() == "onnx"


def test_a_search_of_before_is_shown_as_it_was_and_continues(store: RunStore, grown: Path) -> None:
    """Its folder has no ``finals.json``; its winner was measured over the budget, and that was the end."""
    folder = searched(store)
    SearchWork(Desk(store, folder)).step()  # exports and measures the winner
    (folder.path / "finals.json").unlink()
    with EventLog(files_of(folder).events_path) as log:
        log.append(Queued(1))
        log.append(Finished(0, 0, reason="the winner"))
    results = ResultReader(store, folder).read()
    assert results.of("student")[0].over == ("12.00 ms > 10.00 ms",)
    assert "over the budget by the last measurement: 12.00 ms > 10.00 ms" in results.notes
    assert finished(store, folder)[-1] == f"{SECOND}, 6.00 ms"


@pytest.mark.parametrize("text", ["", "[]", '{"finals": 3}', '{"finals": [{"key": "a", "latencies": [-1]}]}'])
def test_damaged_measurements_are_an_error_that_names_the_file(store: RunStore, text: str) -> None:
    folder = made(store)
    (folder.path / "finals.json").write_text(text)
    with pytest.raises(StoreError, match="delete that file"):
        ResultReader(store, folder).read()
