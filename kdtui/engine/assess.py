"""The ``evaluate`` verb: one checkpoint on one split of a profile's data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from lightning_fabric import Fabric

from kdtui.engine.data import build_dataset, eval_loader
from kdtui.engine.evaluate import evaluate, predictor
from kdtui.engine.models import stride
from kdtui.engine.precision import choose_channels_last, choose_precision, fabric_precision
from kdtui.engine.teacher import load_teacher
from kdtui.engine.trial import check_scorable
from kdtui.profile import Profile, Teacher
from kdtui.store.run import write_atomically


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
        "pixel_accuracy", "iou": {class: value}}``.

    Raises:
        CheckpointError: It is no usable checkpoint, knows other classes, or does not take images of the profile's size.
    """
    if profile.training.threads:
        import torch

        torch.set_num_threads(profile.training.threads)
    fabric = Fabric(accelerator="auto" if profile.training.accelerator != "cpu" else "cpu", devices=1)
    precision = choose_precision(profile, fabric.device.type)
    fabric = Fabric(accelerator=fabric.device.type, devices=1, precision=fabric_precision(precision))
    data = profile.data.model_copy(update={"augmentation": "none", "train_limit": None})
    dataset = build_dataset(data, split, stride=stride(profile.student), seed=profile.seed)
    overrides = Teacher(
        task=profile.teacher.task, architecture=profile.teacher.architecture, encoder=profile.teacher.encoder
    )
    network, report = load_teacher(checkpoint, teacher=overrides, task=data.task, classes=len(dataset.classes))
    network.to(fabric.device).eval()
    check_scorable(network, profile, checkpoint)
    channels_last = choose_channels_last(profile)
    loader = eval_loader(
        dataset, max(8, profile.training.batch_size), rank=0, world_size=1, workers=profile.training.workers
    )
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
    }
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(out, json.dumps(answer, indent=2).encode() + b"\n")
    return answer
