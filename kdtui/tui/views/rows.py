"""The columns of the runs table, cells and sorting; and the header of all screens."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from kdtui.compare.named import mark
from kdtui.store.state import RunSummary, State
from kdtui.text import moment, number, percent, ratio, score_title, span
from kdtui.tui.run_states import RunStates
from kdtui.tui.values import Cell, Column, Part
from kdtui.tui.views.colours import STATE_STYLES

COLUMNS: tuple[Column, ...] = (
    Column("state", "", 1, 1),
    Column("run", "run", 16, 40, grow=True),
    Column("word", "state", 8, 14, drop=9),
    Column("seed", "seed", 4, 6, right=True, drop=10),
    Column("student", "student", 9, 22, drop=2),
    Column("temperature", "T", 4, 6, right=True, drop=4),
    Column("alpha", "α", 4, 4, right=True, drop=4),
    Column("bar", "progress", 10, 10, drop=8),
    Column("epoch", "ep", 6, 9, right=True),
    Column("loss", "loss", 5, 8, right=True, drop=5),
    Column("score", "", 6, 10, right=True),
    Column("miou", "mIoU", 6, 7, right=True),
    Column("last", "last", 6, 7, right=True, drop=7),
    Column("retention", "of teacher", 11, 11, right=True, drop=3),
    Column("compression", "smaller", 7, 7, right=True, drop=6),
    Column("started", "started", 11, 11, drop=11),
    Column("took", "took", 6, 7, right=True, drop=12),
    Column("tags", "tags", 8, 30, drop=13),
    Column("eta", "eta", 9, 60),
)
"""All columns; if they do not fit, the one with the highest ``drop`` is removed first.

