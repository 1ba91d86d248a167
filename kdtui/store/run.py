"""The folder of a run: its paths, and the contents of its small files."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from kdtui.errors import ProfileError, StoreError
from kdtui.events import Stopped
from kdtui.profile.find import complete_run_table, parse_tables
from kdtui.store.event_log import EventLog
from kdtui.store.files import TooLarge, read_file, remedy, write_atomically
from kdtui.store.values import MOST_BYTES, fits, is_time, parse_json
from kdtui.text import one_line

if TYPE_CHECKING:
    from kdtui.profile import Profile


T = TypeVar("T")
_LONGEST_REASON = 200
"""Bytes."""


@dataclass(frozen=True)
class Manifest:
    """Origin of a run; written once, but for the hashes of runs that finish later and of published weights.

    Attributes:
        created_ns: Unix time in nanoseconds.
        git_commit: Commit of the folder in which the run was created, if it is a repository.
        versions: Package name to version.
        teacher: ``{"checkpoint", "sha256", "run"}``, or None. ``"awaited": true`` if that run had not finished yet, and
            ``"ensemble"`` with such entries for further teachers.
        resume_from: Checkpoint that the run starts from, or None.
        origin: What created it, for display: the command or the demo.
        weights: Checkpoint of the student's initial weights, an entry like those of teachers, or None. Published ones
            are added after they were loaded, with their file in the cache.
        group: Id that runs share which were made together; None for a single run.
        sweep: ``{"id", "cell", "seed", "role"}`` of a run of a sweep: the values of its cell by key, and whether it is
            ``student`` or a ``baseline``; None for other runs.
    """

    id: str
    name: str
    created_ns: int
    git_commit: str | None = None
    versions: Mapping[str, str] = dataclasses.field(default_factory=dict)
    teacher: Mapping[str, Any] | None = None
    resume_from: str | None = None
    origin: str | None = None
    weights: Mapping[str, Any] | None = None
    group: str | None = None
    sweep: Mapping[str, Any] | None = None

    @property
    def teachers(self) -> tuple[Mapping[str, Any], ...]:
        """The entries of all teachers; what is no entry is left out."""
        further = (self.teacher or {}).get("ensemble")
        entries = (self.teacher, *(further if isinstance(further, list) else ()))
        return tuple(entry for entry in entries if isinstance(entry, Mapping))

    @property
    def awaited(self) -> tuple[str, ...]:
        """Ids of the runs of teachers and initial weights that have to finish before this one can start."""
        entries = (*self.teachers, *([self.weights] if isinstance(self.weights, Mapping) else ()))
        waits = (entry for entry in entries if entry.get("awaited") is True and entry.get("sha256") is None)
        return tuple(dict.fromkeys(str(entry.get("run")) for entry in waits))


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
        target: The launch target; None for the default one, this machine.
        waits_for: Id of the run that it waits for, of a teacher or of initial weights, or None.
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
    target: str | None = None
    waits_for: str | None = None

    def to_json(self) -> dict[str, Any]:
        """The object in ``launch.json``; fields of later versions are left out where they have their default."""
        body = dataclasses.asdict(self)
        return {key: body[key] for key in body if key not in ("target", "waits_for") or body[key] is not None}

    @property
    def identity(self) -> Mapping[str, Any]:
        """The supervisor's identity, in the form of those of the ranks."""
        return {"pid": self.pid, "start_ticks": self.start_ticks, "boot_id": self.boot_id}


@dataclass(frozen=True)
class Notes:
    """Tags and notes of a run: the only file of a run that users change."""

    tags: tuple[str, ...] = ()
    text: str = ""


def record_from_json(body: Any) -> LaunchRecord:
    """The record in ``launch.json``."""
    record = _build(LaunchRecord, body)
    if not is_time(record.created):
        raise ValueError("created is not a valid time")
    return dataclasses.replace(record, argv=tuple(record.argv), ranks=tuple(record.ranks))


def manifest_from_json(body: Any) -> Manifest:
    """The manifest in ``run.json``."""
    manifest = _build(Manifest, body)
    if not is_time(manifest.created_ns / 1e9):
        raise ValueError("created_ns is not a valid time")
    return manifest


