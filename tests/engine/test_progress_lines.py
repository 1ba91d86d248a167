"""The lines in which a verb reports what it does, for the process that started it."""

from __future__ import annotations

import os
import signal

import pytest

from kdtui.engine.__main__ import _cancellable
from kdtui.errors import Interrupted


def test_a_command_exits_when_its_reader_was_killed() -> None:
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    stderr = os.dup(2)
    reading, writing = os.pipe()
    try:
        tell = _cancellable()
        os.dup2(writing, 2)
        os.close(writing)
        tell("words", 0, 0)
        assert os.read(reading, 100) == b'{"progress": {"words": "words", "done": 0, "total": 0}}\n'
        os.close(reading)
        with pytest.raises(Interrupted):
            tell("words", 0, 0)
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        for number, handler in handlers.items():
            signal.signal(number, handler)
