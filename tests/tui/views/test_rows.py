from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdtui.store.state import RunSummary, State
from kdtui.tui.views.colours import STATE_STYLES
from kdtui.tui.views.rows import (
    BEST_FIRST,
    COLUMNS,
    SORTABLE,
    best_of,
    cells,
    columns,
    compression,
    ordered,
    short_encoder,
)
from kdtui.tui.widgets.columns import fit
from tests.tui.scenes import Scene, people

BARE = RunSummary(id="bare", name="bare", path=Path("bare"), state=State.NEVER_LAUNCHED)
KEYS = [column.key for column in COLUMNS]


def shown(row: RunSummary, *, best: bool = False) -> dict[str, str]:
    """Text of each cell by its column."""
    return dict(zip(KEYS, (cell.text for cell in cells(row, COLUMNS, best=best)), strict=True))


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> dict[str, RunSummary]:
    """The rows of a store with a run in every state, by name."""
    return {row.name: row for row in people(tmp_path_factory.mktemp("rows")).store.summaries()}


def test_every_state_has_a_unique_glyph_word_and_colour(rows: dict[str, RunSummary]) -> None:
    assert {row.state for row in rows.values()} == set(State) == set(STATE_STYLES)
    for row in rows.values():
        cell = cells(row, COLUMNS, best=False)[0]
        assert (cell.text, cell.style) == (row.state.glyph, STATE_STYLES[row.state])
        assert shown(row)["word"] == row.state.word.lower()


def test_the_last_column_has_the_remaining_time_or_the_reason(rows: dict[str, RunSummary]) -> None:
    last = {name: shown(row)["eta"] for name, row in rows.items()}
    assert last["b0-t4"] == "19m30s"  # 39 epochs of 10 steps of 3 s
    assert last["b0-quiet"] == "no events for 14 min"
    assert (last["b0-t8"], last["b0-t16"]) == ("q#1", "q#2")
    assert last["b0-hot"] == "the loss is no longer a number"
    assert last["b0-wide"] == "rank 0 killed by SIGKILL"
    assert last["b0-night"] == "the processes exited without reporting a result"
    assert last["b3-teacher"] == last["draft"] == "-"


def test_a_wide_terminal_shows_seed_start_duration_and_tags(rows: dict[str, RunSummary]) -> None:
    row = shown(rows["b3-teacher"])
    assert (row["seed"], row["took"], row["tags"]) == ("0", "40m01s", "#teacher")
    assert row["started"].endswith(":30") and row["started"] != "-"
    bare = shown(BARE)
    assert (bare["seed"], bare["started"], bare["took"], bare["tags"]) == ("-", "-", "-", "")


def test_the_distinguishing_end_of_a_name_is_kept(rows: dict[str, RunSummary]) -> None:
    row = dataclasses.replace(rows["b0-alone"], name="a-very-long-name-of-a-profile")
    cell = cells(row, COLUMNS, best=False, name="a-very-long-name-of-a-profile s1")[1]
    assert fit(cell.text, 16, keep=cell.keep) == "a-very-long-… s1"


def test_numbers_are_in_their_columns(rows: dict[str, RunSummary]) -> None:
    row = shown(rows["b0-t4"])
    assert (row["student"], row["temperature"], row["alpha"], row["epoch"]) == ("effnet-b0", "4.0", "0.70", "41/80")
    assert row["compression"] == "2.10x"
    assert row["bar"].count("█") == 5 and len(row["bar"]) == 10
    assert row["miou"] == f"{rows['b0-t4'].best_miou:.4f}"
    fallen = dataclasses.replace(rows["b0-t4"], miou=0.2, best_miou=0.6, teacher_miou=0.8)
    assert [shown(fallen)[column] for column in ("miou", "last", "retention")] == ["0.6000", "0.2000", "75.0%"]
    assert shown(rows["b0-t4"], best=True)["miou"].startswith("★")
    alone = shown(rows["b0-alone"])
    assert (alone["temperature"], alone["alpha"], alone["retention"], alone["compression"]) == ("-", "-", "-", "-")
    assert set(shown(BARE).values()) == {"·", "bare", "never launched", "-", ""}


@pytest.mark.parametrize("share", [0.0, 1e-9, 0.5, 0.999, 1.0, 7.0])
def test_a_bar_is_as_long_as_its_column(share: float) -> None:
    row = dataclasses.replace(BARE, epoch=max(1, round(share * 1000)), epochs=1000)
    assert len(shown(row)["bar"]) == 10
    assert shown(dataclasses.replace(BARE, epoch=3, epochs=0))["bar"] == ""


