"""The run that stands beside the one on the screen: found, chosen, compared with; and what is copied."""

from __future__ import annotations

import shlex
from collections.abc import Callable

from kdtui.errors import StoreError
from kdtui.tui.screens.prompt import Prompt
from kdtui.tui.screens.run.differences import Other, beside, find, partner
from kdtui.tui.screens.run_actions import RunActions


class Partners(RunActions):
    """The actions that need another run; the screen says what to do once it is known.

    Attributes:
        other: That run; None while there is none.
        searched: Whether the search for one is over.
    """

    def __init__(self) -> None:
        super().__init__()
        self.other: Other | None = None
        self.searched = False
        self._searching = False

    def partner_changed(self) -> None:
        """There is one, or there is none: show it."""
        raise NotImplementedError

    def search(self, then: Callable[[], None] | None = None) -> None:
        """Look for the run that a person would compare this one with, unless one was chosen; then do ``then``."""
        row, run_id = self.row, self.run_id
        if self.other is not None or row is None or run_id is None:
            if then is not None:
                then()
            return
        if self._searching:
            return
        self._searching = True
        run, rows = self.cockpit.run_of(run_id), list(self.cockpit.board.rows.values())

        def work() -> Other | None:
            try:
                profile = run.profile_table()
            except StoreError:  # the page says so itself
                return None
            return partner(row, profile, rows, lambda: not self.ready)

        def found(other: Other | None) -> None:
            self._searching, self.searched = False, self.cockpit.board.whole
            self._take(self.other or other)
            if then is not None:
                then()

        self.cockpit.do(work, found, group="partner")

    def _take(self, other: Other | None) -> None:
        self.other = other
        if self.ready:
            self.partner_changed()

    def action_other(self) -> None:
        """Ask for the run to stand beside this one."""
        board, own = self.cockpit.board, str(self.run_id)

        def check(text: str) -> str:
            return find(text, own, board.rows, board.order)

        def answered(text: str | None) -> None:
            if text is not None:
                run = self.cockpit.run_of(check(text))
                self.cockpit.do(lambda: beside(run, "chosen"), self._take, group="partner")

        title = "Which run does it differ from?"
        detail = "An id, a name, or the beginning of an id."
        self.app.push_screen(Prompt(title, detail=detail, check=check, command=f"kdtui compare {own} RUN"), answered)

    def action_compare(self) -> None:
        """This run and the other one, side by side."""

        def go() -> None:
            if self.other is None:
                self.cockpit.say("no matched baseline to compare with; o chooses a run", error=True)
            else:
                self.cockpit.compare([str(self.run_id), self.other.run_id])

        self.search(go)

    def action_copy_path(self) -> None:
        """Copy the path of the run's folder."""
        path = str(self.cockpit.run_of(str(self.run_id)).path)
        self.cockpit.copy_text(path, path)

    def action_copy_command(self) -> None:
        """Copy the command line of what was done last, or of following this run."""
        command = self.cockpit.said[1] or f"kdtui watch {shlex.quote(str(self.run_id))}"
        self.cockpit.copy_text(command, command)
