"""The ``evaluate`` verb: evaluate a checkpoint on a split of a profile's data."""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric

from kdtui.engine.counts import counts_file
from kdtui.engine.data import SegmentationDataset, build_dataset, eval_loader
from kdtui.engine.data.workers import check_workers, with_workers
from kdtui.engine.dry_run import check_scorable
from kdtui.engine.evaluate import Evaluation, Predict, evaluate, predictor
from kdtui.engine.evaluate_exported import exported, is_export
from kdtui.engine.network import network_kind
from kdtui.engine.precision import choose_channels_last, choose_precision, fabric_precision
from kdtui.engine.ranks import make_fabric
from kdtui.engine.teacher import Hints, load_teacher, notes_of, reordered
from kdtui.errors import EngineError, StoreError
from kdtui.profile import Profile
from kdtui.store.run import write_atomically

_HINTS = Hints(
    task="if its four channels are background | person and target | other, set "
    'teacher.task = "hierarchical"; then --profile FILE',
    classes="evaluate it on data with the same classes: --profile NAME; or map its classes: set teacher.checkpoint and "
    "teacher.class_map in a profile",
    names="evaluate it on data with its classes: --profile NAME",
)


def assess(profile: Profile, checkpoint: str, split: str, *, out: Path | None = None) -> dict[str, Any]:
    """Evaluate the network in ``checkpoint`` on ``split``.

    The network is that of the file, not the profile's student: a teacher or an external file can be evaluated on the
    same data.

    Args:
        profile: Its data, task and precision are used.
        checkpoint: File, ``save_pretrained`` folder, run folder, or ONNX file.
        split: ``train``, ``val`` or ``test``; always without augmentation.
        out: File to which the result is also written as JSON, and next to it an ``.npz`` file with the counts of each
            image.

    Returns:
        ``{"split", "samples", "evaluation", "scored_at", "checkpoint", "sha256", "encoder", "architecture",
        "parameters", "miou", "dice", "pixel_accuracy", "iou": {class: value}, "metrics": {name: value}, "note"}``; the
        metrics are those that the profile's kind of network adds; the note is None, or says how the network was
        adapted to the data, or why the result could not be written.

    Raises:
        CheckpointError: It is not usable, has other classes, or does not accept images of the profile's size.
    """
    if profile.training.threads:
        torch.set_num_threads(profile.training.threads)
    fabric = make_fabric(accelerator="auto" if profile.training.accelerator != "cpu" else "cpu")
    precision = choose_precision(profile, fabric.device.type)
    fabric = make_fabric(accelerator=fabric.device.type, precision=fabric_precision(precision))
    data = profile.data.model_copy(update={"augmentation": "none", "train_limit": None})
    kind = network_kind(profile.student)
    dataset = build_dataset(data, split, stride=kind.stride, seed=profile.seed)
    file = Path(checkpoint)
    if is_export(file):
        predict, facts, notes = exported(file, dataset)
    else:
        predict, facts, notes = _of_checkpoint(profile, checkpoint, dataset, fabric)
        facts["precision"] = precision
    # Evaluation uses one device. With too little shared memory it runs without workers, only slower.
    settings = profile.training.model_copy(update={"devices": 1, "micro_batch_size": None})
    examine = partial(check_workers, (dataset, dataset))
    workers = with_workers(settings, fabric.device.type, torch.get_num_threads(), examine).loading_processes
    if workers and settings.workers != "auto":
        try:
            examine(settings)
        except EngineError as error:
            print(error.message, file=sys.stderr, flush=True)
            workers = 0
    loader = eval_loader(dataset, max(8, settings.batch_size), workers=workers)
    counts: list[np.ndarray] = []
    scores = evaluate(
        predict,
        loader,
        Evaluation(dataset),
        classes=dataset.classes,
        device=fabric.device,
        metrics=kind.metrics(dataset.classes),
        counts=counts,
    )
    answer: dict[str, Any] = {
        "split": split,
        "samples": len(dataset),
        "evaluation": dataset.evaluation,
        "scored_at": "label size" if dataset.scores_own_size else f"{dataset.width}x{dataset.height}",
        "checkpoint": str(checkpoint),
        **facts,
        "miou": scores.miou,
        "dice": scores.dice,
        "pixel_accuracy": scores.pixel_accuracy,
        "iou": scores.iou,
        "metrics": dict(scores.metrics),
        "note": "\n".join([*notes, *dataset.remarks()]) or None,
    }
    if out is not None:
        try:
            out.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(out, json.dumps(answer, indent=2).encode() + b"\n")
            write_atomically(out.with_suffix(".npz"), counts_file(dataset, counts))
        except (OSError, StoreError) as error:  # the scores are printed nevertheless
            reason = error.found if isinstance(error, StoreError) else error.strerror
            lost = f"could not write the scores to the run: {reason} ({out})"
            answer["note"] = lost if answer["note"] is None else f"{answer['note']}\n{lost}"
    return answer


def _of_checkpoint(
    profile: Profile, checkpoint: str, dataset: SegmentationDataset, fabric: Fabric
) -> tuple[Predict, dict[str, Any], list[str]]:
    """The network of a checkpoint for the images of a split, its facts for the report, and notes."""
    configured = profile.teacher
    # Classes and input of the teacher do not apply to other files, such as the run's own checkpoints.
    own = configured.checkpoint is not None and Path(configured.checkpoint).absolute() == Path(checkpoint).absolute()
    settings_of_file = configured if own else configured.of_another_file()
    network, report = load_teacher(
        checkpoint,
        teacher=settings_of_file,
        task=dataset.task,
        classes=len(dataset.classes),
        names=dataset.classes,
        pixels=dataset.pixels,
        hints=_HINTS,
    )
    network.to(fabric.device).eval()
    check_scorable(network, profile, checkpoint)
    notes = [None if settings_of_file.class_map else reordered(report, dataset.classes), *notes_of(network)]
    facts = {
        "sha256": report.sha256,
        "encoder": report.encoder,
        "architecture": report.architecture,
        "parameters": report.parameters,
    }
    predict = predictor(network, fabric, task=dataset.task, channels_last=choose_channels_last(profile))
    return predict, facts, [note for note in notes if note]
