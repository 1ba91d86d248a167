"""Writing the state of a training as checkpoints."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from kdtui import events
from kdtui.engine import checkpoint
from kdtui.engine.checkpoint import capture, student_payload, weights_alone
from kdtui.engine.optimizers import optimizer_kind
from kdtui.engine.report import Report
from kdtui.engine.setup import TrainingSetup


def save_state(stage: TrainingSetup, report: Report, targets: list[tuple[Path, str]], *, score: str) -> None:
    """Save student and progress, then delete all but the last few epoch checkpoints.

    The state is written once and hard-linked as the epoch's and the last checkpoint. The best one is a separate file
    with only the weights: it has a third of the size and is independent of the others.

    Every rank must call it, because generators are gathered; rank 0 writes. Each existing file is replaced only by a
    complete one.

    Args:
        stage: The attempt.
        report: Writer of the ``saved`` events.
        targets: Path and tag (``epoch``, ``last``, ``best``) of each file.
        score: Name of the validation scalar that determines the best one.
    """
    progress, run = stage.progress, stage.run
    resume = capture(
        stage.fabric,
        progress,
        stage.optimizer,
        stage.trainable.objective.terms,
        total_epochs=stage.total_epochs,
        steps_per_epoch=stage.steps_per_epoch,
        kind=optimizer_kind(stage.profile.training),
    )
    if not stage.leads:
        return
    payload = student_payload(
        run, stage.profile, stage.evaluated, stage.classes, dataclasses.asdict(stage.val_set.pixels)
    )
    if stage.ema is not None:
        resume["student"] = stage.student.state_dict()
    payload |= {"step": progress.step, "epoch": progress.epochs_done, "best": progress.best_score, "resume": resume}
    if score != "miou":
        payload["monitor"] = score
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
                monitor=f"val/{score}" if tag == "best" else None,
                value=progress.best_score if tag == "best" else None,
            )
        )
    # A run that resumed from an older state has checkpoints of later epochs, which it will replace.
    done = [epoch for epoch in run.epochs_on_disk() if epoch <= progress.epochs_done]
    for epoch in done[: -stage.profile.training.keep_checkpoints]:
        run.epoch_checkpoint(epoch).unlink()
