"""From words to runs, files and profiles: what RUN|FILE means, the teacher of a run, and shorthands as ``--set``."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kdtui.errors import AmbiguousRun, RunNotFound, UsageError
from kdtui.profile.find import expanded
from kdtui.store.run import Run
from kdtui.store.state import RunSummary
from kdtui.store.store import RunStore
from kdtui.text import clean, is_utf8

if TYPE_CHECKING:
    from kdtui.profile import Profile


_TAG = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:+=-]{0,39}")


def check_tags(tags: Sequence[str]) -> None:
    """Refuse what a profile could not hold as a tag.

    Raises:
        UsageError: One of them is no tag.
    """
    for tag in tags:
        if _TAG.fullmatch(tag) is None:
            raise UsageError(
                "this is no tag",
                where="--tag",
                found=clean(tag)[:80],
                allowed="letters, digits and . _ : + = -, the first a letter or digit, 40 at most",
                hint="kdtui note RUN TEXT keeps any words",
            )


@dataclass(frozen=True)
class Source:
    """What a RUN|FILE argument means.

    Attributes:
        run: The run, or the run that the file belongs to; None for a foreign file.
        path: The file or folder as it was written; None where a run is meant, by its name or by its folder.
        note: Why the run was chosen where a file has the same name; empty elsewhere.
    """

    run: Run | None
    path: Path | None = None
    note: str = ""


def source(text: str, store: RunStore) -> Source:
    """What a RUN|FILE argument means.

    A text with a separator is a path. Any other text is a run first, by id, name or prefix, and a path only where no
    run matches: a folder with a run's name does not hide the run.

    Raises:
        RunNotFound: Neither a run nor a path.
        AmbiguousRun: Several runs match.
        UsageError: The path cannot be looked at.
    """
    path = _there(text)
    if path is not None and is_path(text):
        return _of_path(path)
    try:
        run = store.find(text)
    except RunNotFound:
        if path is None:
            raise
        return _of_path(path)
    if path is None or path.resolve() == run.path.resolve():
        return Source(run)
    kind = "folder" if path.is_dir() else "file"
    return Source(run, note=f"'{text}' is a run and a {kind} here; the run is used, ./{text} means the {kind}")


def is_path(text: str) -> bool:
    """Whether a text can be nothing but a path: it has a separator, or begins with ``~``."""
    return os.sep in text or text.startswith("~") or text in (".", "..")


def _there(text: str) -> Path | None:
    path = expanded(text)
    try:
        return path if path.exists() else None
    except OSError as error:
        raise UsageError("this path cannot be looked at", found=text, allowed=error.strerror) from error


def _of_path(path: Path) -> Source:
    from kdtui.store.run import Run

    if (path / "profile.toml").is_file():
        return Source(Run(path.absolute()))
    return Source(owner(path), path)


def expand(texts: Sequence[str], store: RunStore, expression: str = "") -> list[str]:
    """RUN arguments of which each means one run or one file: a name of several runs stands for all of them.

    Args:
        texts: As written; none with an ``expression`` means every run.
        store: Where runs are looked for.
        expression: A filter that every run has to match.

    Raises:
        UsageError: Nothing is named, or nothing matches.
        AmbiguousRun: Several runs begin with a text that is no name.
        FilterError: The filter cannot be read.
    """
    from kdtui.store.filter import parse

    if not texts and not expression:
        raise UsageError("no run is named", hint="name a run, or choose runs with --filter EXPR")
    matches = parse(expression)
    rows = store.summaries() if expression else []
    matching = {row.path.name for row in rows if matches(row)}
    if expression and not texts:
        chosen = [row.path.name for row in rows if row.path.name in matching]
    else:
        chosen = _each_run(texts, store)
        if expression:
            chosen = [one for one in chosen if not is_path(one) and store.find(one).id in matching]
    if not chosen:
        raise UsageError(
            "no run matches the filter", found=expression, hint="kdtui runs --filter EXPR lists those that do"
        )
    return chosen


def _each_run(texts: Sequence[str], store: RunStore) -> list[str]:
    try:
        store.find_all(texts)
    except (AmbiguousRun, RunNotFound):
        return [one for text in texts for one in _each(text, store)]
    return list(texts)


def _each(text: str, store: RunStore) -> list[str]:
    try:
        store.find(text)
    except AmbiguousRun:
        named = [row.path.name for row in store.summaries() if row.name == text]
        if not named:  # the beginning of several ids
            raise
        return named
    except RunNotFound:  # a file, or what the command itself reports
        pass
    return [text]


@dataclass(frozen=True)
class TeacherChoice:
    """A teacher: a checkpoint, and the run it came from when it is one of ours.

    Attributes:
        note: Why this one was chosen where a run and a file have the same name.
    """

    checkpoint: Path
    run: Run | None = None
    note: str = ""

    def sets(self) -> list[str]:
        """What turns distillation from this teacher on."""
        return [f"teacher.checkpoint={json.dumps(str(self.checkpoint))}", "distillation.enabled=true"]


@dataclass(frozen=True)
class Shorthands:
    """Flags that are short for ``--set``; None where not given."""

    temperature: float | None = None
    alpha: float | None = None
    student_encoder: str | None = None
    epochs: int | None = None
    batch_size: int | None = None
    seed: int | None = None
    name: str | None = None
    learning_rate: float | None = None

    def sets(self) -> list[str]:
        """The same as ``--set`` texts."""
        keys = {
            "distillation.temperature": self.temperature,
            "distillation.alpha": self.alpha,
            "student.encoder": self.student_encoder,
            "training.epochs": self.epochs,
            "training.batch_size": self.batch_size,
            "training.learning_rate": self.learning_rate,
            "seed": self.seed,
            "name": self.name,
        }
        # json.dumps of a text or a finite number is also its TOML; nan and inf are TOML as Python spells them.
        return [
            f"{key}={json.dumps(value) if isinstance(value, str) else value}"
            for key, value in keys.items()
            if value is not None
        ]


def owner(checkpoint: Path) -> Run | None:
    """The run whose folder a checkpoint lies in."""
    from kdtui.store.run import Run

    run = Run(checkpoint.absolute().parent.parent)
    try:
        return run if checkpoint.parent.name == run.checkpoints.name and run.manifest_path.is_file() else None
    except OSError:  # a folder that nobody may enter is no run of ours
        return None


def find_teacher(text: str, store: RunStore) -> TeacherChoice:
    """The teacher behind a file, a folder or a run's id, name or prefix.

    Raises:
        UsageError: It is neither, or a run without a best checkpoint.
    """
    try:
        found = source(text, store)
    except RunNotFound as error:
        raise UsageError(
            "this teacher is neither a file nor a run",
            found=text,
            allowed=_offered(error) or "a checkpoint, a save_pretrained folder, or a run's id, name or unique prefix",
            hint="kdtui teachers lists the checkpoints of this run store",
        ) from error
    if found.path is not None:
        if not is_utf8(str(found.path.absolute())):
            raise UsageError(
                "the teacher's path is not UTF-8, and a profile holds UTF-8 text", found=clean(text), hint="rename it"
            )
        return TeacherChoice(found.path.absolute(), found.run)
    assert found.run is not None
    return TeacherChoice(best_of(found.run), found.run, found.note)


def _offered(error: RunNotFound) -> str | None:
    """The runs that are spelled alike; None where the text could not be a run's at all, as a path."""
    return error.allowed if error.found is None else None


