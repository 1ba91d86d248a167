"""Handlers of messages are found by their names, so a renamed widget must rename its handlers."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Iterator

import textual.widgets
from textual.message import Message

import kdtui.tui


def messages(base: type[Message] = Message) -> Iterator[type[Message]]:
    for each in base.__subclasses__():
        yield each
        yield from messages(each)


def test_every_handler_has_a_message() -> None:
    modules = [importlib.import_module(m.name) for m in pkgutil.walk_packages(kdtui.tui.__path__, "kdtui.tui.")]
    for name in dir(textual.widgets):
        getattr(textual.widgets, name)  # they are imported on first use
    names = {message.handler_name for message in messages()}
    handlers = [
        (kind.__qualname__, name)
        for module in modules
        for kind in vars(module).values()
        if inspect.isclass(kind) and kind.__module__ == module.__name__
        for name in vars(kind)
        if name.startswith("on_")
    ]
    assert len(handlers) > 50
    assert [handler for handler in handlers if handler[1] not in names] == []
