"""The ``evaluate`` verb: one checkpoint on one split of a profile's data."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from kdtui.engine.data import build_dataset, eval_loader
from kdtui.engine.data.workers import check_workers
from kdtui.engine.dry_run import check_scorable
from kdtui.engine.evaluate import evaluate, predictor
from kdtui.engine.network import stride_of
from kdtui.engine.precision import choose_channels_last, choose_precision, fabric_precision
from kdtui.engine.ranks import make_fabric
from kdtui.engine.teacher import Hints, load_teacher, reordered
from kdtui.errors import EngineError, StoreError
from kdtui.profile import Profile, Teacher
from kdtui.store.run import write_atomically

_HINTS = Hints(
    task="if its four channels are background | person and target | other, set "
    'teacher.task = "hierarchical"; then --profile FILE',
    names="evaluate it on data with its classes: --profile NAME",
)


def assess(profile: Profile, checkpoint: str, split: str, *, out: Path | None = None) -> dict[str, Any]:
    """Scores of the network in ``checkpoint`` on ``split``.

    The network is whatever the file holds, not what the profile's student is: a teacher or a foreign file can be
    measured on the same data.

    Args:
        profile: Its data, task and precision are used.
        checkpoint: File, ``save_pretrained`` folder or run folder.
        split: ``train``, ``val`` or ``test``; without augmentation, whichever it is.
        out: Where the answer is kept as JSON too.

    Returns:
        ``{"split", "samples", "checkpoint", "sha256", "encoder", "architecture", "parameters", "miou", "dice",
        "pixel_accuracy", "iou": {class: value}, "note"}``; the note is None, or what was done about the order of the
        classes, and why the answer could not be kept.

    Raises:
        CheckpointError: It is no usable checkpoint, knows other classes, or does not take images of the profile's size.
    """
    if profile.training.threads:
        import torch

        torch.set_num_threads(profile.training.threads)
    fabric = make_fabric(accelerator="auto" if profile.training.accelerator != "cpu" else "cpu")
    precision = choose_precision(profile, fabric.device.type)
    fabric = make_fabric(accelerator=fabric.device.type, precision=fabric_precision(precision))
    data = profile.data.model_copy(update={"augmentation": "none", "train_limit": None})
    dataset = build_dataset(data, split, stride=stride_of(profile), seed=profile.seed)
    told = profile.teacher
    # Names of the classes are said of the teacher alone: any other file names its own, or has those of the data.
    own = told.checkpoint is not None and Path(told.checkpoint).absolute() == Path(checkpoint).absolute()
    overrides = Teacher(
        task=told.task, architecture=told.architecture, encoder=told.encoder, classes=told.classes if own else None
    )
    network, report = load_teacher(
        checkpoint,
        teacher=overrides,
        task=data.task,
        classes=len(dataset.classes),
        names=dataset.classes,
        hints=_HINTS,
    )
    network.to(fabric.device).eval()
    check_scorable(network, profile, checkpoint)
    channels_last = choose_channels_last(profile)
    # One device here, whatever the profile trains on. Too little shared memory costs time, and no more.
    settings = profile.training.model_copy(update={"devices": 1, "micro_batch_size": None})
    workers = settings.workers
    if workers:
        try:
            check_workers((dataset, dataset), settings)
        except EngineError as error:
            print(error.message, file=sys.stderr, flush=True)
            workers = 0
    loader = eval_loader(dataset, max(8, settings.batch_size), workers=workers)
    scores = evaluate(
        predictor(network, fabric, task=data.task, channels_last=channels_last),
        loader,
        classes=dataset.classes,
        device=fabric.device,
    )
    answer: dict[str, Any] = {
        "split": split,
        "samples": len(dataset),
        "checkpoint": str(checkpoint),
        "sha256": report.sha256,
        "encoder": report.encoder,
        "architecture": report.architecture,
        "parameters": report.parameters,
        "precision": precision,
        "miou": scores.miou,
        "dice": scores.dice,
        "pixel_accuracy": scores.pixel_accuracy,
        "iou": scores.iou,
        "note": reordered(report, dataset.classes),
    }
    if out is not None:
        try:
            out.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(out, json.dumps(answer, indent=2).encode() + b"\n")
        except (OSError, StoreError) as error:  # the scores took their time, and are printed all the same
            reason = error.found if isinstance(error, StoreError) else error.strerror
            lost = f"the scores are not kept in the run: {reason} ({out})"
            answer["note"] = lost if answer["note"] is None else f"{answer['note']}\n{lost}"
    return answer