def best_of(run: Run) -> Path:
    """The best checkpoint of a run.

    Raises:
        UsageError: It has none yet.
    """
    if not run.best.is_file():
        raise UsageError(
            "this run has no best checkpoint yet",
            where=run.checkpoints,
            found=run.id,
            hint=f"kdtui show {run.id} shows its state",
        )
    return run.best


def prepare(name: str, sets: Sequence[str], teacher: TeacherChoice | None) -> Profile:
    """The profile to run, complete: teacher, flags and ``--set`` laid on top in this order, paths absolute.

    Raises:
        UsageError: It distils but names no teacher.
    """
    from kdtui.profile import absolute, load

    return ready(absolute(load(name, [*(teacher.sets() if teacher else []), *sets])))


def ready(profile: Profile) -> Profile:
    """The same profile, once it is sure that a distilling one has a teacher.

    Raises:
        UsageError: It has none.
    """
    if profile.distillation.enabled and profile.teacher.checkpoint is None:
        raise UsageError(
            f"profile '{profile.name}' distils but names no teacher",
            where="teacher.checkpoint",
            allowed="a checkpoint or a run",
            hint="--teacher CKPT|RUN, or --set distillation.enabled=false to train the student alone",
        )
    return profile


def recipe(teacher: TeacherChoice, student: str, sets: Sequence[str], *, named: bool) -> Profile:
    """The profile of a student distilled by the recipe of its teacher's own run: data, task, training.

    Args:
        teacher: Must have a run.
        student: The encoder.
        sets: What else is laid on top.
        named: Whether ``sets`` names the run already.

    Raises:
        UsageError: The teacher is no run of ours, so its data are not known.
    """
    from kdtui.profile import absolute, amend

    if teacher.run is None:
        raise UsageError(
            "this teacher is no run of ours, so its data are not known",
            where=teacher.checkpoint,
            hint="--profile NAME says what to train on; kdtui profiles lists them",
        )
    own = teacher.run.profile()
    name = f"{student}-from-{own.name}"[:80]  # as long as a name may be
    called = [] if named else [f'name="{name}"']
    told = [f'description="{student} distilled from {own.name}"', "tags=[]"]
    return ready(absolute(amend(own, [*called, *told, *teacher.sets(), *sets], what=teacher.run.id)))


