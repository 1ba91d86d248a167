"""The keys of a comparison's pages: which one is in front, and what the keys of a chart do there."""

from __future__ import annotations

import shlex

from textual.widget import Widget

from kdtui.tui.screens.charting import ChartKeys
from kdtui.tui.screens.compare.room import Room
from kdtui.tui.widgets.table import Table


class Paging(ChartKeys):
    """A screen with pages below a table.

    Attributes:
        table: The runs.
        room: The pages.
    """

    table: Table
    room: Room

    @property
    def twin(self) -> str:
        """The command line that shows the comparison."""
        raise NotImplementedError

    @property
    def words(self) -> list[str]:
        """The command line that compares the runs, as words."""
        raise NotImplementedError

    @property
    def page_twin(self) -> str:
        """The command line that shows the page in front."""
        if self.room.page != "pareto":
            return self.twin
        return shlex.join([*self.words, "--pareto", self.room.pareto.cost])

    def action_page(self, name: str) -> None:
        """Another page; what had the focus on the former one gives it back."""
        self.room.turn(name)
        self.call_after_refresh(self._keep_focus)
        self.cockpit.say("")

    def action_pareto(self) -> None:
        """The page of costs; there: the other cost."""
        if self.room.page == "pareto":
            self.room.switch_cost()
            self.cockpit.say("")
        else:
            self.action_page("pareto")

    def action_toggle_log(self) -> None:
        """Of the chart that is in front."""
        if self.room.page == "pareto":
            self.room.pareto.toggle_log()
        else:
            super().action_toggle_log()

    def _keep_focus(self) -> None:
        focused = self.focused
        if focused is None or not all(node.display for node in focused.ancestors_with_self if isinstance(node, Widget)):
            self.table.focus()
