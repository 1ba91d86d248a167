"""One state of a run, written once and known under several names."""

from __future__ import annotations

from pathlib import Path

from kdtui import events
from kdtui.engine import checkpoint
from kdtui.engine.report import Report
from kdtui.engine.resume import capture, student_payload
from kdtui.engine.stage import Stage


def save_state(stage: Stage, report: Report, targets: list[tuple[Path, str]]) -> None:
    """Save student and progress; then drop the epoch checkpoints beyond the last few.

    Every rank must call it (generators are gathered); rank 0 writes. The old file of each name survives until its
    successor is whole.

    Args:
        stage: Whose state.
        report: Hears of each file.
        targets: Path and tag (``epoch``, ``last``, ``best``) of each name.
    """
    progress, run = stage.progress, stage.run
    resume = capture(
        stage.fabric,
        progress,
        stage.optimizer,
        total_epochs=stage.total_epochs,
        steps_per_epoch=stage.steps_per_epoch,
    )
    if not stage.leads:
        return
    payload = student_payload(run, stage.profile, stage.student, stage.classes)
    payload |= {"step": progress.step, "epoch": progress.epochs_done, "best": progress.best_miou, "resume": resume}
    (first, _), *others = targets
    checkpoint.save(first, payload)
    for target, _ in others:
        checkpoint.same_as(first, target)
    for target, tag in targets:
        report.say(
            events.Saved(
                step=progress.step,
                tag=tag,
                path=str(target.relative_to(run.path)),
                monitor="val/miou" if tag == "best" else None,
                value=progress.best_miou if tag == "best" else None,
            )
        )
    for old in run.epoch_checkpoints()[: -stage.profile.training.keep_checkpoints]:
        old.unlink()
