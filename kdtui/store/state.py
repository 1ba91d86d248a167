"""The state of a run: derived from facts and never stored, because a stored state is wrong after ``kill -9``."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from kdtui.events import score_name
from kdtui.store.run import LaunchRecord

SILENT_ELSEWHERE = 90.0
"""Seconds without beat or event after which a run on another host no longer counts as running."""


class State(Enum):
    """What a run is doing: a word, and a glyph whose shape is readable without colour."""

    NEVER_LAUNCHED = ("NEVER LAUNCHED", "·")
    QUEUED = ("QUEUED", "…")
    RUNNING = ("RUNNING", "▶")
    FINISHED = ("FINISHED", "✓")
    STOPPED = ("STOPPED", "■")
    FAILED = ("FAILED", "✗")
    LOST = ("LOST", "?")

    def __init__(self, word: str, glyph: str) -> None:
        self.word = word
        self.glyph = glyph

    @property
    def final(self) -> bool:
        """Whether the attempt is over and has reported its result."""
        return self in (State.FINISHED, State.STOPPED, State.FAILED)


PRUNED = "pruned"
"""Reason in the stop file of a run that a search ends early, as others are better."""
LIVE = (State.QUEUED, State.RUNNING)
"""The run is running or queued."""


class Liveness(Enum):
    """Whether any process of a run is running; unknown for processes of another host."""

    ALIVE = "alive"
    SUSPENDED = "suspended"
    DEAD = "dead"
    UNKNOWN = "unknown"


Alive = Callable[[LaunchRecord], Liveness]
"""Liveness of the processes of a launch record, whose ranks include those of its events.

If the record is lost, it is called with one without host and pid. Raises a KdtuiError if the liveness is not available.
"""


@dataclass(frozen=True)
class QueuePlace:
    """Where a waiting run is in the device queue of its machine.

    Attributes:
        number: 1-based; 0 for a run that is skipped.
        reason: Entries of other run stores, or suspended ones, ahead of it, or why it is skipped; often empty.
    """

    number: int
    reason: str = ""


Places = Callable[[Path], Mapping[str, QueuePlace]]
"""``(root) -> {run id: QueuePlace}`` of the runs of a store that wait on this machine."""


def no_places(root: Path) -> Mapping[str, QueuePlace]:
    """No queue positions, for a store without access to the machine's queue."""
    return {}


def cannot_tell(record: LaunchRecord) -> Liveness:
    """The liveness of a store that was given no way to look."""
    return Liveness.UNKNOWN


@dataclass(frozen=True)
class Facts:
    """The facts of the current attempt from which the state is derived.

    Attributes:
        launched: A launch record exists, or events do.
        started: Rank 0 reported the start of training.
        word: ``finished``, ``stopped`` or ``failed`` if one of them was written, else ``exited``, else None.
        alive: Whether the supervisor or any rank is alive.
        silent: Seconds since the last event or beat; None if there is none.
    """

    launched: bool
    started: bool = False
    word: str | None = None
    alive: Liveness = Liveness.UNKNOWN
    silent: float | None = None


WORDS = {
    "finished": State.FINISHED,
    "stopped": State.STOPPED,
    "failed": State.FAILED,
    # Ended without reporting a result: out of memory, a signal, a failed import.
    "exited": State.FAILED,
}


def derive(facts: Facts) -> State:
    """Derive the state from the facts."""
    if not facts.launched:
        return State.NEVER_LAUNCHED
    if facts.word is not None:
        return WORDS[facts.word]
    recent = facts.silent is not None and facts.silent < SILENT_ELSEWHERE
    if facts.alive in (Liveness.ALIVE, Liveness.SUSPENDED) or (facts.alive is Liveness.UNKNOWN and recent):
        return State.RUNNING if facts.started else State.QUEUED
    return State.LOST


