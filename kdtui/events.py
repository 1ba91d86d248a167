"""The events of a run: one JSON object per line of ``events.jsonl``.

Frozen dataclasses without a validation library, as the engine writes them within its training loop. Every line has the
fields ``v, kind, time``; the other fields are typed by kind, and only ``scalars`` is open. Values that are not finite
are written as ``null`` (``NaN`` is not JSON). Unknown kinds and fields are skipped, so that an older reader can follow
a newer writer.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
import time as clock
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

VERSION = 1
STANDARD_SCALARS = frozenset(
    {"miou", "miou_at_input", "dice", "pixel_accuracy", "agreement", "retention", "best_miou", "best_epoch"}
)
"""Names of ``val`` scalars of every run, beside ``iou.CLASS``; others are metrics of its kind of network."""
TIMES = (0.0, 253_402_300_800.0)
"""Range of Unix times of events: up to the end of the year 9999, the last one of dates."""


def now() -> float:
    """Seconds since the epoch; the time of every event."""
    return round(clock.time(), 3)


@dataclass(frozen=True)
class Event:
    """The common fields of all events.

    Attributes:
        kind: Name of the kind in JSON.
        time: Unix time in seconds.
    """

    kind: ClassVar[str] = ""
    time: float = field(default_factory=now, kw_only=True)


@dataclass(frozen=True)
class Queued(Event):
    """The supervisor is running and waits for slots of ``device``."""

    kind: ClassVar[str] = "queued"
    attempt: int
    device: str = ""


@dataclass(frozen=True)
class Started(Event):
    """Rank 0 is about to start training.

    Attributes:
        ranks: ``{"pid", "start_ticks", "boot_id"}`` of every rank.
        workers: Loading processes of each rank; None in events of earlier versions.
        resumed_step: Completed optimizer steps; points after it in earlier attempts are void.
        epochs: Total number of epochs of this attempt.
        student: ``{"parameters", "parameters_used", "macs", "class_colours"}``; ``class_colours`` has ``#rrggbb`` of
            each class in the pictures of this run. ``picture_legend`` says what their colours mean, if not the classes.
        teacher: ``{"parameters", "miou", "iou", "pixel", …}``, or None without a teacher; ``pixel`` is class to
            probability at T = 1 on one pixel.
    """

    kind: ClassVar[str] = "started"
    attempt: int
    ranks: tuple[Mapping[str, Any], ...]
    device: str
    precision: str
    threads: int
    world_size: int
    epochs: int
    steps_per_epoch: int
    resumed_step: int
    student: Mapping[str, Any]
    teacher: Mapping[str, Any] | None = None
    channels_last: bool = False
    workers: int | None = None


@dataclass(frozen=True)
class Measured(Event):
    """Measured values at one step.

    Attributes:
        split: ``train`` or ``val``.
        step: Completed optimizer steps.
        epoch: 1-based.
        images: Training images seen by all ranks, comparable between batch sizes.
        scalars: Named values; None for a value that was not finite.
        epochs: Total number of epochs; in ``val`` events, so that the end of the file is enough for a summary.
    """

    kind: ClassVar[str] = "measured"
    split: str
    step: int
    epoch: int
    images: int
    scalars: Mapping[str, float | None]
    epochs: int | None = None


@dataclass(frozen=True)
class Saved(Event):
    """A checkpoint was written completely; ``path`` is relative to the run folder."""

    kind: ClassVar[str] = "saved"
    step: int
    tag: str
    path: str
    monitor: str | None = None
    value: float | None = None


@dataclass(frozen=True)
class Visualized(Event):
    """Pictures of an epoch were written to ``path`` (relative to the run folder)."""

    kind: ClassVar[str] = "visualized"
    epoch: int
    path: str


@dataclass(frozen=True)
class Noted(Event):
    """A remark without a problem: a jump of the learning rate, a changed library version."""

    kind: ClassVar[str] = "noted"
    message: str


@dataclass(frozen=True)
class Warned(Event):
    """A likely mistake in data, teacher or scores, although nothing failed.

    A run writes each pair of code and message only once.

    Attributes:
        code: Stable name of the check, such as ``class-without-pixels``.
        message: What was measured and why it matters, in one sentence.
        hint: How to fix it.
    """

    kind: ClassVar[str] = "warning"
    code: str
    message: str
    hint: str | None = None

    def to_json(self) -> dict[str, str | None]:
        """Code, message and hint."""
        return {"code": self.code, "message": self.message, "hint": self.hint}


@dataclass(frozen=True)
class Finished(Event):
    """All epochs are complete, or early stopping ended the training."""

    kind: ClassVar[str] = "finished"
    step: int
    epoch: int
    reason: str = "all epochs done"


@dataclass(frozen=True)
class Stopped(Event):
    """The training stopped on request; the state is saved unless nothing was trained."""

    kind: ClassVar[str] = "stopped"
    step: int
    epoch: int
    reason: str = "asked to stop"


@dataclass(frozen=True)
class Failed(Event):
    """The engine failed; the fields are those of a :class:`kdtui.errors.KdtuiError`."""

    kind: ClassVar[str] = "failed"
    error: str
    message: str
    hint: str | None = None


@dataclass(frozen=True)
class Exited(Event):
    """All processes of an attempt have exited; written by the supervisor.

    Attributes:
        code: Exit code of the first rank that failed, or 0; negative for a signal.
        signal: Name of that signal.
        rank: The rank that failed; None if none failed, or none was started.
    """

    kind: ClassVar[str] = "exited"
    attempt: int
    code: int
    signal: str | None = None
    rank: int | None = None


def score_name(scalars: Mapping[str, object]) -> str:
    """Name of the scalar that determines the best epoch: ``miou``, unless the kind of network has another one."""
    return next((name for name in scalars if name != "miou" and f"best_{name}" in scalars), "miou")


KINDS: Mapping[str, type[Event]] = {
    kind.kind: kind
    for kind in (Queued, Started, Measured, Saved, Visualized, Noted, Warned, Finished, Stopped, Failed, Exited)
}
_JSON_TYPES: Mapping[str, tuple[type, ...]] = {
    "int": (int,),
    "float": (int, float),
    "str": (str,),
    "bool": (bool,),
    "None": (type(None),),
    "Mapping": (dict,),
    "tuple": (list,),
}
# Allowed JSON types of each field, derived from the annotations above: `int | None` -> int, NoneType.
_FIELDS: Mapping[str, Mapping[str, tuple[type, ...]]] = {
    kind: {
        f.name: tuple(t for word in re.sub(r"\[.*\]", "", str(f.type)).split(" | ") for t in _JSON_TYPES[word])
        for f in dataclasses.fields(event)
    }
    for kind, event in KINDS.items()
}


_COUNTERS: Mapping[str, int] = {
    **dict.fromkeys(("step", "images", "resumed_step", "steps_per_epoch"), 10**15),
    **dict.fromkeys(("epoch", "epochs"), 10**9),
    **dict.fromkeys(("attempt", "threads", "workers", "world_size"), 10**6),
}
"""Fields that count from 0, with their maximum."""


def _finite(value: Any) -> Any:
    """Replace every non-finite float by None, recursively."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value


