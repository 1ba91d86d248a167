"""Waiting in tests: for events, never for times.

Every wait ends at the event that it names. Its deadline matters only for a test that fails; it is counted in seconds of
an idle machine, and stretched by how much slower this one is at the moment.
"""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable
from typing import Any, AnyStr, Protocol, TypeVar

T = TypeVar("T")
Text = TypeVar("Text", str, bytes, covariant=True)

PATIENCE = 60.0
"""Seconds of an idle machine within which anything that a test waits for happens."""
_WORK = 0.02
"""Seconds that :func:`_work` takes on an idle machine of today."""
_AGAIN = 5.0
"""Seconds for which a measured slowness holds."""
_MOST = 60.0


def _work() -> None:
    total = 0
    for number in range(400_000):
        total += number * number


class _Machine:
    """How slow this machine is, measured again every few seconds while it is requested."""

    def __init__(self) -> None:
        self._measured = float("-inf")
        self._slowness = 1.0

    def slowness(self) -> float:
        if time.monotonic() - self._measured > _AGAIN:
            begun = time.perf_counter()
            _work()
            self._slowness = min(_MOST, max(1.0, (time.perf_counter() - begun) / _WORK))
            self._measured = time.monotonic()
        return self._slowness


_machine = _Machine()


def slowness() -> float:
    """How many times longer something takes now than on an idle machine; at least 1."""
    return _machine.slowness()


class Deadline:
    """When an unfinished wait has failed.

    Args:
        seconds: Of an idle machine.
    """

    def __init__(self, seconds: float = PATIENCE) -> None:
        self._begun = time.monotonic()
        self._seconds = seconds
        self._slowest = 1.0

    @property
    def passed(self) -> bool:
        """Whether it has; while the answer is near, the machine is measured again."""
        waited = time.monotonic() - self._begun
        if waited < self._seconds:
            return False
        self._slowest = max(self._slowest, slowness())
        return waited > self._seconds * self._slowest


def eventually(
    condition: Callable[[], Any], what: object = "", *, seconds: float = PATIENCE, pause: float = 0.02
) -> Any:
    """Wait until a condition holds; its value.

    Args:
        condition: Called until it is true.
        what: What should have become so, or what to call for it: the failure's text.
        seconds: See :class:`Deadline`.
        pause: Seconds between two calls.
    """
    deadline = Deadline(seconds)
    while not (value := condition()):
        assert not deadline.passed, f"never: {what() if callable(what) else what}"
        time.sleep(pause)
    return value


class Process(Protocol[Text]):
    """What ``subprocess.Popen`` and its like have."""

    @property
    def args(self) -> Any: ...

    def communicate(self, *, timeout: float | None = None) -> tuple[Text, Text]: ...

    def kill(self) -> None: ...


def finished(process: Process[AnyStr]) -> tuple[AnyStr, AnyStr]:
    """Wait until a process has ended; what it wrote to pipes. One that does not end is killed, and the test fails."""
    deadline = Deadline()
    while True:
        try:
            return process.communicate(timeout=1.0)
        except subprocess.TimeoutExpired:
            if deadline.passed:
                process.kill()
                out, err = process.communicate()
                raise AssertionError(f"{process.args!r} does not end: {out!r} {err!r}") from None


def in_time(call: Callable[[], T]) -> T:
    """What the call answers or raises; where it waits for ever, the test fails instead of waiting with it."""
    answers: list[T] = []
    raised: list[BaseException] = []

    def run() -> None:
        try:
            answers.append(call())
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    deadline = Deadline()
    while thread.is_alive():
        thread.join(1.0)
        assert not (thread.is_alive() and deadline.passed), "it waits"
    if raised:
        raise raised[0]
    return answers[0]
