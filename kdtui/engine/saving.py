"""One state of a run: its files, and which of the older ones stay."""

from __future__ import annotations

from pathlib import Path

from kdtui import events
from kdtui.engine import checkpoint
from kdtui.engine.report import Report
from kdtui.engine.resume import capture, student_payload, weights_alone
from kdtui.engine.stage import Stage


def save_state(stage: Stage, report: Report, targets: list[tuple[Path, str]]) -> None:
    """Save student and progress; then drop the epoch checkpoints beyond the last few.

    The state is written once and known under the names of the epoch and of the last one. The best one is a file of its
    own with the weights alone: a third of the size, and nothing that happens to the others reaches it.

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
    first, *others = [path for path, tag in targets if tag != "best"]
    checkpoint.save(first, payload)
    if any(tag == "best" for _, tag in targets):
        checkpoint.save(run.best, weights_alone(payload))
    for target in others:
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
    # Those of later epochs are left by a run that went on from an older state: it comes to them.
    done = [epoch for epoch in run.epochs_on_disk() if epoch <= progress.epochs_done]
    for epoch in done[: -stage.profile.training.keep_checkpoints]:
        run.epoch_checkpoint(epoch).unlink()
