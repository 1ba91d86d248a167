"""The page of numbers: losses, speed, scores, compression, IoU per class, remarks, attempts."""

from __future__ import annotations

from dataclasses import replace

from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.widget import Widget

from kdtui.store.state import RunSummary
from kdtui.tui.screens.run.files import RunFiles
from kdtui.tui.screens.run.page import RunPage, RunView
from kdtui.tui.values import TextLine
from kdtui.tui.views import compression, panels
from kdtui.tui.views.compression import NetworkSize
from kdtui.tui.widgets.bars import Bar, Bars
from kdtui.tui.widgets.panel import Panel


class Numbers(VerticalScroll, RunPage):
    """Two columns of panels; with class ``-narrow`` a single one."""

    HINT = "↑↓ scroll   t tags and note"
    HAS_FAILURE = True
    DEFAULT_CSS = """
    Numbers { scrollbar-size-vertical: 1; }
    Numbers .columns { height: auto; }
    Numbers .column { height: auto; width: 1fr; }
    Numbers Panel, Numbers Bars { margin-bottom: 1; }
    Numbers.-narrow #wrong { display: none; }
    Numbers.-narrow .columns { layout: vertical; }
    """

    def __init__(self) -> None:
        super().__init__(id="numbers")
        self._shown: RunView | None = None

    def compose(self) -> ComposeResult:
        """Compose the panels, those that add to the curves first."""
        yield Panel(wraps=True, id="wrong")
        with Horizontal(classes="columns"):
            with Vertical(classes="column"):
                yield Panel("Validation", id="score-numbers")
                yield Panel("Compression", id="compression")
                yield Panel(wraps=True, id="measured-how")
                yield Bars("IoU per class", mark="│ teacher", id="classes")
                yield Panel("Remarks", id="remarks", wraps=True)
            with Vertical(classes="column"):
                yield Panel("Losses", id="loss-numbers")
                yield Panel("Schedule", id="rates")
                yield Panel("Speed", id="speed")
                yield Panel("Attempts", id="attempts", wraps=True)
                yield Panel("Checkpoints", id="checkpoint-sizes")

    def fit(self, *, wide: bool, main: bool) -> None:
        """Use a single column next to the curves."""
        self.set_class(not main, "-narrow")

    def focus_target(self) -> Widget:
        """Focus the page, to scroll it."""
        return self

    def show(self, view: RunView) -> None:
        """Display the error above the panels, hidden without one, and the numbers."""
        self._shown = view
        row, history, files = view.row, view.history, view.files
        self.query_one("#wrong", Panel).show(view.failure)
        lines = {
            "loss-numbers": panels.losses(history),
            "rates": panels.rates(row, history),
            "speed": panels.speed(row, history),
            "attempts": panels.attempts(row, history),
            "score-numbers": panels.scores(row, history),
            "compression": _compression(row, files, self._room),
            "measured-how": compression.remarks(None if files is None else files.measured),
            "remarks": [*panels.remarks(row, history), *_lineage(files)],
            "checkpoint-sizes": [] if files is None else panels.checkpoints(files.checkpoints, files.disk_bytes),
        }
        for name, text in lines.items():
            self.query_one(f"#{name}", Panel).show(text)
        classes = panels.class_bars(row, history)
        colours = panels.bar_colours(len(classes), history)
        self.query_one(Bars).show(
            [Bar(*values, colour=colour) for values, colour in zip(classes, colours, strict=True)]
        )

    @property
    def _room(self) -> int:
        """Width of a panel's text in terminal columns."""
        room = self.scrollable_content_region.width
        return (room if self.has_class("-narrow") else room // 2) - 2

    def on_resize(self) -> None:
        """Update the panels for the new width."""
        if self._shown is not None:
            self.show(self._shown)


def _lineage(files: RunFiles | None) -> list[TextLine]:
    return [] if files is None else [(("lineage  ", "muted"), (line, "")) for line in files.lineage]


def _compression(row: RunSummary, files: RunFiles | None, room: int) -> list[TextLine]:
    """The compression panel: parameters from the summary, everything else from the files, which are read later."""
    student = replace(files.student if files is not None else NetworkSize(), parameters=row.parameters)
    known = files.teacher if files is not None and files.teacher is not None else NetworkSize()
    return compression.compression(
        student,
        replace(known, parameters=row.teacher_parameters) if row.distilled else None,
        comparable=files is not None and files.comparable,
        measured=None if files is None else files.measured,
        room=room,
    )
