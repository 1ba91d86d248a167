"""Content of the screen that compares runs: tables with a row or a column per run, best and worst values, the teachers.

All numbers and their texts come from :mod:`kdtui.compare`, like those of ``kdtui compare``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

from kdtui.compare import ComparedRun, Comparison, Row, cells
from kdtui.compare.measured import seconds
from kdtui.compare.named import mark
from kdtui.compare.render import class_cells, value_text
from kdtui.store.history import History
from kdtui.store.state import RunSummary
from kdtui.text import giga, millions, milliseconds, number, percent, ratio, score_title
from kdtui.tui.values import Cell, Column
from kdtui.tui.views.colours import STATE_STYLES
from kdtui.tui.views.rows import short_encoder

_COLUMNS = {
    "run": Column("run", "run", 16, 40, grow=True),
    "encoder": Column("encoder", "student", 9, 22, drop=6),
    "params": Column("params", "params", 7, 9, right=True, drop=8),
    "T": Column("T", "T", 4, 6, right=True, drop=4),
    "α": Column("α", "α", 4, 5, right=True, drop=4),
    "epoch": Column("epoch", "ep", 3, 5, right=True, drop=5),
    "mIoU": Column("mIoU", "mIoU", 7, 8, right=True),
    "retention": Column("retention", "of teacher", 11, 11, right=True, drop=2),
    "smaller": Column("smaller", "smaller", 7, 7, right=True, drop=3),
    "MACs": Column("MACs", "MACs", 6, 9, right=True, drop=9),
    "latency": Column("latency", "latency", 8, 11, right=True, drop=5),
    "faster": Column("faster", "faster", 6, 7, right=True, drop=3),
    "Δ baseline": Column("Δ baseline", "Δ base", 8, 9, right=True),
}
_CLASS = "IoU "
_FIRST_CLASS_DROP = 10
_MIOU_DROP = 7
_CLASS_STYLES = {"▲": "success", "▼": "warning"}
_BEST, _WORST, _MISSING, _TEACHER = "★", "▼", "!", "◆"
_LABEL = (12, 30)
VALUE = (8, 30)
"""Minimum and maximum width of a column of a table with a column per run."""
_RATED: dict[str, tuple[Callable[[Row], float | None], int]] = {
    "params": (lambda row: row.parameters, -1),
    "mIoU": (lambda row: row.miou, 1),
    "retention": (lambda row: row.retention, 1),
    "smaller": (lambda row: row.compression, 1),
    "MACs": (lambda row: row.macs, -1),
    "latency": (lambda row: row.latency, -1),
    "faster": (lambda row: row.speedup, 1),
    "Δ baseline": (lambda row: row.delta_baseline, 1),
}
"""Columns with a better and a worse value: how to read it from a row, and whether more (1) or less (-1) is better."""


@dataclass(frozen=True)
class ComparedTeacher:
    """A teacher of at least one of the runs.

    Attributes:
        iou: Per class; empty until a history of one of its students is read.
        macs: For one image, like ``latency`` in seconds; None if it was not measured with any of its students.
    """

    name: str
    parameters: int | None
    miou: float | None
    iou: Mapping[str, float] = field(default_factory=dict)
    macs: int | None = None
    latency: float | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)

    def text(self, title: str) -> str:
        """Text of its cell in the column ``title``."""
        if title.startswith(_CLASS):
            iou = self.iou.get(title.removeprefix(_CLASS))
            return "" if iou is None else number(iou)
        texts = {
            "params": millions(self.parameters),
            "mIoU": number(self.miou),
            "retention": percent(1.0),
            "smaller": ratio(1.0),
            "MACs": giga(self.macs),
            "latency": milliseconds(self.latency),
            "faster": ratio(None if self.latency is None else 1.0),
            **{score_title(name): number(value) for name, value in self.metrics.items()},
        }
        return texts.get(title, "")


def teachers(
    entries: Iterable[ComparedRun], names: Mapping[str, str], histories: Mapping[str, History]
) -> list[ComparedTeacher]:
    """The teachers of the runs, without duplicates; a teacher that is a run of the store gets the name of that run."""
    found: dict[str, ComparedTeacher] = {}
    for entry in entries:
        run = entry.summary
        if run.teacher_checkpoint is None or run.teacher_checkpoint in found or run.teacher_miou is None:
            continue
        path = Path(run.teacher_checkpoint)
        started = histories[run.id].started if run.id in histories else None
        iou = started.teacher.get("iou") if started is not None and started.teacher is not None else None
        found[run.teacher_checkpoint] = ComparedTeacher(
            names.get(path.parent.parent.name, path.name),
            run.teacher_parameters,
            run.teacher_miou,
            dict(iou) if isinstance(iou, Mapping) else {},
            *_measured(entry),
            run.teacher_metrics,
        )
    return list(found.values())


def _measured(entry: ComparedRun) -> tuple[int | None, float | None]:
    """MACs and seconds of one image in torch, for the teacher."""
    side = (entry.measurements or {}).get("teacher") or {}
    return side.get("macs"), seconds(side, "torch")


class Missing(NamedTuple):
    """Why a run is not in a comparison, as one word and as a sentence."""

    word: str
    reason: str


def best_and_worst(rows: Sequence[Row], read: Callable[[Row], float | None], better: int) -> dict[str, str]:
    """Sign of each run with the best or worst value of a column; a value of more than half of the runs has none."""
    values = {row.id: better * value for row in rows if (value := read(row)) is not None}
    often = Counter(values.values())
    signs = {max(often): _BEST, min(often): _WORST} if len(often) > 1 else {}
    signs = {value: sign for value, sign in signs.items() if 2 * often[value] <= len(values)}
    return {run_id: signs[value] for run_id, value in values.items() if value in signs}


def _iou(name: str, row: Row) -> float | None:
    return row.iou.get(name)


def _score(row: Row) -> float | None:
    return row.score


Across = dict[str, list[Cell]]
"""Rows of a table with a column per run: from a key to its label and the cells of the runs."""


class Compared:
    """The texts of one comparison.

    Args:
        comparison: None if none of the runs can be compared.
        rows: Summaries of the runs.
        named: Short name of each run, including those that cannot be compared.
        missing: Why a run is not in the comparison, by id.
        taught_by: The teachers.
    """

    def __init__(
        self,
        comparison: Comparison | None,
        rows: Mapping[str, RunSummary],
        named: Mapping[str, str],
        missing: Mapping[str, Missing],
        taught_by: Sequence[ComparedTeacher] = (),
    ) -> None:
        self.comparison = comparison
        self.rows: tuple[Row, ...] = () if comparison is None else comparison.rows
        self.named = named
        self.missing = missing
        self.taught_by = tuple(taught_by)
        self._summaries = rows
        header, self._texts = ([*_COLUMNS], []) if comparison is None else cells(comparison)
        self.header: tuple[str, ...] = tuple(header)
        classes = [title for title in (*self.header, *self._more_classes()) if title.startswith(_CLASS)]
        self._score = "mIoU" if comparison is None else score_title(comparison.score)
        rated = _RATED | {title: (partial(_iou, title.removeprefix(_CLASS)), 1) for title in classes}
        rated[self._score] = (_score, 1)
        self._signs = {title: best_and_worst(self.rows, read, better) for title, (read, better) in rated.items()}
        self._lines = self._rows_of_runs()

    @property
    def keys(self) -> list[str]:
        """Row keys of the main table: runs by rank, then those that cannot be compared, then teachers."""
        return list(self._lines)

    def row(self, key: str) -> list[Cell]:
        """Cells of a row of the main table."""
        return self._lines[key]

    @property
    def columns(self) -> list[Column]:
        """Columns of the main table."""
        found = [Column("glyph", "", 1, 1)]
        for title in self.header:
            name = title.removeprefix(_CLASS)
            drop = 0 if title == self._score else _FIRST_CLASS_DROP + len(found)
            widths = (7, 8) if title.startswith(_CLASS) else (max(7, len(title)), max(12, len(title)))
            column = _COLUMNS.get(title) or Column(title, name, *widths, right=True, drop=drop)
            # Where another score ranks the runs, there may be no room for the mIoU.
            found.append(replace(column, drop=_MIOU_DROP) if title == "mIoU" != self._score else column)
        return found

    def _rows_of_runs(self) -> dict[str, list[Cell]]:
        lines: dict[str, list[Cell]] = {}
        for row, texts in zip(self.rows, self._texts, strict=True):
            state = self._summaries[row.id].state
            short = self.named[row.id]
            rest = [self._cell(row.id, title, text) for title, text in list(zip(self.header, texts, strict=True))[1:]]
            lines[row.id] = [Cell(state.glyph, STATE_STYLES[state]), Cell(short, keep=mark(short, row.name)), *rest]
        for run_id, missing in self.missing.items():
            blank = [Cell("")] * (len(self.header) - 1)
            lines[run_id] = [Cell(_MISSING, "error"), Cell(f"{missing.word}: {self.named[run_id]}", "error"), *blank]
        for place, teacher in enumerate(self.taught_by):
            texts = [f"teacher {teacher.name}", *(teacher.text(title) for title in self.header[1:])]
            lines[f"teacher {place}"] = [Cell(_TEACHER, "text-muted"), *(Cell(text, "text-muted") for text in texts)]
        return lines

    def _cell(self, run_id: str, title: str, text: str) -> Cell:
        if title == "encoder":
            return Cell(short_encoder(text))
        sign = self._signs.get(title, {}).get(run_id, "")
        style = {_BEST: "success", _WORST: "warning"}.get(sign, "text-muted" if text in ("-", "baseline") else "")
        return Cell(sign + text.removeprefix(f"{_BEST} "), style)

    def _more_classes(self) -> list[str]:
        """Titles of the classes that ``cells`` leaves out because there are many."""
        names = dict.fromkeys(name for row in self.rows for name in row.iou)
        return [title for title in (_CLASS + name for name in names) if title not in self.header]

    # Tables with a column per run.

    def numbers(self) -> Across:
        """Every number: those of the teachers first, then those of the runs."""
        found: Across = {}
        for place, title in enumerate(self.header[1:], start=1):
            texts = [texts[place] for texts in self._texts]
            found[title] = self._across(title, texts, [teacher.text(title) for teacher in self.taught_by])
        for title in self._more_classes():
            texts = [number(row.iou.get(title.removeprefix(_CLASS))) for row in self.rows]
            found[title] = self._across(title, texts, [teacher.text(title) for teacher in self.taught_by])
        for name in dict.fromkeys(name for row in self.rows for name in row.metrics):
            if (title := score_title(name)) not in found:
                texts = [number(row.metrics.get(name)) for row in self.rows]
                found[title] = self._across(title, texts, [teacher.text(title) for teacher in self.taught_by])
        blank = [""] * len(self.taught_by)
        found["Δ against"] = self._across(
            "Δ against", [self.named.get(row.baseline or "", row.baseline or "-") for row in self.rows], blank
        )
        found["seed"] = self._across("seed", ["-" if row.seed is None else str(row.seed) for row in self.rows], blank)
        found["state"] = self._across("state", [row.state.lower() for row in self.rows], blank)
        return found

    def _across(self, title: str, texts: Sequence[str], taught: Sequence[str]) -> list[Cell]:
        runs = [self._cell(row.id, title, text) for row, text in zip(self.rows, texts, strict=True)]
        return [Cell(title, "text-muted"), *(Cell(text, "text-muted") for text in taught), *runs]

    def differing(self) -> Across:
        """The settings that differ between profiles, with their values in each."""
        if self.comparison is None:
            return {}
        return {
            key: [Cell(key, "text-muted"), *(Cell(value_text(value)) for value in values)]
            for key, values in self.comparison.differing.items()
        }

    def classes(self) -> Across:
        """The Δ of each class with its interval in each group that has one; those that gained most first."""
        _, body = ([], []) if self.comparison is None else class_cells(self.comparison)
        return {
            name: [Cell(name, "text-muted"), *(Cell(text, _CLASS_STYLES.get(text[:1], "text-muted")) for text in texts)]
            for name, *texts in body
        }


def short(text: str, names: Mapping[str, str]) -> str:
    """A value in few columns: the file name of a path, and the name of the run for a run's checkpoint."""
    if "/" not in text:
        return text
    path = Path(text)
    run_id = path.parent.parent.name
    if path.parent.name == "checkpoints" and run_id in names:
        return names[run_id] if path.stem == "best_model" else f"{names[run_id]}/{path.name}"
    return f"…/{path.name}"


