"""The page of the profile: the differences from another run, and the whole profile."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.events import Resize
from textual.message import Message
from textual.widget import Widget

from kdtui.compare import settings
from kdtui.compare.render import value_text
from kdtui.tui.screens.run.page import RunPage, RunView
from kdtui.tui.screens.run.partner import Partner
from kdtui.tui.values import TextLine
from kdtui.tui.widgets.panel import Panel

_LABELS = ("name", "tags", "description")
_SECTION = re.compile(r"\[([\w.-]+)\]\s*")
_KEY = re.compile(r"([\w-]+)\s*=")
_NARROWEST = 14


def differing(own: Mapping[str, Any], other: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """Key and both values of differing settings, None where one is missing; name, tags and description are ignored."""
    mine, theirs = settings(own, without=_LABELS), settings(other, without=_LABELS)
    keys = dict.fromkeys([*mine, *theirs])
    return [(key, mine.get(key), theirs.get(key)) for key in keys if _text(mine.get(key)) != _text(theirs.get(key))]


def _text(value: Any) -> str:
    """A text that is equal only for equal values: ``False == 0`` in Python."""
    return json.dumps(value, sort_keys=True, default=str)


def difference_lines(own: Mapping[str, Any], other: Partner | None, searched: bool, room: int) -> list[TextLine]:
    """The differing settings in three columns.

    Args:
        own: The profile of this run as tables.
        other: The run to compare with; None if there is none.
        searched: Whether the search for it has ended.
        room: Available terminal columns.
    """
    if other is None:
        text = "no matched baseline in this store" if searched else "searching …"
        return [((text, "muted"),), (("press o to choose a run to compare with", ""),)]
    head: list[TextLine] = [((f"{other.run_id}", "strong"), (f"  {other.why}   o chooses another", "muted"))]
    if other.trouble:
        return [*head, ((other.trouble, "bad"),)]
    if not own:
        return head
    rows = [(key, value_text(mine), value_text(theirs)) for key, mine, theirs in differing(own, other.profile)]
    if not rows:
        return [*head, (("only names, tags and descriptions", "good"),)]
    first = min(max(len(key) for key, _, _ in rows), max(_NARROWEST, room // 2 - 4))
    column = max(_NARROWEST, (room - first - 2) // 2)
    lines: list[TextLine] = [*head, ((f"{'':{first}} {'this run':{column}} {'the other':{column}}", "muted"),)]
    for key, mine, theirs in rows:
        label = (f"{_end(key, first):{first}} ", "muted")
        lines.append((label, (f"{_end(mine, column):{column}} ", "strong"), (_end(theirs, column), "")))
    return lines


def _end(text: str, room: int) -> str:
    """``text`` cut at the start: the end of a path is more informative."""
    return text if len(text) <= room else "…" + text[len(text) - room + 1 :]


def profile_lines(text: str, marked: Iterable[str]) -> list[TextLine]:
    """The source of ``profile.toml``, with the lines of marked keys highlighted."""
    marked_keys = frozenset(marked)
    section = ""
    lines: list[TextLine] = []
    for line in text.splitlines():
        if heading := _SECTION.fullmatch(line):
            section = f"{heading[1]}."
            lines.append(((line, "strong"),))
            continue
        key = _KEY.match(line)
        differs = key is not None and section + key[1] in marked_keys
        lines.append((("» " if differs else "  ", "warn"), (line, "warn" if differs else "")))
    return lines


class Settings(VerticalScroll, RunPage):
    """Displays the profile, with the differences above it or, with class ``-beside``, next to it."""

    HINT = "o choose the run to compare with   c compare with it   N a new run like this one"
    DEFAULT_CSS = """
    Settings { scrollbar-size-vertical: 1; }
    Settings .columns { height: auto; layout: vertical; }
    Settings .column { height: auto; width: 1fr; }
    Settings #differences { margin-bottom: 1; }
    Settings.-beside .columns { layout: horizontal; }
    """

    class PartnerRequested(Message):
        """Posted to request the run to compare with."""

    def __init__(self) -> None:
        super().__init__(id="settings")
        self._view: RunView | None = None

    def compose(self) -> ComposeResult:
        """Compose differences and profile."""
        with Horizontal(classes="columns"):
            with Vertical(classes="column", id="left"):
                yield Panel("Differs from", wraps=True, id="differences")
            with Vertical(classes="column"):
                yield Panel("profile.toml", id="profile")

    def selected(self) -> None:
        """Request the run to compare with."""
        self.post_message(self.PartnerRequested())

    def fit(self, *, wide: bool, main: bool) -> None:
        """Display profile and differences next to each other if there is room."""
        self.set_class(wide, "-beside")

    def focus_target(self) -> Widget:
        """Focus the page, to scroll it."""
        return self

    def show(self, view: RunView) -> None:
        """Display profile and differences."""
        self._view = view
        files, other = view.files, view.other
        own = files.profile if files is not None else {}
        room = self.query_one("#left").content_size.width - 2
        if room > 0:
            self.query_one("#differences", Panel).show(difference_lines(own, other, view.searched, room))
        if files is None:
            return
        keys = [key for key, _, _ in differing(own, other.profile)] if other is not None and other.profile else []
        text = profile_lines(files.text, keys)
        self.query_one("#profile", Panel).show([((files.trouble, "bad"),)] if files.trouble else text)

    def on_resize(self, event: Resize) -> None:
        """Lay out the columns for the new width."""
        self.call_after_refresh(lambda: self.show(self._view) if self._view is not None else None)