``score`` is displayed only for runs that are not ranked by their mIoU, see :func:`columns`."""

SORTS: dict[str, Callable[[RunSummary], Any]] = {
    "run": lambda row: row.name.lower(),
    "state": lambda row: list(State).index(row.state),
    "word": lambda row: list(State).index(row.state),
    "seed": lambda row: row.seed,
    "student": lambda row: row.encoder,
    "temperature": lambda row: row.temperature,
    "alpha": lambda row: row.alpha,
    "bar": lambda row: _done(row),
    "epoch": lambda row: row.epoch,
    "loss": lambda row: row.loss,
    "score": lambda row: _own_score(row),
    "miou": lambda row: row.best_miou,
    "last": lambda row: row.miou,
    "retention": lambda row: row.best_retention,
    "compression": lambda row: compression(row),
    "started": lambda row: row.started,
    "took": lambda row: _took(row),
    "tags": lambda row: row.tags or None,
    "eta": lambda row: row.eta_seconds,
}
SORTABLE: tuple[str, ...] = ("run", "student", "temperature", "alpha", "epoch", "loss", "miou", "last", "retention")
"""Columns that the sort key cycles through; a click on a title sorts by any column."""
BEST_FIRST = frozenset({"score", "miou", "last", "retention", "epoch", "bar", "compression"})
"""Columns sorted with the largest value first."""


def columns(scores: Collection[str]) -> tuple[Column, ...]:
    """The columns of runs that are ranked by these scores: one more where a score is not the mIoU."""
    own = [score for score in scores if score != "miou"]
    title = score_title(own[0]) if len(own) == 1 else "score"
    return tuple(
        replace(column, title=title) if column.key == "score" else column
        for column in COLUMNS
        if own or column.key != "score"
    )


def best_of(rows: Iterable[RunSummary]) -> str | None:
    """Id of the run with the highest score: that which all of them are ranked by, else mIoU; None for less than two."""
    scored = [row for row in rows if row.best_miou is not None]
    scores = {row.score for row in scored}
    score = scores.pop() if len(scores) == 1 else "miou"
    values = [(value, row.id) for row in scored if (value := row.best(score)) is not None]
    return max(values)[1] if len(values) > 1 else None


def cells(row: RunSummary, shown: Sequence[Column], *, best: bool, name: str = "") -> list[Cell]:
    """The cells of a run.

    Args:
        row: The run.
        shown: The columns.
        name: Short name that distinguishes it from runs of the same name; empty for its own name.
        best: Whether its score is the highest displayed one.
    """
    keys = {column.key for column in shown}
    return [cell for column, cell in zip(COLUMNS, _all_cells(row, best, name), strict=True) if column.key in keys]


def _all_cells(row: RunSummary, best: bool, name: str) -> list[Cell]:
    epochs = "-" if row.epoch is None else f"{row.epoch}/{row.epochs if row.epochs is not None else '?'}"
    star, style = ("★", "text-success") if best else ("", "")
    ranked_by_miou = row.score == "miou"
    return [
        Cell(row.state.glyph, STATE_STYLES[row.state]),
        Cell(name or row.name, keep=mark(name, row.name)),
        Cell(row.state.word.lower(), STATE_STYLES[row.state]),
        Cell("-" if row.seed is None else str(row.seed)),
        Cell(short_encoder(row.encoder)),
        Cell(number(row.temperature, 1)),
        Cell(number(row.alpha, 2)),
        Cell(_bar(row, 10), STATE_STYLES[row.state]),
        Cell(epochs),
        Cell(number(row.loss, 3)),
        Cell("" if ranked_by_miou else star + number(_own_score(row)), "" if ranked_by_miou else style),
        Cell((star if ranked_by_miou else "") + number(row.best_miou), style if ranked_by_miou else ""),
        Cell(number(row.miou)),
        Cell(percent(row.best_retention)),
        Cell(ratio(compression(row))),
        Cell(moment(row.started)),
        Cell(span(_took(row))),
        Cell(" ".join(f"#{tag}" for tag in row.tags), "text-muted"),
        _last(row),
    ]


def _own_score(row: RunSummary) -> float | None:
    """The best score of a run that is not ranked by its mIoU."""
    return None if row.score == "miou" else row.best(row.score)


def compression(row: RunSummary) -> float | None:
    """Compression: parameters of the teacher divided by those of the student."""
    return row.teacher_parameters / row.parameters if row.teacher_parameters and row.parameters else None


def short_encoder(encoder: str | None) -> str:
    """A shortened name of an encoder: `timm-efficientnet-b0` is `effnet-b0`."""
    if encoder is None:
        return "-"
    bare = encoder.removeprefix("timm-").removeprefix("tu-")
    return bare.replace("efficientnet", "effnet").replace("mobilenetv", "mbnetv").replace("mobilenet_v", "mbnetv")


def _last(row: RunSummary) -> Cell:
    """The last cell: remaining time, place in the queue, or why the run ended."""
    if row.state is State.QUEUED and row.place is not None:
        return Cell(f"q#{row.place}", "text-primary")
    if row.state is State.RUNNING and not row.detail:
        eta = row.eta_seconds
        # A damaged file may contain any number as a time.
        return Cell(span(eta if eta is not None and math.isfinite(eta) else None))
    if row.detail:
        if row.state is State.QUEUED:  # a narrow column: the name of the run that it waits for
            return Cell(row.detail.replace("waits for run ", "after "), "text-warning")
        return Cell(row.detail, "text-error" if row.state is State.FAILED else "text-warning")
    return Cell("-", "text-muted")


def _took(row: RunSummary) -> float | None:
    """Seconds from the start of the last attempt to its last event."""
    return None if row.started is None or row.last_event is None else row.last_event - row.started


def _done(row: RunSummary) -> float | None:
    return row.epoch / row.epochs if row.epoch and row.epochs else None


def _bar(row: RunSummary, wide: int) -> str:
    """A bar of the finished epochs, with a resolution of an eighth of a column."""
    share = _done(row)
    if share is None:
        return ""
    eighths = round(min(1.0, max(0.0, share)) * wide * 8)
    part = " ▏▎▍▌▋▊▉"[eighths % 8].strip()
    return ("█" * (eighths // 8) + part).ljust(wide, "·")


def ordered(ids: Sequence[str], rows: dict[str, RunSummary], column: str | None, *, descending: bool) -> list[str]:
    """Sort ``ids`` by a column; runs without a value come last in both directions. Without a column, keep the order."""
    if column is None:
        return list(ids)
    read = SORTS[column]
    known = [run_id for run_id in ids if read(rows[run_id]) is not None]
    unknown = [run_id for run_id in ids if read(rows[run_id]) is None]
    return sorted(known, key=lambda run_id: read(rows[run_id]), reverse=descending) + unknown


_COUNTED = (
    State.RUNNING,
    State.QUEUED,
    State.LOST,
    State.FINISHED,
    State.STOPPED,
    State.FAILED,
    State.NEVER_LAUNCHED,
)


def time_of_day() -> str:
    """Local time as hours and minutes."""
    return time.strftime("%H:%M")


def header_parts(
    root: Path, board: RunStates, machine: Sequence[str], clock: Callable[[], str] = time_of_day, doing: str = ""
) -> tuple[list[Part], list[Part]]:
    """Left and right parts of the header; the clock is displayed only while a run is running or queued.

    Args:
        root: Folder of the run store.
        board: States of its runs.
        machine: Load of this machine, one text per device.
        clock: Returns the time of day.
        doing: What the cockpit itself is doing, on any screen.
    """
    left = [Part(" kdtui ", "accent", bold=True), Part(f"{_project(root)}  ", "text-muted")]
    counts = board.counts()
    left += [
        Part(f"{counts[state]}{state.glyph} ", STATE_STYLES[state], bold=state is State.RUNNING)
        for state in _COUNTED
        if counts[state]
    ]
    if not board.whole and board.total:
        left.append(Part(f"{len(board.rows)} of {board.total} read ", "text-muted"))
    if board.trouble:
        left.append(Part("the store cannot be read ", "error", bold=True))
    if doing:
        left.append(Part(f"{doing} ", "warning", bold=True))
    right = [Part("  ".join(machine))] if machine else []
    if board.live():
        right.append(Part(f"  {clock()} "))
    return left, right


def _project(root: Path) -> str:
    """Name of the folder that contains the run store: `people` for `people/runs`."""
    return root.parent.name if root.name == "runs" and root.parent.name else root.name
