"""The command palette: every action of the screen in front, and every run by name."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any, cast

from textual.command import DiscoveryHit, Hit, Hits, Provider
from textual.content import Content
from textual.fuzzy import Matcher
from textual.markup import escape

from kdtui.text import clean
from kdtui.tui.cockpit import Cockpit
from kdtui.tui.keys import Key, keys_of

_RUNS = 300
"""Runs that a search offers at most; a filter finds the others."""
_NAMED = 1000.0
"""Score of an action that was named; letters that fit somewhere score some tens."""
_PIECE = 500
"""Names that are compared in one go."""


class Everything(Provider):
    """Actions with their key and their command line, and runs."""

    def _keys(self) -> list[Key]:
        scopes = getattr(self.screen, "SCOPES", ())
        return [key for key in keys_of(*scopes, "app") if key.palette]

    def _do(self, key: Key) -> Callable[[], Any]:
        target = self.app if key.scope == "app" else self.screen
        return partial(target.run_action, key.action)

    async def discover(self) -> Hits:
        """What is offered before anything was typed."""
        for key in self._keys():
            yield DiscoveryHit(Content(key.help), self._do(key), text=key.help, help=_twin(key))

    async def search(self, query: str) -> Hits:
        """What fits what was typed."""
        matcher = self.matcher(query)
        for key in self._keys():
            score = _named(key, query) or matcher.match(key.help)
            if score > 0:
                yield Hit(score, _highlighted(matcher, key.help), self._do(key), text=key.help, help=_twin(key))
        app = cast(Cockpit, self.app)
        offered = 0
        for index, run_id in enumerate(app.board.order):
            if index % _PIECE == _PIECE - 1:
                await asyncio.sleep(0)  # 10 000 names take a tenth of a second: keys come in between
            name = f"open {clean(run_id)}"
            score = matcher.match(name)
            if score > 0:
                yield Hit(score, _highlighted(matcher, name), partial(app.open_run, run_id), text=name)
                offered += 1
            if offered >= _RUNS:
                break


def _named(key: Key, query: str) -> float:
    """How well a query names the action, above every score of letters that fit somewhere; 0 where it does not.

    An action is named by its label, its other words and the words of its command: `kill` finds ``kdtui stop --kill``.
    """
    words = f"{key.label} {key.words} {key.command.replace('-', ' ')}".lower().split()
    typed = query.replace("-", " ").lower().split()
    if not typed or not all(any(word.startswith(part) for word in words) for part in typed):
        return 0.0
    whole = sum(part in words for part in typed) / len(typed)
    return _NAMED * (1 + whole) - words.index(next(word for word in words if word.startswith(typed[0])))


def _highlighted(matcher: Matcher, text: str) -> Content:
    """The letters that fit stand out. The matcher's own way reads the text as markup, and it is foreign."""
    content = Content(text)
    for offset in matcher.fuzzy_search.match(matcher.query, text)[1]:
        if not text[offset].isspace():
            content = content.stylize(matcher.match_style, offset, offset + 1)
    return content


def _twin(key: Key) -> str:
    return escape(f"{key.shown}   {key.command}" if key.command else key.shown)