def notes_from_toml(table: Mapping[str, Any]) -> Notes:
    """The contents of ``notes.toml``."""
    tags, text = table.get("tags", []), table.get("notes", "")
    if not isinstance(text, str) or not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
        raise ValueError("tags must be a list of strings and notes a string")
    return Notes(tuple(tags), text)


def _build(kind: type[T], body: Any) -> T:
    """Build a record from a JSON object; unknown keys are ignored, so that an older kdtui reads newer folders."""
    if not isinstance(body, dict):
        raise ValueError("not a JSON object")
    known = {f.name for f in dataclasses.fields(kind)}  # type: ignore[arg-type]
    values = {key: value for key, value in body.items() if key in known}
    for key, value in values.items():
        if not fits(kind, {key: value}):
            raise ValueError(f"{key} has the wrong type: {str(value)[:80]}")
    try:
        return kind(**values)
    except TypeError as error:  # a required key is missing
        raise ValueError(str(error)) from error


def flat(table: Mapping[str, Any], front: str = "") -> list[tuple[str, Any]]:
    """Dotted keys of nested tables and their values, in order."""
    pairs: list[tuple[str, Any]] = []
    for key, value in table.items():
        nested = isinstance(value, Mapping) and len(value) > 0
        pairs += flat(value, f"{front}{key}.") if nested else [(front + key, value)]
    return pairs


__all__ = ["EventLog", "LaunchRecord", "Manifest", "Notes", "Run", "write_atomically"]


