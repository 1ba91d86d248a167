"""Whatever a file says is shown, and ends nothing: names, numbers and times of events are data, not trusted."""

from __future__ import annotations

import json
import math
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kdtui.compare.named import called, mark
from kdtui.events import decode, encode
from kdtui.store.history import History
from kdtui.store.state import RunSummary, State
from kdtui.tui.screens.run import RunScreen
from kdtui.tui.views import panels
from kdtui.tui.views.curves import axis_end, metrics, shown
from kdtui.tui.views.rows import COLUMNS, SORTABLE, cells, ordered
from kdtui.tui.widgets.distribution import Distribution, in_words, softened
from tests.tui import hostile
from tests.tui.home import go_to
from tests.tui.scenes import Scene, cockpit, settled, shows, text, until

_TEXTS = {"str", "str | None"}
_WHOLE = {"int | None"}
_REAL = {"float | None"}


def _field(kind: str, name: str) -> st.SearchStrategy[Any]:
    if name == "state":
        return st.sampled_from(State)
    if name == "path":
        return st.just(Path("runs/one"))
    if kind in _TEXTS:
        return st.one_of(hostile.texts, st.none()) if "None" in kind else hostile.texts
    if kind in _WHOLE:
        return st.one_of(st.none(), hostile.integers)
    if kind in _REAL:
        return st.one_of(st.none(), hostile.numbers)
    if kind == "bool":
        return st.booleans()
    if kind == "tuple[str, ...]":
        return st.lists(hostile.texts, max_size=2).map(tuple)
    if kind == "Mapping[str, float]":
        return st.dictionaries(hostile.texts, hostile.floats, max_size=3)
    if kind == "tuple[Mapping[str, str | None], ...]":
        warning = st.fixed_dictionaries({"code": hostile.texts, "message": hostile.texts, "hint": hostile.texts})
        return st.lists(warning, max_size=2).map(tuple)
    assert kind == "tuple[int, ...] | int | None", kind
    return st.one_of(st.none(), hostile.integers)


summaries = st.builds(RunSummary, **{f.name: _field(str(f.type), f.name) for f in fields(RunSummary)})


@settings(max_examples=30, deadline=None)
@given(summaries, st.lists(hostile.lines, max_size=8), st.booleans())
def test_no_row_and_no_event_breaks_a_page(row: RunSummary, written: list[str], best: bool) -> None:
    history = History(hostile.read(written))

    assert len(cells(row, COLUMNS, best=best)) == len(COLUMNS)
    panels.failure(row, history, "")
    share, _ = panels.progress(row, history)
    assert share is None or 0 <= share <= 1
    for page in (panels.losses(history), panels.rates(row, history), panels.speed(row, history)):
        assert all(isinstance(text, str) for line in page for text, _ in line)
    panels.scores(row, history)
    panels.remarks(row, history)
    panels.attempts(row, history)
    panels.newest(row, history)
    for _, own, theirs in panels.class_bars(row, history):
        assert all(value is None or math.isfinite(value) for value in (own, theirs))
    for metric in metrics([history]):
        found = shown(metric, [row.id], {row.id: row}, {row.id: history}, {}, dark=True)
        assert found.x_max is None or math.isfinite(found.x_max)
    end = axis_end(row, history)
    assert end is None or math.isfinite(end)


@settings(max_examples=30, deadline=None)
@given(st.lists(summaries, max_size=4, unique_by=lambda row: row.id), st.sampled_from([*SORTABLE, None]))
def test_any_rows_can_be_named_and_sorted(rows: list[RunSummary], column: str | None) -> None:
    names = called(rows)

    assert len(set(names.values())) == len(rows)
    assert all(short.endswith(mark(short, row.name)) for row in rows for short in [names[row.id]])
    by_id = {row.id: row for row in rows}
    assert sorted(ordered(list(by_id), by_id, column, descending=True)) == sorted(by_id)


@given(st.lists(st.one_of(hostile.floats, st.floats(0, 1)), min_size=1, max_size=6), hostile.floats)
def test_any_probabilities_at_any_temperature_have_a_description(
    probabilities: list[float], temperature: float
) -> None:
    classes = [(str(index), p) for index, p in enumerate(probabilities)]
    distribution = Distribution("one")

    distribution.show(classes, temperature)

    assert all(bar.value is None or 0 <= bar.value <= 1 for bar in distribution._bars._bars)


@pytest.mark.parametrize("alone", [1.0, 0.97, 0.5])
def test_a_single_class_has_no_entropy(alone: float) -> None:
    assert softened([alone], 4.0) == [1.0]
    assert in_words([1.0], [1.0]) == "entropy 0.00 of 0.00 bits: nearly one-hot"


@pytest.mark.parametrize("when", ["1e18", "1e999", "NaN", "-1e18", "-1", "253402300800"])
def test_an_event_with_an_impossible_time_is_damaged(when: str) -> None:
    assert decode(f'{{"v":1,"kind":"noted","time":{when},"message":"x"}}') is None
    assert decode('{"v":1,"kind":"noted","time":253402300799,"message":"x"}') is not None


@given(hostile.lines)
def test_events_read_from_any_line_can_be_encoded_again(line: str) -> None:
    event = decode(line)

    if event is not None:
        assert math.isfinite(event.time)
        assert decode(encode(event)) is not None
        json.loads(encode(event))


FOLDERS = ("tab\tbed", "20260821-143000-two  spaces", "20260821-143000-two spaces", "20260821-144000-[b]up[red 漢字")


def _spoil(scene: Scene) -> None:
    """Runs with hostile names and values, the first of them a teacher of the others."""
    teacher = scene.finished("t", shown_as="[red]t[/red]\n[/]", tags=("[bold]",), note="[@click=app.quit]q[/]")
    for number, folder in enumerate(FOLDERS):
        run = scene.finished("one", folder=folder, teacher=teacher, seed=number, shown_as="a  [b]\tb")
        lines = []
        for line in run.events_path.read_text().splitlines():
            body = json.loads(line)
            if body["kind"] == "started":
                body["teacher"] |= {"pixel": {"[b]": 0.4}, "iou": {"[/]": 1e300, "b": "none"}}
            if body["kind"] == "measured" and body["step"] % 3 == 0:
                body["scalars"] |= {"loss": 1e300, "[x]": -1e308, "iou.[/]": 7.0}
            lines.append(json.dumps(body))
        lines.append(json.dumps({"v": 1, "kind": "noted", "time": 1e18, "message": "[/]late"}))
        lines.append(json.dumps({"v": 1, "kind": "noted", "time": 1.7e9, "message": "[/]\x1b[31m\n"}))
        run.events_path.write_text("\n".join(lines) + "\n")


async def test_every_screen_shows_runs_with_hostile_names_and_values(scene: Scene) -> None:
    _spoil(scene)
    app = cockpit(scene)
    async with app.run_test(size=(120, 36)) as pilot:
        await settled(pilot)
        app.board.mark(app.board.order)
        for run_id in FOLDERS[1:3]:
            await go_to(pilot, run_id)
            await pilot.press("enter")
            await until(pilot, lambda: isinstance(app.screen, RunScreen))
            for page in "12345":
                await pilot.press(page)
                await pilot.pause()
            await pilot.press("escape")
        await pilot.press("c")
        await shows(pilot, "Δ base")
        for page in "12345":
            await pilot.press(page)
            await pilot.pause()
        assert all(sign not in text(app) for sign in ("being read", "reading the beginning", "gone"))
        await pilot.press("escape")
        await go_to(pilot, FOLDERS[1])
        await pilot.press("N")
        await shows(pilot, "this teacher's pixel", "[b] 1.0000")