@pytest.mark.parametrize("column", KEYS)
def test_every_column_sorts_and_runs_without_a_value_come_last(column: str, rows: dict[str, RunSummary]) -> None:
    if column == "state":
        assert column not in SORTABLE
    ids = list(rows)
    up, down = (ordered(ids, rows, column, descending=descending) for descending in (False, True))
    assert sorted(up) == sorted(down) == sorted(ids)
    first = [name for name in up if shown(rows[name])[column] not in ("-", "")]
    assert up[: len(first)] == first or column in ("eta", "bar")
    if column in BEST_FIRST:
        values = [value for name in down if (value := shown(rows[name])[column].rstrip("x%")) not in ("-", "")]
        if column in ("miou", "last", "retention", "compression"):
            assert [float(value) for value in values] == sorted(map(float, values), reverse=True)


def test_without_a_column_the_order_stays(rows: dict[str, RunSummary]) -> None:
    assert ordered(["draft", "b0-t4"], rows, None, descending=True) == ["draft", "b0-t4"]
    assert set(SORTABLE) <= set(KEYS) and set(KEYS) >= BEST_FIRST


@given(st.lists(st.none() | st.floats(allow_nan=False), max_size=8), st.booleans())
def test_sorting_is_stable_and_total(losses: list[float | None], descending: bool) -> None:
    rows = {str(i): dataclasses.replace(BARE, id=str(i), loss=loss) for i, loss in enumerate(losses)}
    result = ordered(list(rows), rows, "loss", descending=descending)
    known = [loss for key in result if (loss := rows[key].loss) is not None]
    assert known == sorted(known, reverse=descending)
    assert [rows[key].loss for key in result[len(known) :]] == [None] * (len(losses) - len(known))


@pytest.mark.parametrize(
    ("encoder", "shown_as"),
    [
        ("timm-efficientnet-b0", "effnet-b0"),
        ("efficientnet-b7", "effnet-b7"),
        ("timm-mobilenetv3_large_100", "mbnetv3_large_100"),
        ("mobilenet_v2", "mbnetv2"),
        ("tu-convnext_tiny", "convnext_tiny"),
        ("resnet18", "resnet18"),
        (None, "-"),
    ],
)
def test_encoder_names_are_shortened(encoder: str | None, shown_as: str) -> None:
    assert short_encoder(encoder) == shown_as


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e300])
def test_invalid_numbers_are_displayed(value: float) -> None:
    row = dataclasses.replace(
        BARE, state=State.RUNNING, loss=value, miou=value, eta_seconds=value, retention=value, temperature=value
    )
    assert all(cells(row, COLUMNS, best=True))


def test_no_parameters_no_compression(scene: Scene) -> None:
    assert compression(BARE) is None
    assert compression(dataclasses.replace(BARE, parameters=0, teacher_parameters=5)) is None
    assert compression(dataclasses.replace(BARE, parameters=5, teacher_parameters=10)) == 2.0


def scored(name: str, miou: float, **own: float) -> RunSummary:
    """A run with a best mIoU, and with another score that its kind of network is ranked by."""
    metrics = {key: value for score, value in own.items() for key in (score, f"best_{score}")}
    return dataclasses.replace(BARE, id=name, name=name, best_miou=miou, metrics=metrics, best_metrics=own)


def test_runs_ranked_by_another_score_have_a_column_of_it() -> None:
    plain, own = scored("plain", 0.5), scored("own", 0.4, target_iou=0.7)
    assert "score" not in {column.key for column in columns([plain.score])}
    shown_columns = columns([plain.score, own.score])
    at = [column.key for column in shown_columns].index("score")
    assert shown_columns[at].title == "target IoU"
    assert [cells(row, shown_columns, best=False)[at].text for row in (plain, own)] == ["", "0.7000"]
    assert [cells(row, shown_columns, best=True)[at].text for row in (plain, own)] == ["", "★0.7000"]
    assert cells(plain, columns(["miou"]), best=True)[at].text == "★0.5000"


def test_the_best_run_is_that_of_their_common_score() -> None:
    low, high = scored("low", 0.9, target_iou=0.1), scored("high", 0.2, target_iou=0.8)
    assert best_of([low, high]) == "high"
    assert best_of([low, high, scored("plain", 0.5)]) == "low"
    assert best_of([low]) is None and best_of([low, BARE]) is None