def across(
    table: Across,
    titles: Sequence[str],
    names: Mapping[str, str],
    room: int,
    at: int,
    firm: int = 0,
    widths: tuple[int, int] = VALUE,
) -> tuple[list[Column], Across]:
    """The columns that fit, and the rows cut down to them.

    Args:
        table: All rows.
        titles: One for each column after the label.
        names: Short names of all runs, by id.
        room: Available terminal columns.
        at: Index of a column that has to be visible, not counting the firm ones.
        firm: Number of leading columns that are always visible.
        widths: Minimum and maximum width of a column.
    """
    longest = max((len(cells[0].text) for cells in table.values()), default=0)
    label = Column("label", "", min(max(longest, _LABEL[0]), _LABEL[1]), _LABEL[1])
    fit = max(1, (room - label.minimum - 4) // (widths[0] + 1) - firm)
    first = firm + max(0, min(at - fit // 2, len(titles) - firm - fit))
    seen = [*range(firm), *range(first, min(first + fit, len(titles)))]
    columns = [label, *(Column(str(index), titles[index], *widths, grow=True) for index in seen)]
    rows = {
        key: [cells[0], *(replace(cell, text=short(cell.text, names)) for cell in (cells[1 + index] for index in seen))]
        for key, cells in table.items()
    }
    return columns, rows
