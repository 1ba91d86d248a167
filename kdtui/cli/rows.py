"""A run's summary as JSON with stable keys, as a row of a table, and as lines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from kdtui.cli.console import next_step
from kdtui.store.checkpoint_files import checkpoint_sizes, disk_usage
from kdtui.store.files import printable
from kdtui.store.run import Run
from kdtui.text import mebibytes, number, percent, span

if TYPE_CHECKING:
    from kdtui.store.state import RunSummary

RUN_HEADER = ("", "run", "state", "student", "T", "α", "seed", "epoch", "loss", "mIoU", "last", "%tchr", "eta", "")
RUN_RIGHT = frozenset({"T", "α", "seed", "epoch", "loss", "mIoU", "last", "%tchr", "eta"})

RUN_DROP = ("last", "loss", "α", "T", "student", "eta", "%tchr", "seed", "epoch", "state")
"""Columns that a narrow terminal does without, the first one first."""


def run_json(run: RunSummary) -> dict[str, Any]:
    """The object of ``runs --json``; scripts may rely on its keys.

    ``miou``, ``retention`` and ``agreement`` are of the last validation, ``best`` is of the best one.
    """
    teacher = None
    if run.teacher_checkpoint is not None or run.teacher_miou is not None:
        teacher = {
            "checkpoint": run.teacher_checkpoint,
            "miou": run.teacher_miou,
            "parameters": run.teacher_parameters,
        }
    return {
        "id": run.id,
        "name": run.name,
        "state": run.state.word,
        "detail": run.detail,
        "epoch": run.epoch,
        "epochs": run.epochs,
        "step": run.step,
        "loss": run.loss,
        "miou": run.miou,
        "best": {"miou": run.best_miou, "iou": dict(run.best_iou)},
        "retention": run.retention,
        "agreement": run.agreement,
        "student": {
            "encoder": run.encoder,
            "architecture": run.architecture,
            "decoder_channels": run.decoder_channels,
            "parameters": run.parameters,
            "parameters_used": run.parameters_used,
        },
        "teacher": teacher,
        "distilled": run.distilled,
        "temperature": run.temperature,
        "alpha": run.alpha,
        "seed": run.seed,
        "tags": list(run.tags),
        "notes": run.notes,
        "created": run.created,
        "started": run.started,
        "last_event": run.last_event,
        "images_per_second": run.images_per_second,
        "eta_seconds": run.eta_seconds,
        "error": run.error,
        "hint": run.hint,
        "warnings": [dict(warning) for warning in run.warnings],
        "path": str(run.path),
    }


def run_row(run: RunSummary) -> list[str]:
    """The cells below :data:`RUN_HEADER`: mIoU and %tchr of the best validation, and the last mIoU."""
    epoch = "-" if run.epoch is None else f"{run.epoch}/{run.epochs if run.epochs is not None else '?'}"
    eta = span(run.eta_seconds) if run.eta_seconds is not None else "-"
    return [
        run.state.glyph,
        run.id,
        run.state.word,
        run.encoder or "-",
        number(run.temperature, 1),
        number(run.alpha, 2),
        "-" if run.seed is None else str(run.seed),
        epoch,
        number(run.loss, 3),
        number(run.best_miou),
        number(run.miou),
        percent(run.best_retention),
        eta,
        run.detail,
    ]


def warning_text(warning: Mapping[str, str | None]) -> str:
    """A warning with what to do about it, on one line."""
    return f"{warning['message']}" + (f"; {next_step(warning['hint'])}" if warning["hint"] else "")


def run_lines(run: RunSummary) -> list[tuple[str, str]]:
    """What ``show`` says, label and text; what is unknown is left out."""
    epoch = None if run.epoch is None else f"{run.epoch} of {run.epochs if run.epochs is not None else '?'}"
    size = "" if run.parameters is None else f", {run.parameters:,} parameters"
    used = "" if run.parameters_used in (None, run.parameters) else f" ({run.parameters_used:,} used)"
    student = None if run.encoder is None else f"{run.architecture or '?'} {run.encoder}{size}{used}"
    teacher = None
    if run.teacher_checkpoint is not None:
        teacher = run.teacher_checkpoint
        if run.teacher_miou is not None:
            teacher += f", mIoU {run.teacher_miou:.4f}"
        if run.teacher_parameters is not None:
            teacher += f", {run.teacher_parameters:,} parameters"
    listed = [f"{printable(name)} {mebibytes(size)}" for name, size in checkpoint_sizes(Run(run.path)).items()]
    lines = [
        ("state", f"{run.state.glyph} {run.state.word}" + (f": {run.detail}" if run.detail else "")),
        ("next", run.hint and next_step(run.hint)),
        *(("warning", warning_text(warning)) for warning in run.warnings),
        ("epoch", epoch),
        ("student", student),
        ("teacher", teacher),
        ("distillation", f"T {run.temperature}, α {run.alpha}" if run.distilled else None),
        ("loss", None if run.loss is None else number(run.loss)),
        ("best mIoU", None if run.best_miou is None else number(run.best_miou)),
        *((f"  IoU {name}", number(value)) for name, value in run.best_iou.items()),
        ("retention", None if run.best_retention is None else f"{percent(run.best_retention)} at the best mIoU"),
        ("last mIoU", None if run.miou is None else number(run.miou)),
        ("agreement", None if run.agreement is None else percent(run.agreement)),
        ("speed", None if run.images_per_second is None else f"{run.images_per_second:.1f} images/s"),
        ("eta", None if run.eta_seconds is None else span(run.eta_seconds)),
        ("seed", None if run.seed is None else str(run.seed)),
        ("tags", ", ".join(run.tags) or None),
        ("notes", run.notes or None),
        ("checkpoints", f"{mebibytes(disk_usage(Run(run.path)))} on disk: {', '.join(listed)}" if listed else None),
        ("folder", str(run.path)),
    ]
    return [(label, text) for label, text in lines if text is not None]
