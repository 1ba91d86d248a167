"""Export requests, and the engine process that makes the files."""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdtui.errors import CheckpointError, Interrupted, KdtuiError, RunNotFound, UsageError
from kdtui.export_options import ExportOptions, check_classes, checked
from kdtui.launch.engine_process import EngineStep, converse, reported
from kdtui.launch.moved import Moved, check_places, moved, profile_file
from kdtui.launch.teachers import source
from kdtui.store.export_files import clear_temporary, export_path
from kdtui.store.run import Run

if TYPE_CHECKING:
    from kdtui.store.store import RunStore


@dataclass(frozen=True)
class ExternalCheckpoint:
    """Information that a checkpoint from outside a run store may lack.

    Attributes:
        task: ``hierarchical`` or ``semantic``; needed for four channels, which both may have.
        architecture: Name of the decoder.
        encoder: Name of the encoder.
        classes: Class names in the order of the channels.
        profile: Profile with data of these classes.
    """

    task: str | None = None
    architecture: str | None = None
    encoder: str | None = None
    classes: tuple[str, ...] = ()
    profile: str | None = None

    def flags(self) -> list[str]:
        """The same as options of ``kdtui export``."""
        values = {
            "--classes": ",".join(self.classes) or None,
            "--profile": self.profile,
            "--task": self.task,
            "--architecture": self.architecture,
            "--encoder": self.encoder,
        }
        return [word for flag, value in values.items() if value is not None for word in (flag, value)]


@dataclass(frozen=True)
class ExportRequest:
    """One export to make.

    Attributes:
        checkpoint: The weights.
        run: The run of the checkpoint, or None for an external checkpoint.
        target: The ONNX file.
        options: Options of the export.
        external: Information about an external checkpoint.
        note: Why this source was chosen if a run and a file have the same name.
        sets: ``--set`` texts: new locations of the run's data, kept in the run once the export is made.
    """

    checkpoint: Path
    run: Run | None
    target: Path
    options: ExportOptions
    external: ExternalCheckpoint = ExternalCheckpoint()
    note: str = ""
    sets: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Name of the source for display: the run's id or the file's name."""
        return self.run.id if self.run is not None else self.checkpoint.name


def export_request(
    text: str,
    store: RunStore,
    options: ExportOptions,
    *,
    external: ExternalCheckpoint | None = None,
    folder: Path | None = None,
    sets: Sequence[str] = (),
) -> ExportRequest:
    """Create the request for a run's id, name or prefix, or for a checkpoint.

    Args:
        text: The run or the file; a file in a run's folder belongs to that run.
        store: The run store to search.
        options: Options of the export.
        external: Information about an external checkpoint.
        folder: Folder for the ONNX file; default the one of the checkpoint.
        sets: ``--set`` texts: new locations of the run's data.

    Raises:
        RunNotFound: ``text`` is neither a run nor a file.
        CheckpointError: An ONNX file.
        UsageError: The run has no such checkpoint, or options do not fit the kind of source.
    """
    options = checked(options)
    if external is not None:
        check_classes(external.classes)
    try:
        found = source(text, store)
    except RunNotFound as error:
        raise RunNotFound(
            f"'{text}' is neither a run nor a checkpoint", where=error.where, allowed=error.allowed, hint=error.hint
        ) from error
    run = found.run
    if found.path is not None:
        checkpoint = found.path.absolute()
        if checkpoint.suffix.lower() == ".onnx":
            name = "RUN|CHECKPOINT" if run is None else run.id
            raise CheckpointError(
                "an ONNX file has no PyTorch weights to export",
                where=checkpoint,
                allowed="runs and checkpoints",
                hint=f"`kdtui export {name}` exports the checkpoint that it was made from",
            )
    else:
        assert run is not None
        checkpoint = run.checkpoint(options.checkpoint)
        if not checkpoint.is_file():
            available = [name for name in ("best", "last", "untrained") if run.checkpoint(name).is_file()]
            available += [str(epoch) for epoch in run.epochs_on_disk()]
            raise UsageError(
                "this run has no such checkpoint",
                where=run.checkpoints,
                found=options.checkpoint,
                allowed=", ".join(available) or "none yet",
                hint=f"kdtui show {run.id} shows its state",
            )
    target = export_path(checkpoint, options.precision)
    if folder is not None:
        name = target.name if run is None else f"{run.id}-{target.name}"
        target = folder.absolute() / name
    if run is not None and external is not None and external != ExternalCheckpoint():
        raise UsageError(
            "task, classes and data of a run cannot be overridden",
            where=run.id,
            hint="omit --classes, --task, --architecture, --encoder and --profile",
        )
    if sets and run is None:
        raise UsageError(
            "--set is only for runs; this checkpoint belongs to none",
            where=checkpoint,
            found=", ".join(sets),
            hint="give the location of its data with --profile NAME",
        )
    return ExportRequest(checkpoint, run, target, options, external or ExternalCheckpoint(), found.note, tuple(sets))


def together(requests: Sequence[ExportRequest]) -> list[list[ExportRequest]]:
    """Group requests for the same network, which one engine process exports after tracing it once.

    Raises:
        UsageError: Two networks would be written to one file.
    """
    groups: dict[object, list[ExportRequest]] = {}
    targets: dict[Path, ExportRequest] = {}
    for request in requests:
        other = targets.setdefault(request.target, request)
        if other != request:
            raise UsageError(
                "two exports would have the same file name",
                where=request.target,
                found=f"{other.checkpoint}, {request.checkpoint}",
                hint="`kdtui export RUN --to FOLDER` for each of them, with another folder",
            )
        if other is not request:
            continue
        groups.setdefault(
            (request.checkpoint, request.run and request.run.path, request.external, request.sets), []
        ).append(request)
    return list(groups.values())


def export(
    requests: Sequence[ExportRequest],
    *,
    on_step: Callable[[ExportRequest, EngineStep], None] = lambda request, step: None,
    finished: Callable[[ExportRequest, dict[str, Any] | KdtuiError], None] = lambda request, outcome: None,
    cancelled: Callable[[], bool] = lambda: False,
) -> None:
    """Make the exports of one network in an engine process.

    An existing file is replaced only by a complete one; a failed export does not prevent the others.

    Args:
        requests: One group of :func:`together`.
        on_step: Called with each progress step of the engine.
        finished: Called once for each request with the report that is written next to the file, or with its error.
        cancelled: Polled ten times a second.

    Raises:
        Interrupted: It was cancelled; files that were complete before are kept.
    """
    unfinished: dict[str, ExportRequest] = {}
    for request in requests:
        try:
            _check_data(request)
        except KdtuiError as error:  # only int8 needs the training images, so other requests may still succeed
            finished(request, error)
        else:
            unfinished[str(request.target)] = request
    if not unfinished:
        return

    def step(now: EngineStep) -> None:
        request = unfinished.get(now.target)
        if request is None:
            on_step(next(iter(unfinished.values()), requests[-1]), now)
        elif now.report is None:
            on_step(request, now)
        else:
            del unfinished[now.target]
            error = now.report.get("error")
            finished(request, dict(now.report) if error is None else reported(error))

    try:
        _engine(list(unfinished.values()), step, cancelled)
    except Interrupted:
        raise
    except KdtuiError as error:
        for request in unfinished.values():
            finished(request, error)


def _check_data(request: ExportRequest) -> None:
    """Refuse an export if the run's data are not at the recorded location."""
    if request.run is not None:
        splits = ["val", *(["train"] if request.options.precision.startswith("int8") else [])]
        check_places(request.run, moved(request.run, request.sets).profile, "export", splits)


