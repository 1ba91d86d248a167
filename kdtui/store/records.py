"""What the small files of a run folder hold, and how hands that changed them are caught.

The builders raise ``ValueError`` or ``TypeError``; :class:`kdtui.store.run.Run` says which file it was.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from kdtui.store.values import fits, is_time

T = TypeVar("T")


@dataclass(frozen=True)
class Manifest:
    """Where a run comes from; written once.

    Attributes:
        created_ns: Unix time in nanoseconds.
        git_commit: Commit of the folder that the run was made in, if it is a repository.
        versions: Package name to version.
        teacher: ``{"checkpoint", "sha256", "run"}``, or None.
        resume_from: Checkpoint that a new run starts from, or None.
        origin: Who made it: the command or the demo, for people to read.
    """

    id: str
    name: str
    created_ns: int
    git_commit: str | None = None
    versions: Mapping[str, str] = dataclasses.field(default_factory=dict)
    teacher: Mapping[str, Any] | None = None
    resume_from: str | None = None
    origin: str | None = None


@dataclass(frozen=True)
class LaunchRecord:
    """Who runs, or last ran, this run; replaced for each attempt.

    Attributes:
        attempt: 1-based.
        pid: The supervisor; with ``start_ticks`` and ``boot_id`` it names one process for ever.
        job_id: The scheduler's name for it; None on this machine.
        device: ``cpu`` or ``gpu``.
        devices: How many ranks.
        total_epochs: Horizon that overrides ``training.epochs``, or None.
        created: Unix time of the launch; the order of the queue.
        ranks: ``{"pid", "start_ticks", "boot_id"}`` of each rank, as soon as it is started.
    """

    attempt: int
    host: str
    pid: int
    start_ticks: int
    boot_id: str
    job_id: str | None
    argv: tuple[str, ...]
    device: str
    devices: int
    total_epochs: int | None
    created: float
    ranks: tuple[Mapping[str, Any], ...] = ()

    @property
    def identity(self) -> Mapping[str, Any]:
        """The supervisor, in the form in which ranks are named."""
        return {"pid": self.pid, "start_ticks": self.start_ticks, "boot_id": self.boot_id}


@dataclass(frozen=True)
class Notes:
    """What people say about a run; the only file that changes by hand."""

    tags: tuple[str, ...] = ()
    text: str = ""


def record_from_json(body: Any) -> LaunchRecord:
    """The record in ``launch.json``."""
    record = _build(LaunchRecord, body)
    if not is_time(record.created):
        raise ValueError("created is no time")
    return dataclasses.replace(record, argv=tuple(record.argv), ranks=tuple(record.ranks))


def manifest_from_json(body: Any) -> Manifest:
    """The manifest in ``run.json``."""
    manifest = _build(Manifest, body)
    if not is_time(manifest.created_ns / 1e9):
        raise ValueError("created_ns is no time")
    return manifest


def notes_from_toml(table: Mapping[str, Any]) -> Notes:
    """What stands in ``notes.toml``."""
    tags, text = table.get("tags", []), table.get("notes", "")
    if not isinstance(text, str) or not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
        raise ValueError("tags is a list of texts, notes a text")
    return Notes(tuple(tags), text)


def _build(kind: type[T], body: Any) -> T:
    """A record from its JSON object; unknown keys are skipped, so that an older kdtui reads a newer folder."""
    if not isinstance(body, dict):
        raise ValueError("not a JSON object")
    known = {f.name for f in dataclasses.fields(kind)}  # type: ignore[arg-type]
    values = {key: value for key, value in body.items() if key in known}
    for key, value in values.items():
        if not fits(kind, {key: value}):
            raise ValueError(f"{key} has another type than it should: {str(value)[:80]}")
    return kind(**values)


def flat(table: Mapping[str, Any], front: str = "") -> list[tuple[str, Any]]:
    """Dotted keys of nested tables and their values, in order."""
    pairs: list[tuple[str, Any]] = []
    for key, value in table.items():
        nested = isinstance(value, Mapping) and len(value) > 0
        pairs += flat(value, f"{front}{key}.") if nested else [(front + key, value)]
    return pairs
