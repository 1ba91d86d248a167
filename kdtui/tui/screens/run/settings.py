"""The page of the profile: the differences from another run, and the whole profile."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.events import Resize

from kdtui.compare import Entry, matched, settings
from kdtui.compare.render import value_text
from kdtui.errors import AmbiguousRun, RunNotFound, StoreError, UsageError
from kdtui.store.run import Run
from kdtui.store.state import RunSummary
from kdtui.tui.screens.run.files import RunFiles
from kdtui.tui.views.panels import TextLine
from kdtui.tui.widgets.panel import Panel

MOST_READ = 400
"""Most profiles read to find a run to compare with, the likeliest first; each takes 1 ms."""
_LABELS = ("name", "tags", "description")
_SECTION = re.compile(r"\[([\w.-]+)\]\s*")
_KEY = re.compile(r"([\w-]+)\s*=")
_NARROWEST = 14


@dataclass(frozen=True)
class Other:
    """The run to compare with.

    Attributes:
        why: Why this run was selected.
        trouble: Why its profile cannot be used; empty if it can.
    """

    run_id: str
    why: str
    profile: Mapping[str, Any] = field(default_factory=dict)
    trouble: str = ""


def beside(run: Run, why: str) -> Other:
    """Read the profile of the run to compare with."""
    try:
        return Other(run.id, why, run.profile_table())
    except StoreError as error:
        return Other(run.id, why, trouble=f"{error.what}: {error.found}")


def partner(
    own: RunSummary, profile: Mapping[str, Any], rows: Iterable[RunSummary], over: Callable[[], bool]
) -> Other | None:
    """The matched baseline of a distilled run, or for a run without a teacher a distilled run that it matches.

    Args:
        own: The run.
        profile: Its profile as tables.
        rows: Runs of the store.
        over: Returns whether the search was cancelled.
    """
    mine = Entry(own, profile)
    alike = [
        row
        for row in rows
        if row.id != own.id
        and row.distilled != own.distilled
        and (row.encoder, row.architecture, row.seed) == (own.encoder, own.architecture, own.seed)
    ]
    alike.sort(key=lambda row: (row.best_miou is not None, row.created or 0.0, row.id), reverse=True)
    for row in alike[:MOST_READ]:
        if over():
            return None
        try:
            table = Run(row.path).profile_table()
        except StoreError:  # skip a damaged folder
            continue
        theirs = Entry(row, table)
        if own.distilled and matched(mine, [theirs]):
            return Other(row.id, "its matched baseline", table)
        if not own.distilled and matched(theirs, [mine]):
            return Other(row.id, "distilled, otherwise the same", table)
    return None


def find(text: str, own: str, rows: Mapping[str, RunSummary], order: Sequence[str]) -> str:
    """Find a run by its id, its name, or a prefix of its id.

    Args:
        text: The typed text.
        own: Id of the current run.
        rows: All runs by id.
        order: Ids, newest first.

    Raises:
        UsageError: No other run or several runs match.
    """
    wanted = text.strip()
    found = [key for key in order if wanted == key] or [key for key in order if rows[key].name == wanted != ""]
    found = found or [key for key in order if wanted and key.startswith(wanted)]
    others = [key for key in found if key != own]
    if not others:
        if found:
            raise UsageError("a run does not differ from itself", found=wanted)
        raise RunNotFound(f"No run matches '{wanted}'", allowed="an id, a name, or the beginning of an id")
    if len(others) > 1:
        some = ", ".join(others[:3]) + (", …" if len(others) > 3 else "")
        raise AmbiguousRun(f"{len(others)} runs answer to '{wanted}'", found=some)
    return others[0]


def differing(own: Mapping[str, Any], other: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """Key and both values of differing settings, None where one is missing; name, tags and description are ignored."""
    mine, theirs = settings(own, without=_LABELS), settings(other, without=_LABELS)
    keys = dict.fromkeys([*mine, *theirs])
    return [(key, mine.get(key), theirs.get(key)) for key in keys if _text(mine.get(key)) != _text(theirs.get(key))]


def _text(value: Any) -> str:
    """A text that is equal only for equal values: ``False == 0`` in Python."""
    return json.dumps(value, sort_keys=True, default=str)


def difference_lines(own: Mapping[str, Any], other: Other | None, searched: bool, room: int) -> list[TextLine]:
    """The differing settings in three columns.

    Args:
        own: The profile of this run as tables.
        other: The run to compare with; None if there is none.
        searched: Whether the search for it has ended.
        room: Available terminal columns.
    """
    if other is None:
        text = "no matched baseline in this store" if searched else "looking for one …"
        return [((text, "muted"),), (("o chooses a run to differ from", ""),)]
    head: list[TextLine] = [((f"{other.run_id}", "strong"), (f"  {other.why}   o another", "muted"))]
    if other.trouble:
        return [*head, ((other.trouble, "bad"),)]
    if not own:
        return head
    rows = [(key, value_text(mine), value_text(theirs)) for key, mine, theirs in differing(own, other.profile)]
    if not rows:
        return [*head, (("nothing but names, tags and descriptions", "good"),)]
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
    wanted = frozenset(marked)
    section = ""
    lines: list[TextLine] = []
    for line in text.splitlines():
        if heading := _SECTION.fullmatch(line):
            section = f"{heading[1]}."
            lines.append(((line, "strong"),))
            continue
        key = _KEY.match(line)
        differs = key is not None and section + key[1] in wanted
        lines.append((("» " if differs else "  ", "warn"), (line, "warn" if differs else "")))
    return lines


class Settings(VerticalScroll):
    """Displays the profile, with the differences above it or, with class ``-beside``, next to it."""

    DEFAULT_CSS = """
    Settings { scrollbar-size-vertical: 1; }
    Settings .columns { height: auto; layout: vertical; }
    Settings .column { height: auto; width: 1fr; }
    Settings #differences { margin-bottom: 1; }
    Settings.-beside .columns { layout: horizontal; }
    """

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._files: RunFiles | None = None
        self._other: Other | None = None
        self._searched = False

    def compose(self) -> ComposeResult:
        """Compose differences and profile."""
        with Horizontal(classes="columns"):
            with Vertical(classes="column", id="left"):
                yield Panel("Differs from", wraps=True, id="differences")
            with Vertical(classes="column"):
                yield Panel("profile.toml", id="profile")

    def show(self, files: RunFiles | None, other: Other | None, *, searched: bool) -> None:
        """Display profile and differences.

        Args:
            files: Files of this run; None until they were read.
            other: The run to compare with; None if there is none.
            searched: Whether the search for it has ended.
        """
        self._files, self._other, self._searched = files, other, searched
        own = files.profile if files is not None else {}
        room = self.query_one("#left").content_size.width - 2
        if room > 0:
            self.query_one("#differences", Panel).show(difference_lines(own, other, searched, room))
        if files is None:
            return
        keys = [key for key, _, _ in differing(own, other.profile)] if other is not None and other.profile else []
        text = profile_lines(files.text, keys)
        self.query_one("#profile", Panel).show([((files.trouble, "bad"),)] if files.trouble else text)

    def on_resize(self, event: Resize) -> None:
        """Lay out the columns for the new width."""
        self.call_after_refresh(lambda: self.show(self._files, self._other, searched=self._searched))