@dataclass(frozen=True)
class RunSummary:
    """One row of the list of runs.

    Attributes:
        teacher_checkpoint: Of several teachers all, joined by `` + ``.
        detail: Why it waits or failed, how long it has written no event, or damage in its folder; often empty.
        epoch: Number of epochs begun; ``epochs`` is the total number.
        loss: Last training loss.
        miou: mIoU of the last validation.
        best_miou: mIoU of the best validation, by which lists are sorted; ``miou`` in filters.
        best_iou: Class to IoU at the best epoch.
        teacher_pixel: Class to probability at T = 1 of one pixel, as predicted by the teacher.
        metrics: Those of the last validation that the kind of network adds, by name.
        best_metrics: The same at the best epoch.
        teacher_metrics: Those of the teacher.
        retention: Student mIoU over teacher mIoU, at the last validation.
        data_wait: Share of the last steps' time in which they waited for their images.
        workers: Loading processes of each rank.
        alpha: None without distillation, as ``temperature``.
        method: Kinds of its distillation terms, with their variants, joined by ``+``; None without distillation.
        sweep: Id of the sweep that it belongs to.
        created: Unix time, as ``started`` (of the last attempt) and ``last_event``.
        waiting_since: Launch time of a run that waits for a slot, which orders the queue; None for one that is
            skipped.
        place: 1-based position in that queue, once all rows are known.
        error: Class name of the failure.
        warnings: ``{"code", "message", "hint"}`` of likely mistakes, oldest first.
    """

    id: str
    name: str
    path: Path
    state: State
    detail: str = ""
    epoch: int | None = None
    epochs: int | None = None
    step: int | None = None
    loss: float | None = None
    miou: float | None = None
    best_miou: float | None = None
    best_iou: Mapping[str, float] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    best_metrics: Mapping[str, float] = field(default_factory=dict)
    retention: float | None = None
    agreement: float | None = None
    teacher_miou: float | None = None
    teacher_metrics: Mapping[str, float] = field(default_factory=dict)
    teacher_checkpoint: str | None = None
    teacher_parameters: int | None = None
    teacher_pixel: Mapping[str, float] = field(default_factory=dict)
    encoder: str | None = None
    architecture: str | None = None
    decoder_channels: tuple[int, ...] | int | None = None
    parameters: int | None = None
    parameters_used: int | None = None
    temperature: float | None = None
    alpha: float | None = None
    distilled: bool = False
    method: str | None = None
    seed: int | None = None
    group: str | None = None
    sweep: str | None = None
    tags: tuple[str, ...] = ()
    notes: str = ""
    created: float | None = None
    started: float | None = None
    last_event: float | None = None
    images_per_second: float | None = None
    data_wait: float | None = None
    workers: int | None = None
    eta_seconds: float | None = None
    attempt: int | None = None
    host: str | None = None
    device: str | None = None
    error: str | None = None
    hint: str | None = None
    warnings: tuple[Mapping[str, str | None], ...] = ()
    waiting_since: float | None = None
    place: int | None = None

    @property
    def pruned(self) -> bool:
        """Whether a search ended it early, as others were better."""
        return self.state is State.STOPPED and self.detail == PRUNED

    @functools.cached_property
    def score(self) -> str:
        """Name of the scalar that determines the best epoch: ``miou``, unless the kind of network has another one."""
        return score_name(self.metrics)

    def best(self, score: str) -> float | None:
        """A scalar at the best epoch; None if it is not known."""
        return self.best_miou if score == "miou" else self.best_metrics.get(score, self.metrics.get(f"best_{score}"))

    def of_teacher(self, score: str) -> float | None:
        """A scalar of the teacher; None if it is not known."""
        return self.teacher_miou if score == "miou" else self.teacher_metrics.get(score)

    @property
    def best_retention(self) -> float | None:
        """The best score over the teacher's; for mIoU the last retention where the teacher's is not known."""
        best, of_teacher = self.best(self.score), self.of_teacher(self.score)
        if best is None or not of_teacher:
            return self.retention if self.score == "miou" else None
        return best / of_teacher
