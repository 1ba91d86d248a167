"""The run folder: every path of a run, and how its files are read and written."""

from __future__ import annotations

import dataclasses
import json
import os
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from kdtui.errors import StoreError
from kdtui.events import Event, encode
from kdtui.store.names import printable

if TYPE_CHECKING:
    from kdtui.profile import Profile

T = TypeVar("T")


def write_atomically(path: Path, data: bytes, *, fsync: bool = False) -> None:
    """Replace ``path`` by ``data`` so that a reader, and a crash, sees the old file or the new one.

    Raises:
        StoreError: The file could not be written; the former one survives.
    """
    aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with aside.open("wb") as file:
            file.write(data)
            if fsync:
                file.flush()
                os.fsync(file.fileno())
        aside.replace(path)
    except OSError as error:
        aside.unlink(missing_ok=True)
        raise StoreError(
            "A file could not be written; the former one is unchanged",
            where=path,
            found=error.strerror,
            hint="free some space or mend the folder's permissions, then repeat the command",
        ) from error


class EventLog:
    """The writing end of ``events.jsonl``: one line an ``os.write``, one writer at a time.

    Opening ends a line that an earlier writer left half written, so that no later line is swallowed by it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._torn = False
        try:
            # Read and write: the last byte decides whether the last line is whole.
            self._fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
            size = os.fstat(self._fd).st_size
            self._torn = size > 0 and os.pread(self._fd, 1, size - 1) != b"\n"
        except OSError as error:
            raise self._failure(error) from error

    def append(self, event: Event) -> None:
        """Write one event.

        Raises:
            StoreError: The line is not, or not wholly, in the file.
        """
        line = (b"\n" if self._torn else b"") + encode(event)
        try:
            done = os.write(self._fd, line)
            while done < len(line):  # a disk that is nearly full takes a part, and says why at the next call
                self._torn = True
                done += os.write(self._fd, line[done:])
        except OSError as error:
            raise self._failure(error) from error
        self._torn = False

    def close(self) -> None:
        """Give the descriptor back."""
        os.close(self._fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _failure(self, error: OSError) -> StoreError:
        return StoreError(
            "An event could not be written",
            where=self.path,
            found=error.strerror,
            hint="free some space; what was written before is unharmed",
        )


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


class Run:
    """One run folder. Nobody else joins these paths."""

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self.id = self.path.name
        self.profile_path = self.path / "profile.toml"
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
        """The epoch checkpoints that are on disk, oldest first."""
        return sorted(self.checkpoints.glob("checkpoint_epoch_*.pth"))

    def visualization(self, epoch: int) -> Path:
        """Folder of the pictures of a 1-based epoch."""
        return self.visualizations / f"epoch_{epoch:04d}"

    def evaluation(self, split: str) -> Path:
        """File of the evaluation on one split."""
        return self.evaluations / f"{split}.json"

    def manifest(self) -> Manifest:
        """The manifest.

        Raises:
            StoreError: ``run.json`` is missing or damaged.
        """
        return _read(self.manifest_path, lambda data: _manifest(json.loads(data)))

    def launch_record(self) -> LaunchRecord | None:
        """The record of the current attempt, or None for a run that was never launched.

        Raises:
            StoreError: ``launch.json`` is damaged.
        """
        if not self.launch_path.exists():
            return None
        return _read(self.launch_path, lambda data: record_from_json(json.loads(data)))

    def write_launch_record(self, record: LaunchRecord) -> None:
        """Replace ``launch.json``."""
        write_atomically(self.launch_path, json.dumps(dataclasses.asdict(record), indent=1).encode() + b"\n")

    def notes(self) -> Notes:
        """Tags and notes.

        Raises:
            StoreError: ``notes.toml`` is damaged.
        """
        if not self.notes_path.exists():
            return Notes()
        return _read(self.notes_path, lambda data: _notes(tomllib.loads(data.decode())))

    def write_notes(self, notes: Notes) -> None:
        """Replace ``notes.toml``."""
        import tomli_w  # only who writes pays for it

        write_atomically(self.notes_path, tomli_w.dumps({"tags": list(notes.tags), "notes": notes.text}).encode())

    def request_stop(self) -> None:
        """Ask for a clean stop: the one way, whoever asks.

        Raises:
            StoreError: The file could not be made.
        """
        try:
            self.stop_path.touch()
        except OSError as error:
            raise StoreError("The stop file could not be made", where=self.stop_path, found=error.strerror) from error

    def clear_stop(self) -> None:
        """Forget that someone asked."""
        self.stop_path.unlink(missing_ok=True)

    def stop_requested(self) -> bool:
        """Whether someone asked."""
        return self.stop_path.exists()

    def touch_beat(self) -> None:
        """Say that the supervisor lives, to hosts that cannot see its process."""
        self.beat_path.touch()

    def profile_table(self) -> dict[str, Any]:
        """``profile.toml`` as plain tables, without pydantic.

        Raises:
            StoreError: It is missing or damaged.
        """
        return _read(self.profile_path, lambda data: tomllib.loads(data.decode()))

    def profile(self) -> Profile:
        """The validated profile.

        Raises:
            StoreError: ``profile.toml`` is missing, damaged, or of another version.
        """
        from pydantic import ValidationError

        from kdtui.profile import Profile

        try:
            return Profile.model_validate(self.profile_table())
        except ValidationError as error:
            mistakes = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
            raise StoreError("The run's profile cannot be used", where=self.profile_path, found=mistakes) from error


def record_from_json(body: Any) -> LaunchRecord:
    """The record in ``launch.json``."""
    record = _build(LaunchRecord, body)
    numbers = (record.attempt, record.pid, record.devices, record.created)
    named = isinstance(record.host, str) and isinstance(record.device, str)
    if (
        not named
        or not isinstance(record.total_epochs, int | None)
        or not all(isinstance(number, int | float) for number in numbers)
    ):
        raise ValueError("a field is of the wrong type")
    if not isinstance(record.ranks, list) or not all(isinstance(rank, dict) for rank in record.ranks):
        raise ValueError("ranks is a list of objects")
    return dataclasses.replace(record, argv=tuple(record.argv), ranks=tuple(record.ranks))


def _manifest(body: Any) -> Manifest:
    manifest = _build(Manifest, body)
    if not isinstance(manifest.name, str) or not isinstance(manifest.created_ns, int):
        raise ValueError("name is a text, created_ns a whole number")
    if not isinstance(manifest.teacher, dict | None) or not isinstance(manifest.resume_from, str | None):
        raise ValueError("teacher is an object, resume_from a text, or null")
    return manifest


def _notes(table: Mapping[str, Any]) -> Notes:
    tags, text = table.get("tags", []), table.get("notes", "")
    if not isinstance(text, str) or not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
        raise ValueError("tags is a list of texts, notes a text")
    return Notes(tuple(tags), text)


def _build(kind: Callable[..., T], body: Any) -> T:
    """A record from its JSON object; unknown keys are skipped, so that an older kdtui reads a newer folder."""
    if not isinstance(body, dict):
        raise ValueError("not a JSON object")
    known = {f.name for f in dataclasses.fields(kind)}  # type: ignore[arg-type]
    return kind(**{key: value for key, value in body.items() if key in known})


def _read(path: Path, parse: Callable[[bytes], T]) -> T:
    try:
        return parse(path.read_bytes())
    except OSError as error:
        raise StoreError(
            f"{path.name} cannot be read",
            where=path,
            found=error.strerror,
            hint=f"`kdtui remove {printable(path.parent.name)}` clears a folder that cannot be mended",
        ) from error
    except (ValueError, TypeError) as error:  # JSON, TOML and UTF-8 errors are ValueErrors; TypeError: a key is missing
        raise StoreError(
            f"{path.name} is damaged",
            where=path,
            found=printable(str(error)),
            hint=f"`kdtui remove {printable(path.parent.name)}` clears a folder that cannot be mended",
        ) from error
