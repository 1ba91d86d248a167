"""The events that describe an attempt before its first step: ``started``, inherited points, and notes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from kdtui import events
from kdtui.engine.models import count_parameters
from kdtui.engine.network import network_kind
from kdtui.engine.profile_model import count_macs
from kdtui.engine.report import Report
from kdtui.engine.setup import TrainingSetup
from kdtui.palette import class_colours, hexadecimal
from kdtui.store.event_log import Tail
from kdtui.store.identity import own_identity
from kdtui.store.run import flat


def announce(stage: TrainingSetup, report: Report, teacher: Mapping[str, Any] | None) -> None:
    """Write ``started``, the points inherited from another run, and notes on changes of epochs or steps.

    Every rank must call it, because their identities are gathered.

    Args:
        stage: The attempt that is about to start.
        report: Writer of the events.
        teacher: The ``teacher`` of the event, or None.
    """
    identities: list[Any] = [own_identity()]
    if stage.fabric.world_size > 1:
        identities = [None] * stage.fabric.world_size
        torch.distributed.all_gather_object(identities, own_identity())
    counts = count_parameters(stage.student)
    height, width = stage.val_set[0, 0].image.shape[-2:]
    macs = count_macs(stage.student, height=height, width=width)
    legend = network_kind(stage.profile.student).picture_legend
    report.started(
        events.Started(
            attempt=stage.record.attempt,
            ranks=tuple(identities),
            device=stage.fabric.device.type,
            precision=stage.precision,
            channels_last=stage.channels_last,
            threads=torch.get_num_threads(),
            world_size=stage.fabric.world_size,
            epochs=stage.total_epochs,
            steps_per_epoch=stage.steps_per_epoch,
            resumed_step=stage.progress.step,
            student={
                "parameters": counts.stored,
                "parameters_used": counts.used,
                "macs": macs,
                "class_colours": [hexadecimal(colour) for colour in class_colours(stage.val_set.own_colours)],
                **({"picture_legend": legend} if legend else {}),
            },
            teacher=teacher,
            workers=stage.profile.training.loading_processes,
        )
    )
    _note_overrides(stage, report)
    if stage.initial:
        note_once(stage, report, f"initial weights: {stage.initial}")
    if stage.resumed is None:
        return
    # All of them in a new run; lost ones in an old one.
    written = {
        (event.split, event.step)
        for event in Tail(stage.run.events_path).stream()
        if isinstance(event, events.Measured)
    }
    report.replay([point for point in stage.progress.history if (point["split"], point["step"]) not in written])
    for words in _changes(stage, stage.resumed):
        report.say(events.Noted(words))


def note_once(stage: TrainingSetup, report: Report, words: str) -> None:
    """Write a note about the whole run, unless an earlier attempt has written it."""
    written = Tail(stage.run.events_path).stream()
    if not any(isinstance(event, events.Noted) and event.message == words for event in written):
        report.say(events.Noted(words))


def _note_overrides(stage: TrainingSetup, report: Report) -> None:
    """Write a note for each setting that was changed after the run was created, once per value."""
    lines = [f"set after the run was created: {key} = {value}" for key, value in flat(stage.run.overrides())]
    if not lines or not stage.leads:
        return
    said = {event.message for event in Tail(stage.run.events_path).stream() if isinstance(event, events.Noted)}
    for line in lines:
        if line not in said:
            report.say(events.Noted(line))


def _changes(stage: TrainingSetup, resumed: Mapping[str, Any]) -> list[str]:
    words = []
    former_epochs, former_steps = resumed["total_epochs"], resumed["steps_per_epoch"]
    if former_steps != stage.steps_per_epoch:
        words.append(
            f"the steps per epoch change from {former_steps} to {stage.steps_per_epoch}: training resumes after "
            f"the last complete epoch, {stage.progress.epochs_done}, which is now step {stage.progress.step}"
        )
    if former_epochs != stage.total_epochs:
        before = stage.learning_rate(total_epochs=former_epochs)
        words.append(
            f"the number of epochs changes from {former_epochs} to {stage.total_epochs}: at step {stage.progress.step} "
            f"the learning rate changes from {before:.3g} to {stage.learning_rate():.3g}"
        )
    return words
