"""Client of the engine for the form: inspects checkpoints and checks plans.

A process with torch takes seconds to start, so it is avoided if possible: a file inspected before is found by its path,
size and modification time, and a checkpoint of a run is described by the files of the run.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import kdtui
from kdtui.errors import CheckpointError, KdtuiError, ModelError, StoreError
from kdtui.launch.groups import Group, check_group
from kdtui.launch.teachers import owner
from kdtui.store.files import read_file
from kdtui.store.run import Run, write_atomically
from kdtui.store.state import RunSummary
from kdtui.store.store import RunStore
from kdtui.store.values import MOST_BYTES, parse_json

if TYPE_CHECKING:
    from kdtui.launch.plan import Plan


EngineCall = Callable[..., dict[str, Any]]
CheckKey = tuple[str, int, int, tuple[str, ...]]

MOST = 500
"""Most inspections kept on disk; the newest are kept."""
_WEIGHTS = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)


@dataclass(frozen=True)
class Inspected:
    """Contents of a checkpoint, or why it cannot be used.

    Attributes:
        classes: Number of classes, not channels.
        family: Library or format of the network.
        input: The images that it takes, in words.
        container: Format around the weights; ``run`` for a checkpoint of a run, which was not opened.
        miou: Best validation mIoU of the run to which it belongs.
        mistake: Why it cannot be used as a teacher; empty if it can.
        hint: How to fix the mistake.
    """

    path: str
    run: str = ""
    architecture: str = ""
    encoder: str = ""
    decoder_channels: Sequence[int] | int | None = None
    task: str = ""
    classes: int | None = None
    class_names: Sequence[str] = ()
    parameters: int | None = None
    parameters_used: int | None = None
    family: str = ""
    input: str = ""
    container: str = ""
    ignored_keys: Sequence[str] = ()
    bytes: int | None = None
    miou: float | None = None
    iou: Mapping[str, float] = field(default_factory=dict)
    mistake: str = ""
    hint: str = ""


class EngineClient:
    """Calls the engine in a thread; known results are returned at once.

    Args:
        store: Run store; results are saved in its ``.cache``.
        ask: Calls a verb of the engine with arguments, like :func:`kdtui.launch.engine_process.ask`.
        row: Function from the id of a run to its summary, if that was read already.
    """

    def __init__(
        self, store: RunStore, ask: EngineCall, row: Callable[[str], RunSummary | None] = lambda run_id: None
    ) -> None:
        self._store = store
        self._own_look = store.for_thread()
        self._planning = threading.Lock()
        self._ask = ask
        self._row = row
        self._file = store.root / ".cache" / "inspected.json"
        self._inspected: dict[CheckKey, Inspected] | None = None
        self._lock = threading.Lock()

    def cached(self, checkpoint: Path, options: Sequence[str] = ()) -> Inspected | None:
        """What is known of a checkpoint without opening it; None if it has to be inspected. Starts no process."""
        run = owner(checkpoint)
        if run is not None:
            row = self._row(run.id) if run.path.parent == self._store.root else None
            return None if row is None else _of_run(checkpoint, row)
        key = _key(checkpoint, options)
        with self._lock:
            return None if key is None else self._answers().get(key)

    def inspect(self, checkpoint: Path, options: Sequence[str] = ()) -> Inspected:
        """Inspect a checkpoint; call in a thread, as it may start a process with torch.

        A failure is a result, too: errors reported by the engine are not raised. Errors of the file itself are cached
        until the cockpit exits.

        Args:
            checkpoint: A file, or a folder of ``save_pretrained``.
            options: Options of ``kdtui inspect``, such as ``--task hierarchical``.
        """
        run = owner(checkpoint)
        if run is not None:
            return _of_run(checkpoint, RunStore(run.path.parent).summary(run))
        key = _key(checkpoint, options)
        try:
            found = _read(checkpoint, self._ask("inspect", str(checkpoint), *options))
        except KdtuiError as error:
            found = Inspected(str(checkpoint), mistake=_placeless(error.message), hint=error.hint or "")
            if not isinstance(error, CheckpointError | ModelError):
                return found  # the engine failed, not the file
        if key is not None:
            with self._lock:
                self._answers()[key] = found
                self._save()
        return found

    def plan(self, group: Group, *, checks: bool = True) -> Plan:
        """Plan and check the new runs of a group, like ``kdtui train --dry-run``; call in a thread.

        Raises:
            KdtuiError: The store cannot be read, or the student of a profile cannot be built.
        """
        with self._planning:  # the cache of a store must not be used by two threads at a time
            return check_group(self._own_look, group, ask=self._ask, checks=checks)

    def _answers(self) -> dict[CheckKey, Inspected]:
        if self._inspected is None:
            self._inspected = _load(self._file)
        return self._inspected

    def _save(self) -> None:
        kept = [(key, found) for key, found in self._answers().items() if not found.mistake][-MOST:]
        body = {"version": kdtui.__version__, "files": [{"key": key, "found": asdict(found)} for key, found in kept]}
        try:
            self._file.parent.mkdir(exist_ok=True)
            write_atomically(self._file, json.dumps(body, separators=(",", ":")).encode())
        except (OSError, StoreError):
            # The store does not exist yet, or is read-only: inspecting again costs only seconds.
            return


def _key(checkpoint: Path, options: Sequence[str]) -> CheckKey | None:
    """Key of a cached result; None if the checkpoint cannot be read."""
    try:
        files = [checkpoint, *(checkpoint / name for name in _WEIGHTS)] if checkpoint.is_dir() else [checkpoint]
        status = [file.stat() for file in files if file.exists()][-1]
    except (OSError, IndexError):
        return None
    return str(checkpoint.absolute()), status.st_size, status.st_mtime_ns, tuple(options)


def _of_run(checkpoint: Path, row: RunSummary) -> Inspected:
    """Describe a checkpoint of a run by the files of the run."""
    hierarchical = set(row.best_iou) == {"background", "target", "other"}
    try:
        size = checkpoint.stat().st_size
    except OSError as error:
        return Inspected(str(checkpoint), run=row.id, mistake=f"it cannot be read: {error.strerror}")
    return Inspected(
        path=str(checkpoint),
        run=row.id,
        architecture=row.architecture or "",
        encoder=row.encoder or "",
        decoder_channels=row.decoder_channels,
        task="hierarchical" if hierarchical else "",
        classes=len(row.best_iou) or None,
        class_names=tuple(row.best_iou),
        parameters=row.parameters,
        parameters_used=row.parameters_used,
        container="run",
        bytes=size,
        miou=row.best_miou if checkpoint == Run(row.path).best else None,
        iou=row.best_iou if checkpoint == Run(row.path).best else {},
    )


def _placeless(message: str) -> str:
    """A message without the line that repeats the name of the file."""
    return "\n".join(line.strip() for line in message.splitlines() if not line.startswith("  where: "))


def _read(checkpoint: Path, answer: Mapping[str, Any]) -> Inspected:
    """Convert a result of the engine; missing and invalid values become unknown."""
    widths = answer.get("decoder_channels")
    return Inspected(
        path=str(checkpoint),
        architecture=_text(answer, "architecture"),
        encoder=_text(answer, "encoder"),
        decoder_channels=widths if isinstance(widths, int | list) else None,
        task=_text(answer, "task"),
        classes=_count(answer, "classes"),
        class_names=_texts(answer, "class_names"),
        parameters=_count(answer, "parameters"),
        parameters_used=_count(answer, "parameters_used"),
        family=_text(answer, "family"),
        input=_text(answer, "input") or _input(answer),
        container=_text(answer, "container"),
        ignored_keys=_texts(answer, "ignored_keys"),
        bytes=_count(answer, "bytes"),
    )


def _input(answer: Mapping[str, Any]) -> str:
    """The images that a network takes, if they are not RGB images in the normalisation of the data."""
    channels, statistics = _count(answer, "in_channels"), [answer.get("mean"), answer.get("std")]
    words = [] if channels in (None, 3) else [f"{channels} channels" if channels != 1 else "1 channel"]
    words += ["BGR"] if answer.get("bgr") is True else []
    for name, values in zip(("mean", "std"), statistics, strict=True):
        if isinstance(values, list) and all(isinstance(value, int | float) for value in values):
            words.append(f"{name} {' '.join(f'{value:.4g}' for value in values)}")
    return ", ".join(words)


def _text(answer: Mapping[str, Any], key: str) -> str:
    value = answer.get(key)
    return value if isinstance(value, str) else ""


def _count(answer: Mapping[str, Any], key: str) -> int | None:
    value = answer.get(key)
    return value if isinstance(value, int) else None


def _texts(answer: Mapping[str, Any], key: str) -> list[str]:
    value = answer.get(key)
    return [str(item) for item in value] if isinstance(value, list) else []


def _load(file: Path) -> dict[CheckKey, Inspected]:
    try:
        body = parse_json(read_file(file, most=MOST_BYTES))
    except (OSError, ValueError):  # absent or damaged: the cache is optional
        return {}
    if not isinstance(body, dict) or body.get("version") != kdtui.__version__:
        return {}
    answers: dict[CheckKey, Inspected] = {}
    entries = body.get("files")
    for entry in entries if isinstance(entries, list) else []:
        try:
            path, size, changed, options = entry["key"]
            answers[(str(path), int(size), int(changed), tuple(map(str, options)))] = _read(
                Path(entry["found"]["path"]), entry["found"]
            )
        except (KeyError, TypeError, ValueError):  # skip only the damaged entry
            continue
    return answers
