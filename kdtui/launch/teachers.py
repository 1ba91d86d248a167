"""Resolve RUN|FILE arguments, teachers and shorthand options to runs, files and profiles."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdtui import catalog
from kdtui.errors import AmbiguousRun, RunNotFound, UsageError
from kdtui.profile.find import OF_RUN, expanded
from kdtui.profile.settings import SETTINGS, toml
from kdtui.store.run import Run
from kdtui.store.state import LIVE, RunSummary, State
from kdtui.store.store import RunStore
from kdtui.text import clean, is_utf8

if TYPE_CHECKING:
    from kdtui.profile import Profile


_TAG = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:+=-]{0,39}")


def check_tags(tags: Sequence[str]) -> None:
    """Check that tags are valid in a profile.

    Raises:
        UsageError: One of them is not valid.
    """
    for tag in tags:
        if _TAG.fullmatch(tag) is None:
            raise UsageError(
                "invalid tag",
                where="--tag",
                found=clean(tag)[:80],
                allowed="up to 40 letters, digits and . _ : + = -, starting with a letter or digit",
                hint="kdtui note RUN TEXT keeps any text",
            )


@dataclass(frozen=True)
class CheckpointSource:
    """The run or file that a RUN|FILE argument refers to.

    Attributes:
        run: The run, or the run that the file belongs to; None for an external file.
        path: The file or folder as given; None if the argument is a run's name or folder.
        note: Why the run was chosen if a file has the same name; otherwise empty.
    """

    run: Run | None
    path: Path | None = None
    note: str = ""


def source(text: str, store: RunStore) -> CheckpointSource:
    """Resolve a RUN|FILE argument.

    A text with a path separator is a path. Any other text is looked up as a run by id, name or prefix, and as a path
    only if no run matches: a folder with a run's name does not hide the run.

    Raises:
        RunNotFound: Neither a run nor a path.
        AmbiguousRun: Several runs match.
        UsageError: The path is not accessible.
    """
    path = _there(text)
    if path is not None and is_path(text):
        return _of_path(path)
    try:
        run = store.find(text)
    except RunNotFound:
        if path is not None:
            return _of_path(path)
        if is_path(text):
            raise RunNotFound(
                "no such file or folder", found=text, allowed="a path, or a run", hint="`kdtui runs` lists the runs"
            ) from None
        raise
    if path is None or path.resolve() == run.path.resolve():
        return CheckpointSource(run)
    kind = "folder" if path.is_dir() else "file"
    return CheckpointSource(run, note=f"'{text}' is both a run and a {kind}; using the run (./{text} means the {kind})")


def is_path(text: str) -> bool:
    """Whether a text is certainly a path: it has a separator, or begins with ``~``."""
    return os.sep in text or text.startswith("~") or text in (".", "..")


def _there(text: str) -> Path | None:
    path = expanded(text)
    try:
        return path if path.exists() else None
    except OSError as error:
        raise UsageError("cannot access this path", where=text, found=error.strerror) from error


def _of_path(path: Path) -> CheckpointSource:
    from kdtui.store.run import Run

    if (path / "profile.toml").is_file():
        return CheckpointSource(Run(path.absolute()))
    return CheckpointSource(owner(path), path)


def expand(texts: Sequence[str], store: RunStore, expression: str = "") -> list[str]:
    """Expand RUN arguments so that each refers to one run or file; names of several runs and groups become their ids.

    Args:
        texts: As given; empty with an ``expression`` means every run.
        store: The run store to search.
        expression: A filter that every run has to match.

    Raises:
        UsageError: There is no argument, or nothing matches.
        AmbiguousRun: A text is the prefix of several ids and not a name.
        FilterError: The filter is not valid.
    """
    from kdtui.store.filter import parse

    if not texts and not expression:
        raise UsageError("no run given", hint="name a run, or select runs with --filter EXPR")
    matches = parse(expression)
    rows = store.summaries() if expression else []
    matching = {row.path.name for row in rows if matches(row)}
    if expression and not texts:
        chosen = [row.path.name for row in rows if row.path.name in matching]
    else:
        chosen = _expanded_runs(texts, store)
        if expression:
            chosen = [one for one in chosen if not is_path(one) and store.find(one).id in matching]
    if not chosen:
        raise UsageError("no run matches the filter", found=expression, hint="try it with kdtui runs --filter EXPR")
    return chosen


def _expanded_runs(texts: Sequence[str], store: RunStore) -> list[str]:
    try:
        store.find_all(texts)
    except (AmbiguousRun, RunNotFound):
        return [one for text in texts for one in _expanded(text, store)]
    return list(texts)


def _expanded(text: str, store: RunStore) -> list[str]:
    try:
        store.find(text)
    except AmbiguousRun:
        named = [row.path.name for row in store.summaries() if row.name == text]
        if not named:  # the prefix of several ids
            raise
        return named
    except RunNotFound:  # a group, a sweep, a file, or an error that the command reports
        return [row.path.name for row in store.summaries() if text in (row.group, row.sweep)] or [text]
    return [text]


@dataclass(frozen=True)
class TeacherChoice:
    """A teacher: a checkpoint, and the run that it belongs to, if any.

    Attributes:
        note: Why the run was chosen if a run and a file have the same name.
        others: Further teachers.
    """

    checkpoint: Path
    run: Run | None = None
    note: str = ""
    others: tuple[TeacherChoice, ...] = ()

    def sets(self) -> list[str]:
        """The ``--set`` texts that enable distillation from this teacher and the others, and from no further one."""
        return [
            f"teacher.checkpoint={toml(str(self.checkpoint))}",
            f"teacher.ensemble={toml([{'checkpoint': str(one.checkpoint)} for one in self.others])}",
            "distillation.enabled=true",
        ]


def owner(checkpoint: Path) -> Run | None:
    """The run whose folder contains a checkpoint; None for a checkpoint outside of runs."""
    from kdtui.store.run import Run

    run = Run(checkpoint.absolute().parent.parent)
    try:
        return run if checkpoint.parent.name == run.checkpoints.name and run.manifest_path.is_file() else None
    except OSError:  # the folder is not accessible
        return None


def find_teachers(texts: Sequence[str], store: RunStore) -> TeacherChoice:
    """Resolve one or more texts as :func:`find_teacher` does; the first is the teacher of terms on features."""
    first, *others = (find_teacher(text, store) for text in texts)
    note = "\n".join(one.note for one in (first, *others) if one.note)
    return replace(first, note=note, others=tuple(others))


def find_teacher(text: str, store: RunStore) -> TeacherChoice:
    """Resolve a file, a folder, or a run's id, name or prefix to a teacher; ``run:NAME`` as in a profile.

    Raises:
        UsageError: It is neither, or a run without a best checkpoint.
    """
    if text.startswith(OF_RUN):
        return TeacherChoice(Path(run_checkpoint(text, store)), named_run(text, store))
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
                "the teacher's path is not UTF-8, as profiles require", found=clean(text), hint="rename the file"
            )
        return TeacherChoice(found.path.absolute(), found.run)
    assert found.run is not None
    return TeacherChoice(best_of(found.run), found.run, found.note)


def run_checkpoint(reference: str, store: RunStore, where: str = "teacher.checkpoint") -> str:
    """The path of the best checkpoint of a run, or ``run:ID`` for a run that is queued or running."""
    run = named_run(reference, store, where)
    return f"{OF_RUN}{run.id}" if store.summary(run).state in LIVE else str(best_of(run).absolute())


def named_run(reference: str, store: RunStore, where: str = "teacher.checkpoint") -> Run:
    """The run that ``run:NAME`` names: of several of that name the newest finished one, else the newest live one.

    Args:
        reference: ``run:NAME``.
        store: The run store to search.
        where: Key of the profile that names it.

    Raises:
        UsageError: There is none.
    """
    name = reference.removeprefix(OF_RUN)
    try:
        return store.find(name)
    except AmbiguousRun as error:
        rows = [row for row in store.summaries() if row.name == name]
        chosen = next((row for row in reversed(rows) if row.state is State.FINISHED), None) or next(
            (row for row in reversed(rows) if row.state in LIVE), None
        )
        if chosen is not None:
            return Run(chosen.path)
        raise AmbiguousRun(error.what, where=where, found=reference, hint=error.hint) from error
    except RunNotFound as error:
        raise RunNotFound(
            "this run does not exist",
            where=where,
            found=reference,
            allowed=error.allowed,
            hint=f"kdtui train {name} PROFILE trains a profile of this name first; `kdtui runs` lists the runs",
        ) from error


def _offered(error: RunNotFound) -> str | None:
    """Runs with a similar name; None if the text cannot be a run, for example a path."""
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
    """The complete profile to run: teacher, options and ``--set`` applied in this order, paths absolute.

    :func:`kdtui.launch.references.linked` resolves the runs that it names.

    Args:
        name: Name or file of the profile.
        sets: ``--set`` texts.
        teacher: The teacher, if one was chosen.

    Raises:
        UsageError: Distillation is enabled without a teacher.
    """
    from kdtui.profile import load
    from kdtui.profile.find import locate

    profile = load(name, [*(teacher.sets() if teacher else []), *sets])
    repeats_run = (locate(name).parent / "run.json").is_file()
    return ready(profile if repeats_run else with_normalisation(profile))


def ready(profile: Profile) -> Profile:
    """The profile with absolute paths, after checking that distillation has a teacher.

    Raises:
        UsageError: Distillation is enabled without a teacher, or the kind of network does not take the data.
    """
    from kdtui.profile import absolute

    profile = absolute(profile)
    profile.student.check_data(profile.data)
    if profile.distillation.enabled and profile.teacher.checkpoint is None:
        raise UsageError(
            f"profile '{profile.name}' enables distillation but has no teacher",
            where="teacher.checkpoint",
            allowed="a checkpoint or a run",
            hint="--teacher CKPT|RUN, or --set distillation.enabled=false to train the student alone",
        )
    return profile


def with_normalisation(profile: Profile, source: Profile | None = None) -> Profile:
    """The profile with `data.mean` and `data.std` of the student's initial weights, if they are not the default.

    They are only written if the profile sets neither, so that profiles of earlier and later runs are equal.

    Args:
        profile: The profile.
        source: The profile whose run trains the weights; default: that of the run whose checkpoint they are.
    """
    data = profile.data
    if data.pipeline == 1 or data.mean or data.std:
        return profile
    values = {
        key: value[::-1] if data.image_bgr else value
        for key, value in zip(("mean", "std"), _trained_with(profile, source) or (), strict=False)
        if isinstance(value, tuple) and len(value) == data.image_channels
    }
    return profile.model_copy(update={"data": data.model_copy(update=values)}) if values else profile


def _trained_with(profile: Profile, source: Profile | None) -> tuple[tuple[float, ...] | str | None, ...] | None:
    """Mean and standard deviation, for RGB, of published weights or of those of a run; None for the default."""
    weights = getattr(profile.student, "weights", None)
    if source is None and weights is not None and (run := owner(Path(weights))) is not None:
        source = run.profile()
    if source is not None:
        values = (source.data.mean, source.data.std)
        return tuple(value[::-1] if value and source.data.image_bgr else value for value in values)
    if getattr(profile.student, "encoder_weights", "none") == "none":
        return None
    return catalog.normalisation(getattr(profile.student, "encoder", ""))


def student_sets(student: str, profile: str | None = None) -> list[str]:
    """The ``--set`` texts of a student.

    Args:
        student: An encoder, or the name of a kind of network other than the default.
        profile: The profile to which they belong, whose kind of network stays if it has an encoder; default: none.

    Raises:
        ProfileError: The profile cannot be read.
    """
    from kdtui.profile.loading import own_kind
    from kdtui.profile.network_tables import network_kinds

    kinds = {str(table.model_fields["kind"].default): table for table in network_kinds()}
    default, *others = kinds
    if student in others:
        return [f"student.kind={json.dumps(student)}"]
    own = default if profile is None else own_kind(profile, "student")
    kind = own if own in kinds and "encoder" in kinds[own].model_fields else default
    return [f"student.kind={json.dumps(kind)}", SETTINGS["encoder"].assignment(student)]


def recipe(teacher: TeacherChoice, student: str, sets: Sequence[str], *, named: bool) -> Profile:
    """The profile of a student that is distilled with the data, task and training settings of its teacher's run.

    Args:
        teacher: Must belong to a run.
        student: Its encoder or kind, for the name.
        sets: Further ``--set`` texts.
        named: Whether ``sets`` contains the run's name.

    Raises:
        UsageError: The teacher belongs to no run, so its data are unknown.
    """
    from kdtui.profile import amend

    if teacher.run is None:
        raise UsageError(
            "this teacher belongs to no run, so its data are unknown",
            where=teacher.checkpoint,
            hint="choose the data with --profile NAME; kdtui profiles lists the profiles",
        )
    own = teacher.run.profile()
    plain = own.model_copy(update={"data": own.data.model_copy(update={"mean": None, "std": None})})
    if with_normalisation(plain) == own:  # it was that of the teacher's initial weights
        own = plain
    if getattr(own.student, "weights", None) is not None:  # they were those of the teacher
        own = own.model_copy(update={"student": own.student.model_copy(update={"weights": None, "weights_part": None})})
    name = f"{student}-from-{own.name}"[:80]  # the longest allowed name
    defaults = [] if named else [f'name="{name}"']
    defaults += [f'description="{student} distilled from {own.name}"', "tags=[]"]
    profile = amend(own, [*defaults, *teacher.sets(), *sets], what=teacher.run.id)
    return ready(with_normalisation(profile))


@dataclass(frozen=True)
class ResumePoint:
    """A checkpoint to start from.

    Attributes:
        note: Why this checkpoint was chosen, if there were several.
    """

    checkpoint: Path
    note: str = ""


def resume_point(text: str, store: RunStore) -> ResumePoint:
    """Resolve ``--resume``: a file, or the last usable checkpoint of a run.

    Raises:
        UsageError: It is neither, or the run has no usable checkpoint.
    """
    from kdtui.store.checkpoint_files import damage

    try:
        found = source(text, store)
    except RunNotFound as error:
        raise UsageError(
            "this checkpoint is neither a file nor a run",
            where="--resume",
            found=text,
            allowed=_offered(error) or "a checkpoint of kdtui, or a run's id, name or unique prefix",
            hint="kdtui runs lists the runs",
        ) from error
    if found.path is not None:
        if not found.path.is_file():
            raise UsageError("this folder is not a run", where="--resume", found=text, hint="kdtui runs lists the runs")
        return ResumePoint(found.path.absolute())
    run = found.run
    assert run is not None
    passed_over: list[str] = []
    for checkpoint in (run.last, *reversed(run.epoch_checkpoints())):
        problem = damage(checkpoint)
        if problem is None:
            choice = f"{'; '.join(passed_over)}: --resume starts from {checkpoint.name}" if passed_over else ""
            return ResumePoint(checkpoint, "; ".join(note for note in (found.note, choice) if note))
        passed_over.append(f"{checkpoint.name} is {problem}")
    best = damage(run.best)
    raise UsageError(
        "this run has no usable checkpoint to start from",
        where=run.checkpoints,
        found="; ".join([*passed_over, f"{run.best.name} is {best or 'intact, but has weights only'}"]),
        allowed=f"an intact {run.last.name} or checkpoint_epoch_N.pth",
        hint=f"kdtui show {run.id} shows its state"
        if best
        else f"--resume {run.best} starts from the best weights, without the training state",
    )


ENDINGS = frozenset({".pth", ".pt", ".ckpt", ".safetensors", ".bin", ".onnx"})


@dataclass(frozen=True)
class TeacherRow:
    """One checkpoint; values that only its tensors contain are None for a file outside of runs.

    Attributes:
        checkpoint: The file.
        run: Id of the run it belongs to.
        miou: Best validation mIoU of that run.
        bytes: Size of the file.
        family: Library or format of the network; None unless the file was inspected.
        classes: Number of its classes; None unless the file was inspected.
        mistake: Why an inspected file cannot teach; empty if it can.
    """

    checkpoint: str
    run: str | None
    encoder: str | None
    architecture: str | None
    parameters: int | None
    miou: float | None
    bytes: int
    family: str | None = None
    classes: int | None = None
    mistake: str = ""


def inspected(rows: Sequence[TeacherRow], ask: Callable[..., dict[str, Any]]) -> list[TeacherRow]:
    """The rows with what the files outside of runs contain; one process reads all of them.

    Args:
        rows: From :func:`teacher_rows`.
        ask: Runs an engine command.
    """
    files = [row.checkpoint for row in rows if row.run is None]
    answers = dict(zip(files, ask("describe", *files)["files"], strict=True)) if files else {}
    return [_described(row, answers.get(row.checkpoint)) for row in rows]


def _described(row: TeacherRow, answer: dict[str, Any] | None) -> TeacherRow:
    if answer is None:
        return row
    if "error" in answer:
        return replace(row, mistake=str(answer["error"]["message"]))
    keys = ("encoder", "architecture", "parameters", "family", "classes")
    return replace(row, **{key: answer[key] for key in keys})


def teacher_rows(
    store: RunStore, folders: Iterable[Path] = (), summaries: Iterable[RunSummary] | None = None
) -> list[TeacherRow]:
    """The checkpoints of the store's runs, oldest first, then those below ``folders``.

    Args:
        store: The run store.
        folders: Folders to search recursively.
        summaries: Summaries of the store's runs, if already read.

    Raises:
        UsageError: One of the folders does not exist.
    """
    rows = [row for run in (store.summaries() if summaries is None else summaries) if (row := _of_run(run)) is not None]
    for folder in folders:
        if not folder.is_dir():
            raise UsageError("the folder does not exist", found=folder)
        rows += _below(folder)
    return rows


def _of_run(run: RunSummary) -> TeacherRow | None:
    best = Run(run.path).best
    try:
        size = best.stat().st_size
    except OSError:  # none yet, or removed since the listing
        return None
    return TeacherRow(str(best), run.id, run.encoder, run.architecture, run.parameters, run.best_miou, size)


def _below(folder: Path) -> Iterator[TeacherRow]:
    for path in sorted(folder.rglob("*")):
        if path.suffix in ENDINGS and path.is_file() and os.access(path, os.R_OK) and owner(path) is None:
            yield TeacherRow(str(path), None, None, None, None, None, path.stat().st_size)