def _engine(
    requests: Sequence[ExportRequest], on_step: Callable[[EngineStep], None], cancelled: Callable[[], bool]
) -> None:
    first = requests[0]
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="kdtui-"))
        arguments = [
            word
            for request in requests
            for word in ("--file", str(request.target), json.dumps(request.options.to_json()))
        ]
        now: Moved | None = None
        if first.run is not None:
            now = moved(first.run, first.sets)
            file = stack.enter_context(profile_file(first.run, now))
            arguments += ["--run", str(first.run.path), *(["--profile", str(file)] if now.changes else [])]
        else:
            arguments += _external_options(first.external, Path(folder))
        try:
            answer = converse("export", str(first.checkpoint), *arguments, on_step=on_step, cancelled=cancelled)
            if first.run is not None and now is not None and any("error" not in report for report in answer["exports"]):
                now.record(first.run)
        finally:
            for parent in {request.target.parent for request in requests}:
                clear_temporary(parent)  # a killed engine leaves temporary files


def _external_options(external: ExternalCheckpoint, folder: Path) -> list[str]:
    arguments = replace(external, classes=(), profile=None).flags()  # the engine takes these two in another form
    if external.classes:
        arguments += ["--classes", json.dumps(list(external.classes))]
    if external.profile is not None:
        from kdtui.profile import absolute, dump, load

        file = folder / "profile.toml"
        file.write_bytes(dump(absolute(load(external.profile))))
        arguments += ["--profile", str(file)]
    return arguments


def with_precision(options: ExportOptions, precision: str) -> ExportOptions:
    """The same options with another precision."""
    return replace(options, precision=precision)
