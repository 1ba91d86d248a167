"""A real process in a pseudo terminal, read as a person reads it."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import termios
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Self

import pyte

from tests.waiting import PATIENCE, Deadline, slowness

KEYS = {
    "enter": "\r",
    "esc": "\x1b",
    "tab": "\t",
    "shift+tab": "\x1b[Z",
    "up": "\x1b[A",
    "down": "\x1b[B",
    "right": "\x1b[C",
    "left": "\x1b[D",
    "home": "\x1b[H",
    "end": "\x1b[F",
    "space": " ",
    "delete": "\x1b[3~",
    "backspace": "\x7f",
    "ctrl+down": "\x1b[1;5B",
    "ctrl+r": "\x12",
    "ctrl+z": "\x1a",
}
# Queries and modes of newer terminals that the emulator does not know: it would print parts of them.
_UNKNOWN = re.compile(rb"\x1b\[[<>=][0-9;]*[a-zA-Z]|\x1b\[\?[0-9;]*\$p|\x1bP[^\x1b]*\x1b\\|\x1b\[\?[0-9;]*u")


class Terminal:
    """A process and the screen it draws.

    Args:
        argv: The program.
        environment: Laid over this process's own.
        columns: Width.
        rows: Height.
    """

    def __init__(
        self, argv: Sequence[str], environment: Mapping[str, str] | None = None, columns: int = 80, rows: int = 24
    ) -> None:
        self._screen = pyte.Screen(columns, rows)
        self._stream = pyte.ByteStream(self._screen)
        self.code: int | None = None
        own = {
            key: value
            for key, value in os.environ.items()
            if key not in ("TMUX", "NO_COLOR", "SSH_CONNECTION", "COLUMNS", "LINES")
        }
        self.pid, self._descriptor = pty.fork()
        if self.pid == 0:
            os.execvpe(argv[0], list(argv), {**own, "TERM": "xterm-256color", **(environment or {})})
        self.resize(columns, rows)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.code is None:
            self.kill()
        os.close(self._descriptor)

    def resize(self, columns: int, rows: int) -> None:
        """Another size, as when a window is dragged."""
        fcntl.ioctl(self._descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self._screen.resize(rows, columns)

    @property
    def lines(self) -> list[str]:
        """The screen, as text."""
        return [line.rstrip() for line in self._screen.display]

    @property
    def text(self) -> str:
        """The screen, as one text."""
        return "\n".join(self.lines)

    def wipe(self) -> None:
        """Forget what was drawn, as when something else has had the terminal."""
        self._screen.reset()

    def read(self, seconds: float) -> bool:
        """Take in what it writes next; False when nothing came, or it ended."""
        if not select.select([self._descriptor], [], [], seconds)[0]:
            return False
        try:
            piece = os.read(self._descriptor, 65536)
        except OSError:  # the other end is closed
            piece = b""
        if not piece:
            self._wait()
            return False
        self._stream.feed(_UNKNOWN.sub(b"", piece))
        return True

    def wait_for(self, what: str | Callable[[str], object], seconds: float = PATIENCE) -> str:
        """Read until the screen shows a text, or is as asked; the screen then.

        Raises:
            AssertionError: It never was; the screen is told.
        """
        shows: Callable[[str], object] = (lambda screen: what in screen) if isinstance(what, str) else what
        deadline = Deadline(seconds)
        while not shows(self.text):
            assert not deadline.passed, f"never seen: {what}\n{self.text}"
            if not self.read(0.2) and self.code is not None:
                raise AssertionError(f"ended with {self.code} before: {what}\n{self.text}")
        return self.text

    def settle(self, seconds: float = 0.3) -> str:
        """Read until it writes nothing for a while, longer on a busy machine; the screen then."""
        for _ in range(100):
            if not self.read(seconds * slowness()):
                break
        return self.text

    def press(self, *keys: str) -> None:
        """Press keys, named as in :data:`KEYS` or typed as they are."""
        for key in keys:
            os.write(self._descriptor, KEYS.get(key, key).encode())
            # As a person: the next key comes when the last one was seen. An escape that another key follows within
            # a tenth of a second is read as alt and that key.
            self.settle(0.3 if key == "esc" else 0.1)

    def hurry(self, *keys: str) -> None:
        """Press keys that arrive all at once, as behind a slow connection."""
        os.write(self._descriptor, "".join(KEYS.get(key, key) for key in keys).encode())
        self.settle()

    def kill(self) -> None:
        """SIGKILL: what a lost connection or an out-of-memory killer does to it."""
        os.kill(self.pid, signal.SIGKILL)
        self._wait()

    def back_out(self) -> int:
        """Leave whatever is open, then the program, key by key as somebody does who waits and looks; its exit code."""
        deadline = Deadline()
        while self.code is None:
            assert not deadline.passed, f"cannot be left\n{self.text}"
            self.settle(0.5)
            for key in ("esc", "q"):
                if self.code is None:
                    self.press(key)
        return self.code

    def wait_end(self) -> int:
        """Its exit code, once it ended by itself."""
        deadline = Deadline()
        while self.code is None:
            assert not deadline.passed, f"does not end\n{self.text}"
            self.read(0.1)
        return self.code

    def _wait(self) -> None:
        if self.code is None:
            self.code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
