"""An engine process that imports its libraries once: for the check of a profile, and then for the training of its run.

Importing torch and the libraries on top of it takes longer than the check. So the process imports them, checks, and
waits. Once the run exists and has its device slot, it receives an order and trains, with what the check has left to it,
such as the teacher. The result is that of a process that was started for the training alone. Without an order, or after
a check that failed, it exits.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

_PIECE = 1 << 16
_MOST_DESCRIPTORS = 64


def send(channel: socket.socket, message: dict[str, Any], descriptors: Sequence[int] = ()) -> None:
    """Send the only message of this side.

    Args:
        channel: A Unix socket.
        message: JSON values.
        descriptors: File descriptors that the other side gets copies of.

    Raises:
        OSError: The other side has closed it.
    """
    text = json.dumps(message).encode()
    sent = socket.send_fds(channel, [text], list(descriptors))
    channel.sendall(text[sent:])
    channel.shutdown(socket.SHUT_WR)


def receive(channel: socket.socket) -> tuple[dict[str, Any], list[int]] | None:
    """Wait for the message and its descriptors; None if the other side exited without sending one."""
    try:
        text, descriptors, _, _ = socket.recv_fds(channel, _PIECE, _MOST_DESCRIPTORS)
        while piece := channel.recv(_PIECE):
            text += piece
        message = json.loads(text)
    except (OSError, ValueError):  # nothing, or a part of it
        return None
    return message, descriptors


def stand_by(control: int, done: int, check: Callable[[], int], train: Callable[[str], int]) -> NoReturn:
    """Check, report the exit code, and train if that is ordered.

    Args:
        control: Descriptor of a socket for the order: ``run``, ``environment``, and the descriptors of the log and of
            the locks that a rank holds.
        done: Descriptor of a pipe, to which the exit code of the check is written.
        check: Prints its result and returns the exit code.
        train: Trains the run of a folder and returns the exit code.
    """
    code = _code_of(check)
    _flush()
    os.write(done, str(code).encode())
    os.close(done)
    if code:  # an unexpected error may have left anything behind
        _leave(code)
    with socket.socket(fileno=control) as channel:
        order = receive(channel)
    if order is None:
        _leave(0)
    message, (log, *_locks) = order
    for stream in (sys.stdout.fileno(), sys.stderr.fileno()):
        os.dup2(log, stream)
    os.close(log)
    os.environ.update(message["environment"])
    _leave(train(message["run"]))


def _code_of(check: Callable[[], int]) -> int:
    """The exit code of a process that does nothing else."""
    try:
        return check()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except Exception:
        traceback.print_exc()
        return 1


def _leave(code: int) -> NoReturn:
    """Exit at once: the end of an interpreter that has imported torch takes a while."""
    _flush()
    os._exit(code)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):
            stream.flush()
