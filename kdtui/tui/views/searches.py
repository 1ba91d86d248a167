"""What the screen of the searches displays: their list, the networks of one, and the points of its front."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kdtui.errors import KdtuiError
from kdtui.store.state import State
from kdtui.sweep.search.listing import SearchRow
from kdtui.sweep.search.results import Entry, Results
from kdtui.text import millions, milliseconds, number, one_line, percent
from kdtui.tui.values import Cell, Column, TextLine
from kdtui.tui.views.colours import STATE_STYLES, curve_colour

COLUMNS: tuple[Column, ...] = (
    Column("state", "", 1, 1),
    Column("search", "search", 24, 40),
    Column("budget", "budget", 8, 24),
    Column("measured", "measured", 8, 9, right=True, drop=2),
    Column("best", "best", 6, 7, right=True, drop=1),
    Column("stage", "stage", 10, None, drop=3, grow=True),
)
"""The columns of the list of searches."""
NETWORKS: tuple[Column, ...] = (
    Column("mark", "", 1, 1),
    Column("network", "network", 16, None, grow=True),
    Column("params", "params", 7, 8, right=True, drop=5),
    Column("latency", "latency", 9, 10, right=True),
    Column("score", "score", 6, 7, right=True),
    Column("share", "of teacher", 6, 10, right=True, drop=4),
    Column("epoch", "epoch", 5, 5, right=True, drop=3),
    Column("state", "state", 9, 14, drop=2),
)
"""The columns of the networks of one search."""
_HASH = 9
_MARKS = {"teacher": "T", "student": "★", "baseline": "○", "trial": "•", "candidate": "·"}
_COLOURS = {"teacher": 1, "student": 3, "baseline": 2, "trial": 0, "candidate": 7}


@dataclass(frozen=True)
class FrontPoint:
    """A network in the plot.

    Attributes:
        key: That of :func:`entry_key`.
        latency: In milliseconds.
        front: Whether no other one is faster and better.
    """

    key: str
    mark: str
    latency: float
    score: float
    colour: str
    front: bool


def cells(row: SearchRow) -> list[Cell]:
    """The cells of :data:`COLUMNS`."""
    name = Cell(row.id, keep=row.id[-_HASH:])
    if isinstance(row.outcome, KdtuiError):
        return [Cell("?", "text-error"), name, *([Cell("-")] * 3), Cell(one_line(row.outcome.brief), "text-error")]
    results = row.outcome
    _, _, budget, measured, best, stage = row.cells()
    return [
        Cell(results.state.glyph, STATE_STYLES[results.state]),
        name,
        Cell(budget),
        Cell(measured),
        Cell(best),
        Cell(stage),
    ]


def entry_key(entry: Entry) -> str:
    """Identifies an entry of a search."""
    return f"{entry.role} {entry.key}"


def network_cells(entry: Entry, teacher: float | None) -> list[Cell]:
    """The cells of :data:`NETWORKS`."""
    share = entry.score / teacher if entry.score is not None and teacher else None
    name = f"{entry.key} (baseline)" if entry.role == "baseline" else entry.key
    state = ", ".join(entry.over) if entry.role == "candidate" and entry.over else entry.state
    style = "text-muted" if entry.role == "candidate" or entry.state == "pruned" else ""
    return [
        Cell(_MARKS[entry.role], "text-success" if entry.role == "student" else ""),
        Cell(name, style, keep=" (baseline)" if entry.role == "baseline" else name[max(0, name.rfind("-")) :]),
        Cell(millions(entry.parameters), style),
        Cell(milliseconds(entry.latency), "text-warning" if entry.over else style),
        Cell(number(entry.score), style),
        Cell(percent(share), style),
        Cell(str(entry.epoch or "-"), style),
        Cell(state, style),
    ]


def points(results: Results, *, dark: bool) -> list[FrontPoint]:
    """The networks with latency and score."""
    known = [
        (entry, entry.latency * 1e3, entry.score)
        for entry in results.entries
        if entry.latency is not None and entry.score is not None and entry.role != "candidate"
    ]

    def dominated(x: float, y: float) -> bool:
        return any(a <= x and b >= y and (a < x or b > y) for _, a, b in known)

    return [
        FrontPoint(
            entry_key(entry),
            _MARKS[entry.role],
            x,
            y,
            curve_colour(_COLOURS[entry.role], dark=dark),
            not dominated(x, y),
        )
        for entry, x, y in known
    ]


def headline(results: Results) -> list[TextLine]:
    """The budget, where it is measured, and what the search does now."""
    spec = results.spec
    state = "bad" if results.error else "good" if results.state is State.FINISHED else ""
    goal = "" if spec.retention is None else f", {spec.retention:.0%} of the teacher"
    first: TextLine = [(f"budget {spec.budget}{goal}", "title"), (f"  {spec.target}", "muted")]
    second: TextLine = [(results.error or results.stage or results.state.word.lower(), state)]
    resumes = results.state in (State.STOPPED, State.LOST, State.FAILED)
    return [first, [*second, *([("  R resumes it", "muted")] if resumes else [])]]


def note_lines(results: Results) -> list[TextLine]:
    """The Δ to the baseline and the remarks."""
    lines: list[TextLine] = [] if results.delta is None else [[(f"student minus baseline {results.delta.short}", "")]]
    return [*lines, *([(note, "")] for note in results.notes)]


def legend(found: Sequence[FrontPoint]) -> str:
    """Title of the plot: what x, y and the marks are."""
    names = {"T": "teacher", "★": "student", "○": "baseline", "•": "trial"}
    present = [f"{mark} {name}" for mark, name in names.items() if any(point.mark == mark for point in found)]
    return " ".join(["score, ms ┊ budget", *present])