class Run:
    """A run folder; the only class that defines the paths in it."""

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self.id = self.path.name
        self.profile_path = self.path / "profile.toml"
        self.overrides_path = self.path / "overrides.toml"
        self.manifest_path = self.path / "run.json"
        self.notes_path = self.path / "notes.toml"
        self.launch_path = self.path / "launch.json"
        self.events_path = self.path / "events.jsonl"
        self.stop_path = self.path / "stop"
        self.beat_path = self.path / "beat"
        self.measurements_path = self.path / "measurements.json"
        self.checkpoints = self.path / "checkpoints"
        self.logs = self.path / "logs"
        self.visualizations = self.path / "visualizations"
        self.evaluations = self.path / "evaluations"
        self.untrained = self.checkpoints / "untrained_model.pth"
        self.best = self.checkpoints / "best_model.pth"
        self.last = self.checkpoints / "last.pth"
        self.training_log = self.logs / "training_log.txt"
        self.worker_log = self.logs / "worker.txt"

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Run) and self.path == other.path

    def __hash__(self) -> int:
        return hash(self.path)

    def epoch_checkpoint(self, epoch: int) -> Path:
        """Checkpoint of a 1-based epoch."""
        return self.checkpoints / f"checkpoint_epoch_{epoch:04d}.pth"

    def epoch_checkpoints(self) -> list[Path]:
        """The epoch checkpoints on disk, oldest first."""
        return [self.epoch_checkpoint(epoch) for epoch in self.epochs_on_disk()]

    def epochs_on_disk(self) -> list[int]:
        """The epochs whose checkpoints are on disk, oldest first."""
        numbers = [
            path.stem.removeprefix("checkpoint_epoch_") for path in self.checkpoints.glob("checkpoint_epoch_*.pth")
        ]
        epochs = sorted(int(number) for number in numbers if number.isascii() and number.isdecimal())
        return [epoch for epoch in epochs if self.epoch_checkpoint(epoch).exists()]

    def checkpoint(self, name: str) -> Path:
        """The checkpoint named ``best``, ``last``, ``untrained`` or by the number of its epoch."""
        named = {"best": self.best, "last": self.last, "untrained": self.untrained}
        return named[name] if name in named else self.epoch_checkpoint(int(name))

    def exports(self) -> list[Path]:
        """The ONNX files of the run, sorted by name; the report of each is next to it."""
        return sorted(path for path in self.checkpoints.glob("*.onnx") if not path.name.startswith("."))

    def visualization(self, epoch: int) -> Path:
        """Folder of the pictures of a 1-based epoch."""
        return self.visualizations / f"epoch_{epoch:04d}"

    def evaluation(self, split: str) -> Path:
        """File of the evaluation on one split."""
        return self.evaluations / f"{split}.json"

    def counts(self, split: str) -> Path:
        """File of the pixel counts per image and class of the best checkpoint on one split."""
        return self.evaluations / f"{split}.npz"

    def manifest(self) -> Manifest:
        """The manifest.

        Raises:
            StoreError: ``run.json`` is missing or damaged.
        """
        return _read(self.manifest_path, lambda data: manifest_from_json(parse_json(data)), hint=_COPY)

    def record_awaited(self, hashes: Mapping[str, str]) -> None:
        """Add the hashes of the checkpoints of awaited runs to the manifest, by the ids of these runs."""
        body = parse_json(read_file(self.manifest_path, most=MOST_BYTES))
        teacher = body.get("teacher") or {}
        for entry in (teacher, *teacher.get("ensemble", ()), body.get("weights") or {}):
            if entry.get("awaited") and entry["run"] in hashes:
                entry["sha256"] = hashes[entry["run"]]
        self._rewrite_manifest(body)

    def record_weights(self, entry: Mapping[str, Any]) -> None:
        """Add the file of the student's published weights to the manifest."""
        body = parse_json(read_file(self.manifest_path, most=MOST_BYTES))
        self._rewrite_manifest({**body, "weights": dict(entry)})

    def _rewrite_manifest(self, body: Mapping[str, Any]) -> None:
        write_atomically(self.manifest_path, json.dumps(body, indent=1).encode() + b"\n")

    def launch_record(self) -> LaunchRecord | None:
        """The record of the current attempt, or None for a run that was never launched.

        Raises:
            StoreError: ``launch.json`` is damaged.
        """
        if _absent(self.launch_path):
            return None
        return _read(self.launch_path, lambda data: record_from_json(parse_json(data)), hint=_MOVE)

    def write_launch_record(self, record: LaunchRecord) -> None:
        """Replace ``launch.json``."""
        write_atomically(self.launch_path, json.dumps(record.to_json(), indent=1).encode() + b"\n")

    def measurements(self) -> dict[str, Any] | None:
        """The results of `kdtui measure`, or None for a run that was never measured.

        Raises:
            StoreError: ``measurements.json`` is damaged.
        """
        if _absent(self.measurements_path):
            return None
        try:
            found = parse_json(read_file(self.measurements_path, most=MOST_BYTES))
            if not isinstance(found, dict) or not isinstance(found.get("student"), dict):
                raise ValueError("no measurements of a student")
        except (OSError, ValueError, RecursionError) as error:
            why = error.strerror if isinstance(error, OSError) else str(error)
            raise StoreError(
                "The run's measurements cannot be used",
                where=self.measurements_path,
                found=one_line(str(why)),
                hint=f"`kdtui measure {one_line(self.id)}` replaces them",
            ) from error
        return found

    def notes(self) -> Notes:
        """Tags and notes.

        Raises:
            StoreError: ``notes.toml`` is damaged.
        """
        if _absent(self.notes_path):
            return Notes()
        return _read(self.notes_path, lambda data: notes_from_toml(parse_tables(data.decode())), hint=_NOTES)

    def write_notes(self, notes: Notes) -> None:
        """Replace ``notes.toml``."""
        import tomli_w  # here: reading commands do not need it

        write_atomically(self.notes_path, tomli_w.dumps({"tags": list(notes.tags), "notes": notes.text}).encode())

    def request_stop(self, reason: str = "") -> None:
        """Request a clean stop; used by the command line, the cockpit and signal handlers.

        Args:
            reason: Reason of the ``stopped`` event, in a few words; empty keeps that of an earlier request.

        Raises:
            StoreError: The stop file could not be created.
        """
        try:
            if reason:
                self.stop_path.write_text(f"{reason}\n", encoding="utf-8")
            else:
                self.stop_path.touch()
        except OSError as error:
            raise StoreError(
                "The stop file could not be created",
                where=self.stop_path,
                found=f"{error.strerror}; the folder belongs to {owner(self.path)}",
                hint="let that user stop the run, or get write permission for its folder"
                if isinstance(error, PermissionError)
                else f"{remedy(error)}; or kill it: `kdtui stop --kill {self.id}`",
            ) from error

    def clear_stop(self) -> None:
        """Withdraw a stop request.

        Raises:
            StoreError: The stop file cannot be removed.
        """
        try:
            self.stop_path.unlink(missing_ok=True)
        except OSError as error:
            raise StoreError(
                "The stop file could not be removed", where=self.stop_path, found=error.strerror
            ) from error

    def stop_requested(self) -> bool:
        """Whether a stop is requested."""
        return self.stop_path.exists()

    def stop_reason(self, default: str = Stopped.reason) -> str:
        """The reason in the stop file; ``default`` if it has none or cannot be read."""
        try:
            reason = one_line(read_file(self.stop_path, most=_LONGEST_REASON).decode(errors="replace")).strip()
        except OSError:
            reason = ""
        return reason or default

    def touch_beat(self) -> None:
        """Update the heartbeat, which shows other hosts that the supervisor is running."""
        self.beat_path.touch()

    def profile_table(self) -> dict[str, Any]:
        """``profile.toml`` with the overrides applied, as plain tables without pydantic.

        Raises:
            StoreError: It is missing or damaged.
        """
        table = _read(self.profile_path, lambda data: parse_tables(data.decode()), hint=_COPY)
        complete_run_table(table)
        _lay_over(table, self.overrides())
        return table

    def overrides(self) -> dict[str, Any]:
        """``overrides.toml``: keys of the profile that were set after the run was created; empty without any.

        Raises:
            StoreError: It is damaged.
        """
        if _absent(self.overrides_path):
            return {}
        return _read(
            self.overrides_path,
            lambda data: parse_tables(data.decode()),
            hint="delete that file: the locations in profile.toml are used then",
        )

    def write_overrides(self, changes: Mapping[str, Any]) -> None:
        """Add or replace keys in ``overrides.toml``."""
        import tomli_w

        table = self.overrides()
        _lay_over(table, changes)
        write_atomically(self.overrides_path, tomli_w.dumps(table).encode())

    def profile(self) -> Profile:
        """The validated profile.

        Raises:
            StoreError: ``profile.toml`` is missing, damaged, or of another version.
        """
        from kdtui.profile.loading import of_run

        try:
            return of_run(self.profile_table(), self.profile_path)
        except ProfileError as error:
            raise StoreError(
                "the profile of this run is not valid",
                where=self.profile_path,
                found="; ".join(error.mistakes),
                hint=error.hint,
            ) from error