@dataclass(frozen=True)
class ResumePoint:
    """A checkpoint to start from.

    Attributes:
        note: Why this one was chosen where a run and a file have the same name.
    """

    checkpoint: Path
    note: str = ""


def resume_point(text: str, store: RunStore) -> ResumePoint:
    """The checkpoint that ``--resume`` means: a file, or a run's last one.

    Raises:
        UsageError: It is neither, or the run has none that is whole.
    """
    from kdtui.store.checkpoint_files import damage

    try:
        found = source(text, store)
    except RunNotFound as error:
        raise UsageError(
            "this is neither a file nor a run to start from",
            where="--resume",
            found=text,
            allowed=_offered(error) or "a checkpoint of kdtui, or a run's id, name or unique prefix",
            hint="kdtui runs lists the runs",
        ) from error
    if found.path is not None:
        if not found.path.is_file():
            raise UsageError(
                "this folder is no run to start from", where="--resume", found=text, hint="kdtui runs lists the runs"
            )
        return ResumePoint(found.path.absolute())
    run = found.run
    assert run is not None
    passed_over: list[str] = []
    for checkpoint in (run.last, *reversed(run.epoch_checkpoints())):
        problem = damage(checkpoint)
        if problem is None:
            said = f"{'; '.join(passed_over)}: --resume starts from {checkpoint.name}" if passed_over else ""
            return ResumePoint(checkpoint, "; ".join(note for note in (found.note, said) if note))
        passed_over.append(f"{checkpoint.name} is {problem}")
    best = damage(run.best)
    raise UsageError(
        "this run has no whole checkpoint to start from",
        where=run.checkpoints,
        found="; ".join([*passed_over, f"{run.best.name} is {best or 'whole, but weights alone'}"]),
        allowed=f"a whole {run.last.name} or checkpoint_epoch_N.pth",
        hint=f"kdtui show {run.id} shows its state"
        if best
        else f"--resume {run.best} starts from the best weights, without the state of the training",
    )


ENDINGS = frozenset({".pth", ".pt", ".ckpt", ".safetensors", ".bin"})


@dataclass(frozen=True)
class TeacherRow:
    """One checkpoint; what only its tensors tell is None for a file that is no run's.

    Attributes:
        checkpoint: The file.
        run: Id of the run it belongs to.
        miou: Best validation mIoU of that run.
        bytes: Size of the file.
    """

    checkpoint: str
    run: str | None
    encoder: str | None
    architecture: str | None
    parameters: int | None
    miou: float | None
    bytes: int


def teacher_rows(
    store: RunStore, folders: Iterable[Path] = (), summaries: Iterable[RunSummary] | None = None
) -> list[TeacherRow]:
    """The checkpoints of the store's runs, oldest first, then those below ``folders``.

    Args:
        store: Whose runs are looked at.
        folders: Searched with everything below them.
        summaries: The store's rows where they are known already.

    Raises:
        UsageError: One of the folders is none.
    """
    rows = [row for run in (store.summaries() if summaries is None else summaries) if (row := _of_run(run)) is not None]
    for folder in folders:
        if not folder.is_dir():
            raise UsageError("no such folder", found=folder)
        rows += _below(folder)
    return rows


def _of_run(run: RunSummary) -> TeacherRow | None:
    best = Run(run.path).best
    try:
        size = best.stat().st_size
    except OSError:  # none yet, or removed meanwhile
        return None
    return TeacherRow(str(best), run.id, run.encoder, run.architecture, run.parameters, run.best_miou, size)


def _below(folder: Path) -> Iterator[TeacherRow]:
    for path in sorted(folder.rglob("*")):
        if path.suffix in ENDINGS and path.is_file() and os.access(path, os.R_OK) and owner(path) is None:
            yield TeacherRow(str(path), None, None, None, None, None, path.stat().st_size)
