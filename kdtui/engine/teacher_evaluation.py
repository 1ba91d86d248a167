"""The teacher's scores and predictions on the validation set, computed once per run store and cached."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from kdtui.engine.data import Batches
from kdtui.engine.evaluate import Predict, extras_to_device, predictor, to_device
from kdtui.engine.metrics import Scores
from kdtui.engine.network import network_kind, stride_of
from kdtui.engine.objective import FrozenTeacher
from kdtui.engine.profile_model import count_macs
from kdtui.engine.ranks import reduced
from kdtui.engine.setup import TrainingSetup
from kdtui.engine.teacher import LoadedTeacher, identity
from kdtui.engine.teacher_cache import TeacherCache, unsure_pixel
from kdtui.engine.teacher_report import TeacherReport

Evaluate = Callable[[Predict, Batches, np.ndarray], Scores]


@dataclass(frozen=True)
class EvaluatedTeacher:
    """The frozen teacher with its results on the validation set.

    Attributes:
        predictions: uint8 [N,H,W], its classes for this rank's share of the set.
        macs: Multiply-accumulates for one image; None if they are not known, as of an ONNX file.
        pixel: Class to probability at T = 1, see :func:`unsure_pixel`.
        note: How it was adapted to the run; None if it was not.
        members: Checkpoint, weight, network and scores of each teacher of an ensemble, for the event.
    """

    frozen: FrozenTeacher
    report: TeacherReport
    scores: Scores
    predictions: np.ndarray
    macs: int | None
    pixel: Mapping[str, float]
    note: str | None = None
    members: Sequence[Mapping[str, Any]] = ()

    def described(self) -> dict[str, Any]:
        """The ``teacher`` of the ``started`` event."""
        return {
            "macs": self.macs,
            "parameters": self.report.parameters,
            "parameters_used": self.report.parameters_used,
            "encoder": self.report.encoder,
            "architecture": self.report.architecture,
            "sha256": self.report.sha256,
            "miou": self.scores.miou,
            "iou": self.scores.iou,
            "pixel": dict(self.pixel),
            **({"metrics": dict(self.scores.metrics)} if self.scores.metrics else {}),
            **({"ensemble": list(self.members)} if self.members else {}),
        }

    def members_text(self) -> str:
        """The mIoU of each teacher of an ensemble and of all together; empty without an ensemble."""
        each = [f"{one['encoder'] or one['architecture']} {one['miou']:.4f}" for one in self.members]
        return f"validation mIoU of the teachers: {', '.join(each)}; together {self.scores.miou:.4f}" if each else ""


def evaluate_teacher(stage: TrainingSetup, evaluate: Evaluate) -> EvaluatedTeacher | None:
    """Evaluate the run's teachers, each and together, or read the results from the cache; None without distillation.

    Args:
        stage: The attempt, set up.
        evaluate: Evaluates a predictor on batches and stores the predictions; may raise
            :class:`kdtui.engine.evaluate.StopRequested`.
    """
    fabric, loaded = stage.fabric, stage.teacher
    if loaded is None:
        return None
    network = loaded.network
    frozen = FrozenTeacher(
        network, task=stage.task, autocast=fabric.autocast, taps=stage.trainable.objective.teacher_taps
    )
    sample = stage.val_set[0, 0]
    members = [_member(stage, one, evaluate) for one in loaded.members]
    scores, predictions = _evaluated(stage, loaded, evaluate)
    first = stage.val_set.collate([sample])
    images = to_device(first.images, fabric, channels_last=stage.channels_last)
    main = frozen.outputs(images, extras_to_device(first.extras, fabric)).main[0]
    height, width = sample.image.shape[-2:]
    macs = count_macs(network, height=height, width=width) or None
    pixel = unsure_pixel(main, stage.classes)
    return EvaluatedTeacher(frozen, loaded.report, scores, predictions, macs, pixel, loaded.note, members)


def _member(stage: TrainingSetup, teacher: LoadedTeacher, evaluate: Evaluate) -> dict[str, Any]:
    """One teacher of an ensemble in the ``started`` event."""
    scores, _ = _evaluated(stage, teacher, evaluate)
    report, settings = teacher.report, teacher.settings
    return {
        "checkpoint": settings.checkpoint,
        "weight": settings.weight or 1.0,
        "parameters": report.parameters,
        "encoder": report.encoder,
        "architecture": report.architecture,
        "sha256": report.sha256,
        "miou": scores.miou,
        "iou": scores.iou,
    }


def _evaluated(stage: TrainingSetup, teacher: LoadedTeacher, evaluate: Evaluate) -> tuple[Scores, np.ndarray]:
    """Scores on the validation set, and the predicted classes of this rank's share."""
    fabric = stage.fabric
    metrics = ", ".join(
        f"{type(metric).__module__}.{type(metric).__qualname__}"
        for metric in network_kind(stage.profile.student).metrics(stage.classes)
    )
    cache = TeacherCache(
        stage.run.path.parent / ".cache" / "teachers",
        teacher_sha256=teacher.report.sha256,
        fingerprint=stage.profile.data.fingerprint("val"),
        precision=f"{stage.precision}, {fabric.device.type}, stride {stride_of(stage.profile)}, "
        + " + ".join(map(identity, teacher.members or (teacher,)))
        + (metrics and f", metrics {metrics}"),
        rank=fabric.global_rank,
        world_size=fabric.world_size,
    )
    batches = stage.val_batches()
    height, width = stage.val_set[0, 0].mask.shape[-2:]
    shape = (sum(stage.val_set.label_maps(index) for keys in batches.plan for index, _ in keys), height, width)
    kept = cache.read(shape)
    kept_shares = reduced(fabric, torch.tensor(float(kept is not None), device=fabric.device), "sum")
    # The evaluation is a collective: unless every rank has its share in the cache, all evaluate.
    if kept is None or kept_shares.item() < fabric.world_size:
        predict = predictor(teacher.network, fabric, task=stage.task, channels_last=stage.channels_last)
        kept = cache.write(shape, lambda store: evaluate(predict, batches, store), last=stage.leads)
    return kept
