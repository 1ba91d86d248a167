"""The teachers of a run, their teachers, and so on, up to the first ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from kdtui.errors import StoreError
from kdtui.store.files import is_safe
from kdtui.store.run import Run
from kdtui.store.scan import scan
from kdtui.store.store import RunStore
from kdtui.store.values import is_number
from kdtui.text import one_line


@dataclass(frozen=True)
class Lineage:
    """A run or a file, with its teachers.

    Attributes:
        name: Name of the run, or of the file.
        run: Id of the run; None for a file outside of runs.
        miou: Best validation mIoU of the run; if it is missing or a file, that which its student's run measured.
        checkpoint: The file that taught the student; None for the run itself.
        sha256: Hash of that file; None if unknown.
        state: Empty, or ``missing`` for a run that does not exist any more, or ``repeated`` for one that is its own
            ancestor, whose teachers are left out.
    """

    name: str
    run: str | None = None
    miou: float | None = None
    parameters: int | None = None
    encoder: str | None = None
    checkpoint: str | None = None
    sha256: str | None = None
    state: str = ""
    teachers: tuple[Lineage, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Nested JSON objects."""
        return asdict(self)

    def chains(self) -> Iterator[tuple[Lineage, ...]]:
        """Each way from a first teacher to this run; one unless some student has several teachers."""
        if not self.teachers:
            yield (self,)
        for teacher in self.teachers:
            yield from ((*chain, self) for chain in teacher.chains())

    def text(self) -> str:
        """Name, mIoU and parameters; of a file its hash."""
        facts = [
            self.state,
            "" if self.run is not None or self.sha256 is None else f"sha256 {self.sha256[:12]}",
            "" if self.miou is None else f"mIoU {self.miou:.4f}",
            "" if self.parameters is None else f"{self.parameters / 1e6:.2f} M parameters",
        ]
        known = ", ".join(fact for fact in facts if fact)
        return f"{self.run or self.name} ({known})" if known else self.run or self.name

    def lines(self) -> list[str]:
        """One line for each of :meth:`chains`; none without a teacher."""
        return [" -> ".join(one.text() for one in chain) for chain in self.chains()] if self.teachers else []


def lineage(run: Run, store: RunStore) -> Lineage:
    """The run with its teachers; folders that are missing or damaged end it."""
    return _of_run(run, store, frozenset())


def _of_run(run: Run, store: RunStore, students: frozenset[str]) -> Lineage:
    row = store.summary(run)
    entries, measured = _entries(run), _measured(run, row.distilled)
    teachers = tuple(
        _teacher(entry, measured[place] if place < len(measured) else {}, run, store, students | {run.id})
        for place, entry in enumerate(entries)
    )
    return Lineage(row.name, row.id, row.best_miou, row.parameters, row.encoder, teachers=teachers)


def _teacher(
    entry: Mapping[str, Any], measured: Mapping[str, Any], student: Run, store: RunStore, students: frozenset[str]
) -> Lineage:
    checkpoint, run_id = _text(entry, "checkpoint") or "", _text(entry, "run")
    folder = _folder(checkpoint, run_id, student)
    miou, parameters = (value if is_number(value := measured.get(key)) else None for key in ("miou", "parameters"))
    known = Lineage(
        run_id or Path(checkpoint).name,
        run_id,
        miou,
        parameters,
        _text(measured, "encoder"),
        checkpoint,
        _text(entry, "sha256") or _text(measured, "sha256"),
    )
    if folder is None:
        return replace(known, state="missing" if run_id is not None else "")
    if folder.id in students:
        return replace(known, run=one_line(folder.id), state="repeated")
    own = _of_run(folder, store, students)
    return replace(
        own,
        miou=known.miou if own.miou is None else own.miou,
        parameters=own.parameters or known.parameters,
        checkpoint=checkpoint,
        sha256=known.sha256,
    )


def _folder(checkpoint: str, run_id: str | None, student: Run) -> Run | None:
    """The run of a teacher: in the student's store, or that with the checkpoint."""
    candidates = [student.path.parent / run_id] if run_id is not None and is_safe(run_id) else []
    candidates += [Path(checkpoint).parent.parent] if Path(checkpoint).parent.name == "checkpoints" else []
    return next((Run(path) for path in candidates if (path / "run.json").is_file()), None)


def _entries(run: Run) -> list[Mapping[str, Any]]:
    """The teachers that a run records: in its manifest, else in its profile."""
    try:
        if teachers := run.manifest().teachers:
            return list(teachers)
        table = run.profile_table()
    except StoreError:  # damaged
        return []
    teacher, distillation = table.get("teacher"), table.get("distillation")
    distilled = isinstance(distillation, Mapping) and distillation.get("enabled") is True
    return [teacher] if distilled and isinstance(teacher, Mapping) and _text(teacher, "checkpoint") else []


def _measured(run: Run, distilled: bool) -> list[Mapping[str, Any]]:
    """What the run measured of its teachers, in their order."""
    try:
        started = scan(run.events_path).started if distilled else None
    except StoreError:
        return []
    teacher = started.teacher if started is not None else None
    if not isinstance(teacher, Mapping):
        return []
    ensemble = teacher.get("ensemble")
    return [one for one in ensemble if isinstance(one, Mapping)] if isinstance(ensemble, list) else [teacher]


def _text(table: Mapping[str, Any], key: str) -> str | None:
    value = table.get(key)
    return one_line(value) if isinstance(value, str) else None
