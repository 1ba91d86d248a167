"""Read the end of ``events.jsonl``: enough for a summary without reading a long file completely."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kdtui.errors import StoreError
from kdtui.events import Event, Exited, Failed, Finished, Measured, Queued, Started, Stopped, Warned, decode
from kdtui.store.event_log import LONGEST
from kdtui.store.files import open_file

TAIL = 64 * 1024
HEAD = 64 * 1024  # enough for `started` of the first attempt, and for most warnings up to the end of the first epoch
_MEASURED = b'{"v":1,"kind":"measured"'
_VAL = b'"split":"val"'


@dataclass
class Scan:
    """The newest events of each kind.

    Attributes:
        attempt: Of the newest ``queued``, ``started`` or ``exited``; None if the scanned part has none of them.
        started: Newest ``started`` of any attempt; ``has_started`` is whether the newest attempt wrote one.
        word: The final event of the newest attempt.
        best: Scalars of the validation of the best epoch; empty if it is not found.
        seconds_per_step: Average over the scanned measurements.
        warnings: Of all attempts, oldest first: those in the head and in the tail of the file.
    """

    last_event: float | None = None
    attempt: int | None = None
    has_started: bool = False
    started: Started | None = None
    word: Finished | Stopped | Failed | None = None
    exited: Exited | None = None
    train: Measured | None = None
    val: Measured | None = None
    best: Mapping[str, Any] = field(default_factory=dict)
    seconds_per_step: float | None = None
    warnings: list[Warned] = field(default_factory=list)


def scan(path: Path) -> Scan:
    """Read the end of ``path``, and also its first lines if the file is longer.

    Raises:
        StoreError: The file cannot be read; a missing file is an empty scan.
    """
    try:
        descriptor = open_file(path)
    except FileNotFoundError:
        return Scan()
    except OSError as error:
        raise _unreadable(path, error) from error
    try:
        size = os.fstat(descriptor).st_size
        lines = _backwards(descriptor, size)
        found = _newest(next(lines, []))
        if size > TAIL:
            head = os.pread(descriptor, HEAD, 0)
            found.started = found.started or _first_started(head)
            found.warnings = [*_warnings(head), *found.warnings]
        found.warnings = list({(event.code, event.message): event for event in found.warnings}.values())
        if found.val is not None and not found.best:
            found.best = _best_before(found.val, lines)
        return found
    except OSError as error:
        raise _unreadable(path, error) from error
    finally:
        os.close(descriptor)


def _unreadable(path: Path, error: OSError) -> StoreError:
    return StoreError("events.jsonl cannot be read", where=path, found=error.strerror)


def _backwards(descriptor: int, size: int) -> Iterator[list[bytes]]:
    """Complete lines of each 64 KiB of the file, from its end; within a piece oldest first."""
    end, rest, newest = size, b"", True
    while end > 0:
        begin = max(0, end - TAIL)
        first, *lines = (os.pread(descriptor, end - begin, begin) + rest).split(b"\n")
        if newest and lines:
            lines.pop()  # empty, or an incomplete line
        elif newest:
            first = b""
        if begin == 0:
            lines.insert(0, first)
        # Part of an overlong line is not an event.
        end, rest, newest = begin, (first if len(first) <= LONGEST else b"?") + b"\n", False
        yield lines


def _newest(lines: list[bytes]) -> Scan:
    found = Scan()
    within = True  # within the newest attempt, which begins with its `queued`
    horizon: int | None = None  # points of earlier attempts after the resumed step are void
    first: bytes | None = None
    last: Measured | None = None
    for line in reversed(lines):
        measured = line.startswith(_MEASURED)
        if measured and within:
            first = line
        if measured and found.train is not None and (found.val is not None or _VAL not in line):
            continue
        event = decode(line) if line else None
        if event is None:
            continue
        if found.last_event is None:
            found.last_event = event.time
        if isinstance(event, Measured):
            if within:
                found.has_started = True
                last = last or event
            if horizon is None or event.step <= horizon:
                _take(found, event)
        elif isinstance(event, Warned):
            found.warnings.insert(0, event)
            found.has_started = found.has_started or within
        elif isinstance(event, Queued | Started | Exited):
            if found.attempt is None:
                found.attempt = event.attempt
            elif event.attempt != found.attempt:
                within = False
            if isinstance(event, Started) and found.started is None:
                found.started, horizon = event, event.resumed_step
                found.has_started = within
            elif isinstance(event, Exited) and within and found.exited is None:
                found.exited = event
            elif isinstance(event, Queued):
                within = False
        elif within:
            _speak(found, event)
    if found.word is not None and found.exited is not None:
        found.last_event = found.word.time  # the end of the training; its processes exit some time later
    earliest = decode(first) if first is not None else None
    if isinstance(earliest, Measured) and last is not None and last.step > earliest.step:
        found.seconds_per_step = (last.time - earliest.time) / (last.step - earliest.step)
    if found.val is not None:
        found.best = _best_among(found.val, lines)
    return found


def _take(found: Scan, event: Measured) -> None:
    if event.split == "val":
        found.val = found.val or event
    else:
        found.train = found.train or event


def _speak(found: Scan, event: Event) -> None:
    if isinstance(event, Finished | Stopped | Failed):
        found.word = found.word or event
    else:
        found.has_started = True  # rank 0 wrote a saved, visualized or noted event


def _best_among(newest: Measured, lines: list[bytes]) -> Mapping[str, Any]:
    best = newest.scalars.get("best_miou")
    if best is None:
        return {}
    if newest.scalars.get("miou") == best:
        return newest.scalars
    for line in reversed(lines):
        if _VAL in line:
            event = decode(line)
            if isinstance(event, Measured) and event.step <= newest.step and event.scalars.get("miou") == best:
                return event.scalars
    return {}


def _best_before(newest: Measured, pieces: Iterator[list[bytes]]) -> Mapping[str, Any]:
    """Scalars of the best epoch, whose line may be before the tail of the file."""
    if newest.scalars.get("best_miou") is None:
        return {}
    for lines in pieces:
        if found := _best_among(newest, lines):
            return found
    return {}


def _warnings(head: bytes) -> list[Warned]:
    lines = (line for line in head.split(b"\n") if b'"warning"' in line)
    return [event for line in lines if isinstance(event := decode(line), Warned)]


def _first_started(head: bytes) -> Started | None:
    for line in head.split(b"\n"):
        if b'"started"' in line and isinstance(event := decode(line), Started):
            return event
    return None
