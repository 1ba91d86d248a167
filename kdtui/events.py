"""What happened: the events of a run, one JSON object a line.

Frozen dataclasses without a validation library: the engine writes them inside its training loop. Every line has the
head ``v, kind, time``; the other fields are typed by kind, and only ``scalars`` is open. Values that are not finite are
written as ``null`` (``NaN`` is not JSON). Unknown kinds and fields are skipped, so an older reader can follow a newer
writer.
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
TIMES = (0.0, 253_402_300_800.0)
"""Unix times that an event may have: up to the end of the year 9999, the last that a date can show."""


def now() -> float:
    """Seconds since the epoch; the time of every event."""
    return round(clock.time(), 3)


@dataclass(frozen=True)
class Event:
    """The head every event shares.

    Attributes:
        kind: The word on the line.
        time: Unix time in seconds.
    """

    kind: ClassVar[str] = ""
    time: float = field(default_factory=now, kw_only=True)


@dataclass(frozen=True)
class Queued(Event):
    """The supervisor is running and waits for ``slots`` of ``devices``."""

    kind: ClassVar[str] = "queued"
    attempt: int
    device: str = ""


@dataclass(frozen=True)
class Started(Event):
    """Rank 0 is about to train.

    Attributes:
        ranks: ``{"pid", "start_ticks", "boot_id"}`` of every rank.
        resumed_step: Optimizer steps already done; points after it in earlier attempts are void.
        epochs: The horizon of this attempt.
        student: ``{"parameters", "parameters_used", "macs", "class_colours"}``; ``class_colours`` holds ``#rrggbb`` of
            each class, as the pictures of this run show it.
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


@dataclass(frozen=True)
class Measured(Event):
    """Numbers of one moment.

    Attributes:
        split: ``train`` or ``val``.
        step: Optimizer steps done.
        epoch: 1-based.
        images: Training images seen over all ranks: the fair axis.
        scalars: Named values; None where a value was not finite.
        epochs: The horizon (val lines carry it so that a tail is enough for a summary).
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
    """A checkpoint is whole on disk; ``path`` is relative to the run folder."""

    kind: ClassVar[str] = "saved"
    step: int
    tag: str
    path: str
    monitor: str | None = None
    value: float | None = None


@dataclass(frozen=True)
class Visualized(Event):
    """Pictures of an epoch lie in ``path`` (relative to the run folder)."""

    kind: ClassVar[str] = "visualized"
    epoch: int
    path: str


@dataclass(frozen=True)
class Noted(Event):
    """A remark that is no failure: a jump of the learning rate, a changed library version."""

    kind: ClassVar[str] = "noted"
    message: str


@dataclass(frozen=True)
class Warned(Event):
    """Something that is probably wrong with data, teacher or scores, though nothing failed.

    A run writes each pair of code and message once in its whole history.

    Attributes:
        code: Stable name of the check, such as ``class-without-pixels``.
        message: What was measured and why it matters, in one sentence.
        hint: What to do about it.
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
    """All epochs done, or early stopping ended them."""

    kind: ClassVar[str] = "finished"
    step: int
    epoch: int
    reason: str = "all epochs done"


@dataclass(frozen=True)
class Stopped(Event):
    """Stopped on request; the state is saved unless nothing was trained."""

    kind: ClassVar[str] = "stopped"
    step: int
    epoch: int
    reason: str = "asked to stop"


@dataclass(frozen=True)
class Failed(Event):
    """The engine gave up; the fields of a :class:`kdtui.errors.KdtuiError`."""

    kind: ClassVar[str] = "failed"
    error: str
    message: str
    hint: str | None = None


@dataclass(frozen=True)
class Exited(Event):
    """All processes of an attempt are gone; written by the supervisor.

    Attributes:
        code: First rank that ended badly, or 0; negative for a signal.
        signal: Name of that signal.
        rank: Which rank that was; None when all ended well, or none was started.
    """

    kind: ClassVar[str] = "exited"
    attempt: int
    code: int
    signal: str | None = None
    rank: int | None = None


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
# What each field of a kind may hold on its line, read from the annotations above: `int | None` -> int, NoneType.
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
    **dict.fromkeys(("attempt", "threads", "world_size"), 10**6),
}
"""Fields that count from 0, with a number that none of them reaches."""


def _finite(value: Any) -> Any:
    """``value`` with every non-finite float replaced by None, whatever it is nested in."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value


def encode(event: Event) -> bytes:
    """One line, newline included, ready for a single ``os.write``."""
    body = {"v": VERSION, "kind": event.kind, "time": event.time}
    for f in dataclasses.fields(event):
        if f.name != "time":
            body[f.name] = _finite(getattr(event, f.name))
    return json.dumps(body, separators=(",", ":"), allow_nan=False).encode() + b"\n"


def decode(line: bytes | str) -> Event | None:
    """The event on a line; None for a line that is not whole, of an unknown kind, or of other types."""
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
    except TypeError:  # a required field is missing: a line of an unknown version
        return None


def _numbers(scalars: Mapping[str, Any]) -> bool:
    return all(value is None or (isinstance(value, int | float) and not _huge(value)) for value in scalars.values())


def _no_number(constant: str) -> None:
    """Constants that Python writes for values that are not finite and that JSON lacks: read as None."""


def _huge(value: Any) -> bool:
    """Whether it is an integer that no counter reaches, or a literal that no float can hold."""
    return (isinstance(value, int) and abs(value) >= 2**63) or value in (math.inf, -math.inf)


@dataclass(frozen=True)
class MeasureOptions:
    """How latency is measured.

    Attributes:
        batch: Images of the larger call; the other one has 1.
        repeats: Timed rounds.
        warmup: Rounds before them.
        threads: Of torch and onnxruntime; one is what repeats best, and what two machines share.
        device: ``cpu`` or ``gpu``.
    """

    batch: int = 8
    repeats: int = 30
    warmup: int = 5
    threads: int = 1
    device: str = "cpu"
