"""The teacher's scores and predictions on the validation set, computed once per run store and cached."""

from __future__ import annotations

from collections.abc import Callable, Mapping
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
from kdtui.engine.teacher_cache import TeacherCache, unsure_pixel
from kdtui.engine.teacher_report import TeacherReport
from kdtui.profile import Teacher

Evaluate = Callable[[Predict, Batches, np.ndarray], Scores]


@dataclass(frozen=True)
class EvaluatedTeacher:
    """The frozen teacher with its results on the validation set.

    Attributes:
        predictions: uint8 [N,H,W], its classes for this rank's share of the set.
        macs: Multiply-accumulates for one image; None if they are not known, as of an ONNX file.
        pixel: Class to probability at T = 1, see :func:`unsure_pixel`.
        note: How it was adapted to the run; None if it was not.
    """

    frozen: FrozenTeacher
    report: TeacherReport
    scores: Scores
    predictions: np.ndarray
    macs: int | None
    pixel: Mapping[str, float]
    note: str | None = None

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
        }


def evaluate_teacher(stage: TrainingSetup, evaluate: Evaluate) -> EvaluatedTeacher | None:
    """Evaluate the run's teacher, or read the results from the cache; None without distillation.

    Args:
        stage: The attempt, set up.
        evaluate: Evaluates a predictor on batches and stores the predictions; may raise
            :class:`kdtui.engine.evaluate.StopRequested`.
    """
    profile, fabric, loaded = stage.profile, stage.fabric, stage.teacher
    if loaded is None:
        return None
    network, report, note = loaded.network, loaded.report, loaded.note
    frozen = FrozenTeacher(
        network, task=stage.task, autocast=fabric.autocast, taps=stage.trainable.objective.teacher_taps
    )
    kind = network_kind(profile.student)
    metrics = ", ".join(
        f"{type(metric).__module__}.{type(metric).__qualname__}" for metric in kind.metrics(stage.classes)
    )
    cache = TeacherCache(
        stage.run.path.parent / ".cache" / "teachers",
        teacher_sha256=report.sha256,
        fingerprint=profile.data.fingerprint("val"),
        # A file may match several networks: ``tu-X`` and ``tu-tf_X`` have the same tensors.
        precision=f"{stage.precision}, {fabric.device.type}, stride {stride_of(profile)}, "
        f"{report.architecture} {report.encoder}"
        + ("" if note is None else f", classes {report.class_names}")
        + _settings(profile.teacher)
        + (metrics and f", metrics {metrics}"),
        rank=fabric.global_rank,
        world_size=fabric.world_size,
    )
    batches = stage.val_batches()
    sample = stage.val_set[0, 0]
    height, width = sample.mask.shape[-2:]
    shape = (sum(stage.val_set.label_maps(index) for keys in batches.plan for index, _ in keys), height, width)
    kept = cache.read(shape)
    kept_shares = reduced(fabric, torch.tensor(float(kept is not None), device=fabric.device), "sum")
    # The evaluation is a collective: unless every rank has its share in the cache, all evaluate.
    if kept is None or kept_shares.item() < fabric.world_size:
        predict = predictor(network, fabric, task=stage.task, channels_last=stage.channels_last)
        kept = cache.write(shape, lambda store: evaluate(predict, batches, store), last=stage.leads)
    first = stage.val_set.collate([sample])
    images = to_device(first.images, fabric, channels_last=stage.channels_last)
    main = frozen.outputs(images, extras_to_device(first.extras, fabric)).main[0]
    height, width = sample.image.shape[-2:]
    macs = count_macs(network, height=height, width=width) or None
    return EvaluatedTeacher(frozen, report, *kept, macs, unsure_pixel(main, stage.classes), note)


def _settings(teacher: Teacher) -> str:
    """The settings that change what the teacher answers, for the key of the cache; empty without any."""
    changed = teacher.model_dump(include={"class_map", "mean", "std", "bgr", "scale", "output"}, exclude_none=True)
    return f", {changed}" if changed else ""
