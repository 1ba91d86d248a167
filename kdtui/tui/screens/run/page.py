"""What the pages of a run have in common."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, cast

from textual.widget import Widget

from kdtui.store.history import History
from kdtui.store.run import Run
from kdtui.store.state import RunSummary
from kdtui.tui.cockpit import Cockpit
from kdtui.tui.screens.run.files import RunFiles
from kdtui.tui.screens.run.partner import Partner
from kdtui.tui.values import TextLine
from kdtui.tui.watch import WatchSource


@dataclass(frozen=True)
class RunView:
    """What the pages of a run display.

    Attributes:
        run: Its folder.
        row: Its summary.
        history: None until it was read.
        files: None until they were read.
        failure: Lines of the error or warnings of the run.
        partial: Whether the beginning of the history is still being read.
        dark: Whether the theme is dark.
        other: The run to compare with; None if there is none.
        searched: Whether the search for it has ended.
    """

    run: Run
    row: RunSummary
    history: History | None
    files: RunFiles | None
    failure: tuple[TextLine, ...]
    partial: bool
    dark: bool
    other: Partner | None
    searched: bool


class RunPage(Widget):
    """A page of the screen of one run; :data:`kdtui.tui.keys.PAGES` lists them.

    Attributes:
        HINT: Keys of the page, for the status line.
        ACTIONS: Names of actions of the key table that work while the page is displayed: methods ``action_NAME``.
        HAS_FAILURE: Whether it displays ``RunView.failure`` itself, so that the screen does not.
    """

    HINT: ClassVar[str] = ""
    ACTIONS: ClassVar[tuple[str, ...]] = ()
    HAS_FAILURE: ClassVar[bool] = False

    @property
    def cockpit(self) -> Cockpit:
        """The app, through its interface for screens."""
        return cast(Cockpit, self.app)

    def show(self, view: RunView) -> None:
        """Display the run; called when something changed while the page is displayed."""
        raise NotImplementedError

    def selected(self) -> None:
        """Called when the page was selected or its screen was resumed."""

    def fit(self, *, wide: bool, main: bool) -> None:
        """Adapt to a terminal that is wide or not; ``main`` is false next to another page."""

    def beside(self, *, wide: bool, tall: bool) -> tuple[str, ...]:
        """Names of pages that are displayed with this one."""
        return ()

    def focus_target(self) -> Widget | None:
        """What gets the focus, to be scrolled with keys."""
        return None

    def source(self, run: Run) -> WatchSource | None:
        """A source of the watch that is read while the page is displayed."""
        return None