def owner(path: Path) -> str:
    """The owner of a file, by name if possible."""
    try:
        return path.owner()
    except KeyError:
        return f"user {path.stat().st_uid}"
    except OSError as error:
        return error.strerror or "unknown"


def _absent(path: Path) -> bool:
    """Whether the file does not exist; False without permission for its folder, as reading then reports the error."""
    try:
        return not path.exists()
    except OSError:
        return False


def _lay_over(table: dict[str, Any], changes: Mapping[str, Any]) -> None:
    for key, value in changes.items():
        below = table.get(key)
        if isinstance(below, dict) and isinstance(value, Mapping):
            _lay_over(below, value)
        else:
            table[key] = dict(value) if isinstance(value, Mapping) else value


_COPY = "correct that file, or restore it from a copy of the run; the checkpoints are not affected"
_MOVE = "correct that file or move it away: the next attempt writes a new one; the checkpoints are not affected"
_NOTES = "correct or delete that file: it has the tags and notes of the run and nothing else"


def _read(path: Path, parse: Callable[[bytes], T], *, hint: str) -> T:
    """Read and parse a file of a run; ``hint`` is the remedy if it is damaged."""
    try:
        return parse(read_file(path, most=MOST_BYTES))
    except OSError as error:
        raise StoreError(
            f"{path.name} cannot be read",
            where=path,
            found=error.strerror,
            hint=hint if isinstance(error, FileNotFoundError | TooLarge) else "check the read permission of that file",
        ) from error
    # ValueError: invalid JSON, TOML or UTF-8; TypeError: a missing key; RecursionError: nested too deeply.
    except (ValueError, TypeError, RecursionError) as error:
        raise StoreError(
            f"{path.name} is damaged",
            where=path,
            found=one_line(str(error)),
            hint=hint,
        ) from error
