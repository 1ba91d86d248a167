"""The teacher beside the student: loaded strictly, frozen, and asked for the whole validation set before step one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kdtui.engine.data import Batches
from kdtui.engine.evaluate import Predict, predictor, to_device
from kdtui.engine.metrics import Scores
from kdtui.engine.models import lay_out_channels_last, stride
from kdtui.engine.profile_model import count_macs
from kdtui.engine.stage import Stage, reduced
from kdtui.engine.task import FrozenTeacher
from kdtui.engine.teacher import TeacherReport, load_teacher, reordered
from kdtui.engine.teacher_cache import TeacherCache, data_fingerprint
from kdtui.engine.trial import check_teaching
from kdtui.errors import TeacherError

Evaluate = Callable[[Predict, Batches, np.ndarray], Scores]


@dataclass(frozen=True)
class TeacherBeside:
    """The frozen teacher with what it scored on the validation set.

    Attributes:
        predictions: uint8 [N,H,W], its classes for this rank's share of the set.
        pixel: Class to probability at T = 1, see :func:`unsure_pixel`.
        note: What was done about the order of its classes; None where it was the run's.
    """

    frozen: FrozenTeacher
    report: TeacherReport
    scores: Scores
    predictions: np.ndarray
    pixel: Mapping[str, float]
    note: str | None = None

    def described(self) -> dict[str, Any]:
        """The ``teacher`` of the ``started`` event."""
        height, width = self.predictions.shape[1:]
        return {
            "macs": count_macs(self.frozen.network, height=height, width=width),
            "parameters": self.report.parameters,
            "parameters_used": self.report.parameters_used,
            "encoder": self.report.encoder,
            "architecture": self.report.architecture,
            "sha256": self.report.sha256,
            "miou": self.scores.miou,
            "iou": self.scores.iou,
            "pixel": dict(self.pixel),
        }


def unsure_pixel(logits: Tensor, classes: Sequence[str]) -> dict[str, float]:
    """Class probabilities of the pixel that three quarters of an image's pixels are surer than (lower entropy).

    What a temperature does to a teacher's answers is seen where the teacher is not quite sure. Six digits of each are
    kept, of tiny ones too: a high temperature brings them back.

    Args:
        logits: f32 [C,H,W] of one image.
        classes: Their C names.
    """
    probabilities = logits.float().flatten(1).softmax(dim=0)
    entropies = torch.special.entr(probabilities).sum(dim=0)
    at = int(entropies.argsort()[int(0.75 * (len(entropies) - 1))])
    return {name: float(f"{value:.6g}") for name, value in zip(classes, probabilities[:, at].tolist(), strict=True)}


def no_teacher() -> TeacherError:
    """What a distillation without a teacher is told."""
    return TeacherError(
        "distillation is on, but there is no teacher",
        where="teacher.checkpoint",
        allowed="a checkpoint, or distillation.enabled = false",
        hint="`kdtui train PROFILE --teacher-checkpoint FILE|RUN`; `kdtui teachers` lists some",
    )


def load_beside(stage: Stage, evaluate: Evaluate) -> TeacherBeside | None:
    """The profile's teacher, or None for a student trained alone.

    Args:
        stage: Devices, data and precision.
        evaluate: Scores a predictor on batches and stores the predictions; may raise
            :class:`kdtui.engine.evaluate.StopAsked`.
    """
    profile, fabric = stage.profile, stage.fabric
    if not profile.distillation.enabled:
        return None
    if profile.teacher.checkpoint is None:
        raise no_teacher()
    network, report = load_teacher(
        profile.teacher.checkpoint,
        teacher=profile.teacher,
        task=stage.task,
        classes=len(stage.classes),
        names=stage.classes,
    )
    note = reordered(report, stage.classes)
    check_teaching(network, profile)
    network.to(fabric.device)
    if stage.channels_last:
        network = lay_out_channels_last(network)
    frozen = FrozenTeacher(network, task=stage.task, autocast=fabric.autocast)
    cache = TeacherCache(
        stage.run.path.parent / ".cache" / "teachers",
        teacher_sha256=report.sha256,
        fingerprint=data_fingerprint(profile.data, "val"),
        # One file may be read as several networks: the hash of ``tu-X`` and ``tu-tf_X`` is the same.
        precision=f"{stage.precision}, {fabric.device.type}, stride {stride(profile.student)}, "
        f"{report.architecture} {report.encoder}" + ("" if note is None else f", classes {report.class_names}"),
        rank=fabric.global_rank,
        world_size=fabric.world_size,
    )
    batches = stage.val_batches()
    height, width = stage.val_set[0, 0].mask.shape
    shape = (sum(map(len, batches.plan)), height, width)
    kept = cache.read(shape)
    kept_shares = reduced(fabric, torch.tensor(float(kept is not None), device=fabric.device), "sum")
    # Evaluating is a collective: either every rank has its share kept, or all ask again.
    if kept is None or kept_shares.item() < fabric.world_size:
        predict = predictor(network, fabric, task=stage.task, channels_last=stage.channels_last)
        kept = cache.write(shape, lambda store: evaluate(predict, batches, store), last=stage.leads)
    first = to_device(stage.val_set[0, 0].image[None], fabric, channels_last=stage.channels_last)
    return TeacherBeside(frozen, report, *kept, unsure_pixel(frozen.logits(first).main[0], stage.classes), note)
