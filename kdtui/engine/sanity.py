"""What gives reason to doubt data, teacher or scores although nothing failed: the warnings of a run.

Each is reported once, before the first step where that is possible, and never per epoch.
"""

from __future__ import annotations

from kdtui.engine.data import SegmentationDataset
from kdtui.engine.metrics import Scores
from kdtui.events import Warned
from kdtui.profile import Profile

_NEVER = 0.01
"""IoU below which a class counts as never predicted: a few pixels by chance stay below it."""


def data_warnings(profile: Profile, train_set: SegmentationDataset, val_set: SegmentationDataset) -> list[Warned]:
    """What a bounded sample of both splits gives reason to doubt.

    Args:
        profile: Says how the samples are used.
        train_set: Training split.
        val_set: Validation split.
    """
    return []


def teacher_warnings(scores: Scores) -> list[Warned]:
    """What the teacher's validation scores give reason to doubt, before the first step.

    A network that answers one class everywhere has an IoU of at most 1 for that class and 0 for all others, so its mIoU
    is at most 1 / C over the C classes that occur. A teacher at or below that is a wrong file, has other classes, or
    expects images of another normalisation.

    Args:
        scores: Of the teacher on the whole validation split.
    """
    occurring = {name: iou for name, iou in scores.iou.items() if iou is not None}
    if len(occurring) < 2:
        return []
    chance = 1 / len(occurring)
    if scores.miou <= chance:
        return [
            Warned(
                "teacher-near-chance",
                f"the teacher's validation mIoU is {scores.miou:.4f}; "
                f"one class everywhere reaches up to {chance:.4f} on these {len(occurring)} classes",
                "compare the order of its classes and its input normalisation with this data: kdtui inspect FILE",
            )
        ]
    missed = [name for name, iou in occurring.items() if iou < _NEVER]
    if not missed:
        return []
    return [
        Warned(
            "teacher-misses-class",
            f"the teacher does not predict {_listed(missed)} on the validation split (IoU below {_NEVER:g})",
            "its student will not learn them from it: compare its classes with this data, or lower alpha",
        )
    ]


def score_warnings(scores: Scores, best_miou: float, teacher: Scores | None) -> list[Warned]:
    """What the final scores give reason to doubt.

    Args:
        scores: Of the student after its last epoch.
        best_miou: Its best validation mIoU.
        teacher: Of its teacher on the same split; None without distillation.
    """
    warnings = []
    missed = [name for name, iou in scores.iou.items() if iou is not None and iou < _NEVER]
    if missed:
        warnings.append(
            Warned(
                "class-not-learnt",
                f"the student does not predict {_listed(missed)} on the validation split (IoU below {_NEVER:g})",
                "look at the labels and the share of these classes, or train longer",
            )
        )
    if teacher is not None and best_miou > teacher.miou:
        warnings.append(
            Warned(
                "retention-over-100",
                f"the student's best validation mIoU {best_miou:.4f} is above its teacher's {teacher.miou:.4f}",
                "the teacher is weak on this data or the validation split is small: compare with a matched baseline",
            )
        )
    return warnings


def _listed(names: list[str]) -> str:
    shown = ", ".join(f"'{name}'" for name in names[:4])
    return shown if len(names) <= 4 else f"{shown} and {len(names) - 4} more classes"
