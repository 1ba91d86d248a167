"""What a table tells its owner."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.message import Message

if TYPE_CHECKING:
    from kdtui.tui.widgets.table import Table


class TableMessage(Message):
    """Comes from ``table``."""

    def __init__(self, table: Table) -> None:
        self.table = table
        super().__init__()

    @property
    def control(self) -> Table:
        """The table that it came from."""
        return self.table


class Moved(TableMessage, namespace="table"):
    """The cursor stands on another key; None when there is no row left."""

    def __init__(self, table: Table, key: str | None) -> None:
        super().__init__(table)
        self.key = key


class Opened(TableMessage, namespace="table"):
    """A row was chosen: enter, or a double click."""

    def __init__(self, table: Table, key: str) -> None:
        super().__init__(table)
        self.key = key


class Marked(TableMessage, namespace="table"):
    """A row was marked or unmarked by hand; ``keys`` are all that are marked now."""

    def __init__(self, table: Table, keys: frozenset[str]) -> None:
        super().__init__(table)
        self.keys = keys


class HeaderClicked(TableMessage, namespace="table"):
    """A column's title was clicked."""

    def __init__(self, table: Table, column_key: str) -> None:
        super().__init__(table)
        self.column_key = column_key