def encode(event: Event) -> bytes:
    """Encode an event as one line with a newline, for a single ``os.write``."""
    body = {"v": VERSION, "kind": event.kind, "time": event.time}
    for f in dataclasses.fields(event):
        if f.name != "time":
            body[f.name] = _finite(getattr(event, f.name))
    return json.dumps(body, separators=(",", ":"), allow_nan=False).encode() + b"\n"


def decode(line: bytes | str) -> Event | None:
    """Decode the event of a line; None if it is incomplete, of an unknown kind, or has wrong types."""
    try:
        body = json.loads(line, parse_constant=_no_number)
    except (ValueError, RecursionError):
        return None
    if not isinstance(body, dict):
        return None
    kind = body.get("kind")
    event = KINDS.get(kind) if isinstance(kind, str) else None
    time = body.get("time")
    if event is None or not isinstance(time, int | float) or not TIMES[0] <= time < TIMES[1]:
        return None
    known: dict[str, Any] = {}
    for name, types in _FIELDS[event.kind].items():
        if name not in body:
            continue
        value = body[name]
        if not isinstance(value, types) or (isinstance(value, bool) and bool not in types) or _huge(value):
            return None
        if type(value) is int and name in _COUNTERS and not 0 <= value <= _COUNTERS[name]:
            return None
        known[name] = tuple(value) if isinstance(value, list) else value
    if not _numbers(known.get("scalars", {})) or not all(isinstance(rank, dict) for rank in known.get("ranks", ())):
        return None
    try:
        return event(**known)
    except TypeError:  # a required field is missing: written by an unknown version
        return None


def _numbers(scalars: Mapping[str, Any]) -> bool:
    return all(value is None or (isinstance(value, int | float) and not _huge(value)) for value in scalars.values())


def _no_number(constant: str) -> None:
    """Parse NaN and Infinity, which Python's JSON may contain, as None."""


def _huge(value: Any) -> bool:
    """Whether it is an integer with 64 or more bits, or out of the range of floats."""
    return (isinstance(value, int) and abs(value) >= 2**63) or value in (math.inf, -math.inf)
