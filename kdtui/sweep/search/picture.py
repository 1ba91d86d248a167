"""The front of a search as text: score against latency, with the line of the budget."""

from __future__ import annotations

from collections.abc import Sequence

from kdtui.sweep.search.results import Entry, Results

_GLYPHS = {"teacher": "T", "student": "★", "baseline": "○", "trial": "•"}
_LABEL = 8


def picture(results: Results, columns: int = 72, rows: int = 14) -> list[str]:
    """Score against latency in milliseconds; ``│`` is the budget. Empty before two networks have both.

    Args:
        results: The search.
        columns: Width of the whole picture.
        rows: Height of the area of points.
    """
    points = [
        (entry.latency * 1e3, entry.score, _GLYPHS[entry.role])
        for entry in reversed(results.of("teacher", "student", "baseline", "trial"))
        if entry.latency is not None and entry.score is not None
    ]
    if len(points) < 2:
        return []
    limit = results.spec.budget.latency * 1e3
    room = columns - _LABEL - 2
    right = max(limit, *(x for x, _, _ in points)) * 1.05
    low, high = min(y for _, y, _ in points), max(y for _, y, _ in points)
    margin = (high - low) * 0.05 or 0.01
    low, high = low - margin, high + margin
    grid = [[" "] * room for _ in range(rows)]
    at = min(room - 1, int(limit / right * (room - 1)))
    for line in grid:
        line[at] = "│"
    for x, y, glyph in points:
        grid[rows - 1 - round((y - low) / (high - low) * (rows - 1))][int(x / right * (room - 1))] = glyph
    lines = []
    for number, line in enumerate(grid):
        value = high - (high - low) * number / (rows - 1)
        label = f"{value:.3f}" if number % 4 == 0 or number == rows - 1 else ""
        lines.append(f"{label:>{_LABEL}} ┤{''.join(line)}".rstrip())
    lines.append(f"{'':>{_LABEL}} └{'─' * at}┴{'─' * (room - at - 1)}")
    edge, budget = f"{right:.1f} ms", f"{limit:g} ms"
    axis = list(f"0{'':{room - len(edge) - 1}}{edge}")
    start = max(2, min(at - len(budget) // 2, room - len(edge) - len(budget) - 2))
    axis[start : start + len(budget)] = budget
    return [*lines, f"{'':>{_LABEL}}  {''.join(axis)}", f"{'':>{_LABEL}}  {legend(results.entries)}"]


def legend(entries: Sequence[Entry]) -> str:
    """What the symbols mean, of the roles that are there."""
    names = {"teacher": "teacher", "student": "student", "baseline": "matched baseline", "trial": "trial"}
    present = [role for role in names if any(entry.role == role and entry.score is not None for entry in entries)]
    return "   ".join(f"{_GLYPHS[role]} {names[role]}" for role in present) + "   │ budget"
