"""A verb of the engine that takes its time: it tells how far it is, and can be given up."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kdtui.errors import Interrupted
from kdtui.launch.command import cannot_start, engine_command, engine_environment, read_answer
from kdtui.store.values import parse_json

PATIENCE = 10.0
"""Seconds that a verb has to tidy up once it is given up: a call into a library returns before it is interrupted."""
_LOOK = 0.1
_PIPE = 1 << 20
_KEPT = 1 << 16  # bytes of what it wrote on stderr: enough for a traceback


@dataclass(frozen=True)
class Step:
    """Where a verb is.

    Attributes:
        words: What is done now.
        done: Of ``total``.
        total: 0 where it cannot be counted.
        target: The file that is made, for a verb that makes several.
        report: What became of ``target``, once it is finished.
    """

    words: str
    done: int = 0
    total: int = 0
    target: str = ""
    report: Mapping[str, Any] | None = None


def converse(
    verb: str,
    *arguments: str,
    heard: Callable[[Step], None] = lambda step: None,
    cancelled: Callable[[], bool] = lambda: False,
    environment: Mapping[str, str] | None = None,
    descriptors: Sequence[int] = (),
    started: Callable[[int], None] = lambda pid: None,
) -> dict[str, Any]:
    """Run the door, tell what it says on the way, and return its one JSON object.

    Args:
        verb: What to do.
        arguments: Of the verb.
        heard: Called with each step, in this thread.
        cancelled: Asked ten times a second; once it is true the verb is told to give up.
        environment: Laid over this process's own.
        descriptors: Handed to the process, as locks that must live as long as it does.
        started: Called with the process's id once it has the descriptors.

    Raises:
        Interrupted: It was given up.
        KdtuiError: What the engine reported, as the class it named.
        LaunchError: It could not be started.
    """
    argv = engine_command(verb, *arguments)
    with tempfile.TemporaryFile() as answer:
        try:
            process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=answer,
                stderr=subprocess.PIPE,
                env=engine_environment(environment),
                pass_fds=tuple(descriptors),
                # Ctrl-C reaches the face alone, which then asks.
                process_group=0,
            )
        except OSError as error:
            raise cannot_start(argv, error) from error
        with process:
            _widen(process)
            try:
                started(process.pid)
                told = _listen(process, heard, cancelled)
            finally:
                # A face that was interrupted, or raised while it drew: nobody waits any more.
                if process.poll() is None:
                    _give_up(process)
        if process.returncode < 0 and cancelled():
            raise Interrupted("cancelled")
        answer.seek(0)
        return read_answer(verb, argv, process.returncode, answer.read(), told)


def _widen(process: subprocess.Popen[bytes]) -> None:
    """Give its progress room: an engine whose face is suspended would wait in the middle until somebody reads."""
    assert process.stderr is not None
    with contextlib.suppress(OSError, AttributeError):  # above the user's share of pipes; not Linux
        fcntl.fcntl(process.stderr.fileno(), fcntl.F_SETPIPE_SZ, _PIPE)


def _listen(process: subprocess.Popen[bytes], heard: Callable[[Step], None], cancelled: Callable[[], bool]) -> bytes:
    """Read stderr until it ends; what was no progress is returned, its end at least."""
    assert process.stderr is not None
    stream = process.stderr.fileno()
    line, other = b"", b""
    while True:
        if cancelled():
            _give_up(process)
            return other + line
        if not select.select([stream], [], [], _LOOK)[0]:
            # Someone it started may hold the pipe open for ever.
            if process.poll() is not None:
                return other + line
            continue
        piece = os.read(stream, 1 << 16)
        if not piece:
            process.wait()
            return other + line
        *lines, line = (line + piece).split(b"\n")
        for whole in lines:
            step = read_step(whole)
            if step is not None:
                heard(step)
            else:
                other = (other + whole + b"\n")[-_KEPT:]


def read_step(line: bytes) -> Step | None:
    """The step that a line of stderr tells, or None for any other line."""
    if not line.startswith(b'{"progress"'):
        return None
    try:
        told = parse_json(line)["progress"]
        report = told.get("report")
        return Step(
            str(told["words"]),
            int(told["done"]),
            int(told["total"]),
            str(told.get("target", "")),
            report if isinstance(report, dict) else None,
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def _give_up(process: subprocess.Popen[bytes]) -> None:
    """Ask the verb to stop, and end it and what it started when it does not."""
    process.terminate()
    deadline = time.monotonic() + PATIENCE
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(max(0.0, deadline - time.monotonic()))
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
