"""The curves of a comparison: one metric of all its runs in one chart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from kdtui.tui.board import Board
from kdtui.tui.curves import metric_title, metrics, neighbour, shown
from kdtui.tui.widgets.line_chart import LineChart


class Curves:
    """Which metric is shown, and how it is drawn.

    Args:
        chart: Takes the curves.
        ids: The runs; they need not be on the board.
    """

    def __init__(self, chart: LineChart, ids: Sequence[str]) -> None:
        self._chart = chart
        self._ids = ids
        self._metric = "val/miou"

    def draw(self, board: Board, letters: Mapping[str, str], named: Mapping[str, str], *, dark: bool) -> None:
        """Draw what the board knows.

        Args:
            board: Rows and histories.
            letters: Letter of each run.
            named: Short name of each run, where it has one.
            dark: Whether the theme is.
        """
        ids = [run_id for run_id in self._ids if run_id in board.rows]
        found = shown(self._metric, self._ids, board.rows, board.histories, letters, dark=dark)
        notes = [f"{named.get(run_id, run_id)}: {board.broken[run_id]}" for run_id in ids if run_id in board.broken]
        if any(run_id in board.partial for run_id in ids):
            notes.append("the beginning is being read")
        if not found.series:
            notes.append("no run has measured it yet")
        self._chart.show(
            [replace(one, label=named.get(one.key, one.label)) for one in found.series],
            references=found.references,
            title=" · ".join([metric_title(self._metric), *notes]),
            x_label=found.x_label,
            x_max=found.x_max,
        )

    def step(self, by: int, board: Board) -> None:
        """Go on to another metric that any of the runs has; it is not drawn yet."""
        names = metrics(history for run_id in self._ids if (history := board.histories.get(run_id)))
        self._metric = neighbour(self._metric, names, by)
