"""What the form of a search displays: its candidates, and the lines of its state."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from kdtui.errors import KdtuiError
from kdtui.text import counted, one_line
from kdtui.tui.form.search import FIELDS, CheckedSearch, rephrased
from kdtui.tui.values import Cell, Column, TextLines

if TYPE_CHECKING:
    from kdtui.sweep.search.request import SearchPlan
    from kdtui.sweep.search.screening import Screened

COLUMNS: tuple[Column, ...] = (
    Column("network", "candidate", 24, None, grow=True),
    Column("params", "params", 7, 8, right=True),
    Column("size", "size", 8, 9, right=True, drop=2),
    Column("latency", "latency", 8, 10, right=True, drop=1),
    Column("state", "state", 12, 30),
)
"""The columns of the candidates."""


@dataclass(frozen=True)
class SearchStanding:
    """State of the form.

    Attributes:
        checked: Result of the last check; None before the first one.
        plan: The plan of the checked draft; None until it was made.
        doing: ``planning``, ``launching``, or empty.
        failure: Why planning or launching failed.
    """

    checked: CheckedSearch | None = None
    plan: SearchPlan | None = None
    doing: str = ""
    failure: KdtuiError | None = None


def cells(one: Screened) -> list[Cell]:
    """The cells of :data:`COLUMNS`."""
    style = "text-muted" if one.over else ""
    tone = "text-error" if one.error else "text-muted" if one.over else "text-success" if one.fits else ""
    name, *sizes, state = one.cells()
    network = Cell(name, style, keep=name.removeprefix(one.candidate.encoder))
    return [network, *(Cell(text, style) for text in sizes), Cell(one_line(state), tone)]


def title(standing: SearchStanding) -> tuple[str, str]:
    """Chosen value and right text of the title of the candidates."""
    found = candidates(standing)
    if not found:
        return "", ""
    over, needed = sum(bool(one.over) for one in found), sum(one.word == "to measure" for one in found)
    return str(len(found)), f"{over} over the budget, {needed} to measure"


def candidates(standing: SearchStanding) -> tuple[Screened, ...]:
    """The candidates to display."""
    if standing.plan is not None:
        return standing.plan.candidates
    return () if standing.checked is None else standing.checked.candidates


def state_lines(standing: SearchStanding) -> TextLines:
    """Lines of mistakes, or of the plan and its checks, and of the last failure."""
    checked = standing.checked
    if checked is None:
        return [[("reading…", "muted")]]
    lines = [] if standing.failure is None else failure(standing.failure)
    if checked.mistakes:
        names = ", ".join(FIELDS[name] for name in checked.mistakes)
        lines.append([("✗ ", "bad"), (f"{counted(len(checked.mistakes), 'mistake')}: {names}", "bad")])
    if checked.missing:
        lines.append([("still to choose: ", ""), (", ".join(FIELDS[name] for name in checked.missing), "strong")])
    return lines if checked.mistakes or checked.missing else [*lines, *_plan(standing)]


def _plan(standing: SearchStanding) -> TextLines:
    from kdtui.sweep.search.request import outlook

    plan, checked = standing.plan, standing.checked
    if standing.doing == "launching":
        return [[("launching…", "strong")]]
    if standing.doing == "planning":
        return [[("planning…", "strong"), (" parameters, time, data, student, teacher", "muted")]]
    if plan is None:
        now = "" if checked is None or checked.spec is None else outlook(checked.spec, checked.candidates)
        return [[(now, "")], [("^g estimates the time and runs the checks; ^r does so and launches", "muted")]]
    lines: TextLines = [[(line, "")] for line in plan.lines()]
    if not plan.failed:
        return [*lines, [("✓ ", "good"), (f"{counted(len(plan.checks), 'check')} passed", "good")]]
    for check in plan.failed:
        lines.append([("✗ ", "bad"), (f"{check.name}: {rephrased(check.message)}", "bad")])
        lines += _next(check.hint)
    return lines


def failure(error: KdtuiError) -> TextLines:
    """An error with its next step."""
    return [[("✗ ", "bad"), (rephrased("; ".join(error.message.splitlines())), "bad")], *_next(error.hint)]


def _next(hint: str | None) -> TextLines:
    words = rephrased(hint or "")
    return [[("  next: ", "muted"), (words, "")]] if words else []
