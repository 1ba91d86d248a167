"""Warnings of a run: likely mistakes in data, teacher or scores although nothing failed.

Each is reported once, before the first step if possible, and never per epoch.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping

from kdtui.engine.containers import open_places
from kdtui.engine.data import PixelFormat, SegmentationDataset, Survey, UnlabelledImages, build_dataset, survey
from kdtui.engine.data.pixel_format import recorded_format
from kdtui.engine.data.protocol import named
from kdtui.engine.data.survey import overlap
from kdtui.engine.metrics import Scores
from kdtui.errors import CheckpointError, DataError
from kdtui.events import Warned
from kdtui.profile import DataTable, Distillation, Profile, Training
from kdtui.profile.settings import toml

_NEVER = 0.01
"""IoU below which a class counts as not predicted; a few random pixels stay below it."""
_NARROW = 64
"""Minimum range of values, of 256, that all images together should use; photographs use nearly all."""
_TOPS = (1, 255, 1023, 4095, 16383, 65535)
"""Maximum values of common depths: fractions, 8, 10, 12, 14 and 16 bits."""
_MOSTLY = 0.5
_RARE = 0.001
"""Share of the training pixels below which a class is rare."""
_OUTWEIGHS = 20.0
"""Ratio of the largest weighted distillation term to the second from which the others hardly count."""
_LEFT_OUT = 0.25
"""Share of the training samples that may be left out of each epoch as an incomplete batch."""


def data_warnings(
    profile: Profile,
    train_set: SegmentationDataset,
    val_set: SegmentationDataset,
    surveys: tuple[Survey, Survey] | None = None,
) -> list[Warned]:
    """Warnings from a bounded sample of both splits.

    Args:
        profile: The profile of the run.
        train_set: Training split.
        val_set: Validation split.
        surveys: Surveys of both splits, if already made.

    Raises:
        DataError: A sample cannot be used.
    """
    train, val = surveys or (survey(train_set), survey(val_set))
    warnings = [Warned(*note) for note in dict.fromkeys([*train_set.notes(), *val_set.notes()])]
    for part in (train, val):
        warnings += split_warnings(part, profile.data)
    return [
        *warnings,
        *class_warnings(train, val, profile.data),
        *_overlapping(train_set, val_set),
        *_left_out(profile, train),
        *_frozen(profile),
        *_never_trained(profile.training),
        *_of_other_images(profile, train_set.pixels),
        *_two_classes(profile, len(train_set.classes)),
    ]


def _frozen(profile: Profile) -> list[Warned]:
    """A warning on an encoder that is frozen although its weights are random."""
    student = profile.student.model_dump(include={"weights", "encoder_weights"})
    loaded = student.get("weights") or student.get("encoder_weights", "none") != "none"
    if profile.training.unfreezing is None or loaded:
        return []
    return [
        Warned(
            "frozen-random-encoder",
            "training.unfreezing freezes an encoder with random weights",
            "--set student.weights=imagenet",
        )
    ]


def _never_trained(training: Training) -> list[Warned]:
    """A warning on an encoder that stays frozen to the last epoch."""
    if training.unfreezing is None or training.unfreezing.start <= training.epochs:
        return []
    return [
        Warned(
            "encoder-never-trained",
            f"the encoder is never trained: unfreezing starts at epoch {training.unfreezing.start} of "
            f"{training.epochs}",
            f"--set training.unfreezing.start={min(2, training.epochs)}",
        )
    ]


def _of_other_images(profile: Profile, pixels: PixelFormat) -> list[Warned]:
    """A warning on initial weights that were trained on images with another normalisation."""
    weights = getattr(profile.student, "weights", None)
    record = None
    with contextlib.suppress(CheckpointError):  # loading the weights reports it, unless the run does not need them
        record = None if weights is None else recorded_format(open_places(weights).pixels)
    if record is None or record.channels != pixels.channels or record == pixels:
        return []
    return [
        Warned(
            "weights-of-other-images",
            f"the initial weights were trained with {record.described()}; the images of this run have "
            f"{pixels.described()}",
            "data.mean, data.std and data.bgr set the normalisation of the images",
        )
    ]


def _two_classes(profile: Profile, classes: int) -> list[Warned]:
    """A warning for each term of which a part has no effect."""
    terms = profile.distillation.active_terms(profile.data.task) if profile.distillation.enabled else ()
    return [
        Warned(
            "term-of-two-classes",
            f"the term '{term.label}': {key} has no effect on logits of two classes",
            'a term kind = "kl" compares all of them',
        )
        for term in terms
        if (key := term.unused_with_two_classes) and getattr(term, key) and (classes == 2 or term.on != "logits")
    ]


def unlabelled_warnings(
    unlabelled: UnlabelledImages, data: DataTable, val_set: SegmentationDataset, *, most: int = 64
) -> tuple[Warned, ...]:
    """A warning on each image without labels that cannot be read, of up to ``most`` of them.

    Raises:
        DataError: Many cannot be read, or one of them is an image of the validation or test split.
    """
    evaluated = [val_set]
    with contextlib.suppress(DataError):  # there may be no test split
        evaluated.append(build_dataset(data, "test"))
    return tuple(
        Warned("unreadable-image", f"an image without labels is skipped: {message}", "remove or replace the file")
        for message in unlabelled.checked(evaluated, most=most)
    )


def split_warnings(part: Survey, data: DataTable) -> list[Warned]:
    """Warnings about the values of images and masks of one split."""
    return [*_values(part, data), *_labels(part, data)]


def _values(part: Survey, data: DataTable) -> list[Warned]:
    """Warnings about image values: a narrow range, clipped values, mixed depths, constant images."""
    warnings = []
    scalable, value_range = "value_range" in type(data).model_fields, getattr(data, "value_range", None)
    (low, high), stored = part.seen, part.stored
    if high - low < _NARROW and len(part.flat_images) < part.checked:
        top = next((top for top in _TOPS if stored.high <= top), stored.high)
        if not scalable:
            hint = "check these images: most of them are nearly constant"
        elif value_range is not None:
            hint = f"data.value_range does not match the files, whose values are {stored.low:g} to {stored.high:g}"
        else:
            hint = f"--set data.value_range=[{min(0, stored.low):g},{top:g}] scales them" + (
                ", where 1 is white" if top == 1 else ""
            )
        warnings.append(
            Warned(
                "narrow-value-range",
                f"{part.split} images use only {low} to {high} of 0 to 255; the values in their files are "
                f"{stored.low:g} to {stored.high:g}{_sampled(part)}",
                hint,
            )
        )
    if scalable and value_range is None and stored.high > stored.full:
        warnings.append(
            Warned(
                "values-cut",
                f"{part.split} images have values up to {stored.high:g}, clipped at {stored.full:g}{_sampled(part)}",
                f"--set data.value_range=[{min(0, stored.low):g},{stored.high:g}] scales them",
            )
        )
    if value_range is not None and len(part.depths) > 1:
        warnings.append(
            Warned(
                "mixed-depths",
                f"some {part.split} images have 8 bits and some 16: data.value_range cannot match both",
                "save all images with the same depth",
            )
        )
    if part.flat_images:
        warnings.append(
            Warned(
                "images-of-one-value",
                f"{len(part.flat_images)} {part.split} images are constant: {named(part.flat_images)}{_sampled(part)}",
                "check these files: they may be damaged, or their values are outside the range that is read",
            )
        )
    return warnings


def _labels(part: Survey, data: DataTable) -> list[Warned]:
    """Warnings about masks: all pixels ignored, most pixels ignored, one class only."""
    warnings = []
    if part.void_masks:
        warnings.append(
            Warned(
                "void-masks",
                f"{len(part.void_masks)} {part.split} masks ignore every pixel: {named(part.void_masks)}"
                f"{_sampled(part)}",
                "they are useless for training and scores"
                + (f": compare their values with ignore_index in {data.class_list}" if data.class_list else ""),
            )
        )
    ignored = part.ignored / max(1, part.ignored + sum(part.pixels))
    if _MOSTLY < ignored < 1:
        warnings.append(
            Warned(
                "mostly-ignored",
                f"{ignored:.0%} of the {part.split} pixels are ignored{_sampled(part)}",
                f"if the ignored value is a class, add it to {data.class_list} as 'INDEX NAME', not as ignore_index"
                if data.class_list
                else "check these masks: ignored pixels are used neither for training nor for scores",
            )
        )
    single, counted = len(part.one_class_masks), part.checked - len(part.void_masks)
    if single > _MOSTLY * counted:
        warnings.append(
            Warned(
                "one-class-masks",
                f"{single} of {counted} {part.split} masks have one class only{_sampled(part)}",
                "check these masks: their classes may be in values or in a channel that is not read",
            )
        )
    return warnings


def class_warnings(train: Survey, val: Survey, data: DataTable) -> list[Warned]:
    """Warnings about classes that are missing or rare in a split."""
    warnings = []
    missing = [name for label, name in enumerate(train.classes) if not train.pixels[label]]
    if missing and sum(train.pixels):
        hint = data.label_hint or "the student cannot learn this class"
        if data.class_list and train.ignored:
            hint += "; if the ignored value is this class, add it there as 'INDEX NAME'"
        warnings.append(
            Warned(
                "class-without-pixels",
                f"no training pixel has class {_listed(missing)}{_sampled(train)}",
                hint,
            )
        )
    unscored = [name for label, name in enumerate(val.classes) if not val.pixels[label] and train.pixels[label]]
    if unscored and sum(val.pixels):
        warnings.append(
            Warned(
                "class-not-in-validation",
                f"no validation pixel has class {_listed(unscored)}{_sampled(val)}",
                "the validation mIoU does not include it: move images with this class to the validation split",
            )
        )
    rare = [
        f"{name} ({train.share(label):.2%})"
        for label, name in enumerate(train.classes)
        if 0 < train.share(label) < _RARE
    ]
    if rare:
        warnings.append(
            Warned(
                "rare-classes",
                f"classes with less than {_RARE:.1%} of the training pixels: {named(rare)}{_sampled(train)}",
                "their IoU varies strongly between runs: compare several seeds, or train on larger images",
            )
        )
    return warnings


def _overlapping(train_set: SegmentationDataset, val_set: SegmentationDataset) -> list[Warned]:
    common = overlap(train_set, val_set)
    if not common.names:
        return []
    return [
        Warned(
            "validation-in-training",
            f"{len(common.names)} of {common.checked} validation images are training images: {named(common.names)}",
            "scores on training images are not valid for new ones: separate the splits",
        )
    ]


def _left_out(profile: Profile, train: Survey) -> list[Warned]:
    batch = profile.training.batch_size
    left_out = train.total % batch
    if train.total < batch or left_out <= _LEFT_OUT * train.total:
        return []
    return [
        Warned(
            "partial-batch",
            f"each epoch leaves out {left_out} of {train.total} training samples, an incomplete batch of {batch}",
            f"--set training.batch_size={math.gcd(train.total, batch)} leaves out none"
            if math.gcd(train.total, batch) % profile.training.devices == 0
            and profile.training.micro_batch_size is None
            and math.gcd(train.total, batch) > 1
            else "a smaller training.batch_size leaves out fewer",
        )
    ]


def _sampled(part: Survey) -> str:
    """The number of checked samples, if not all of the split were checked."""
    return "" if part.checked == part.total else f" ({part.checked} of {part.total:,} samples checked)"


def teacher_warnings(scores: Scores) -> list[Warned]:
    """Warnings about the teacher's validation scores, before the first step.

    A network that predicts one class everywhere has an IoU of at most 1 for that class and 0 for all others, so its
    mIoU is at most 1 / C for the C classes that occur. A teacher at or below that is a wrong file, has other
    classes, or needs another normalisation.

    Args:
        scores: Scores of the teacher on the whole validation split.
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
                f"predicting one class everywhere reaches up to {chance:.4f} with these {len(occurring)} classes",
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
            "the student will not learn it from this teacher: compare its classes with this data, or lower alpha",
        )
    ]


def score_warnings(scores: Scores, best_miou: float, teacher: Scores | None) -> list[Warned]:
    """Warnings about the final scores.

    Args:
        scores: Scores of the student after its last epoch.
        best_miou: Its best validation mIoU.
        teacher: Scores of its teacher on the same split; None without distillation.
    """
    warnings = []
    learner = "network" if teacher is None else "student"
    missed = [name for name, iou in scores.iou.items() if iou is not None and iou < _NEVER]
    if missed:
        warnings.append(
            Warned(
                "class-not-learnt",
                f"the {learner} does not predict {_listed(missed)} on the validation split (IoU below {_NEVER:g})",
                "check the labels and the share of these classes, or train longer",
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


def balance_warnings(distillation: Distillation, scalars: Mapping[str, float | None]) -> list[Warned]:
    """A warning on a distillation term next to which the others hardly count.

    Only terms that the profile lists are compared: the weights of the default KL are not a choice of the user. Terms
    whose weight still rises are left out. If all terms have their published weights, a small one may be satisfied
    already; then only a term that outweighs the supervised loss, too, is reported.

    Args:
        distillation: Settings of the distillation.
        scalars: Training scalars at the end of the first epoch; those of the terms contain their weights.
    """
    parts = {
        term.label: part
        for term in distillation.terms or ()
        if term.full_weight_from == 1 and (part := scalars.get(f"loss.distill.{term.label}")) is not None and part > 0
    }
    if not distillation.enabled or len(parts) < 2:
        return []
    largest, second = sorted(parts, key=parts.__getitem__, reverse=True)[:2]
    ratio = parts[largest] / parts[second]
    weighed = any(term.weight != type(term).model_fields["weight"].default for term in distillation.terms or ())
    swamps = parts[largest] > _OUTWEIGHS * (scalars.get("loss.base") or math.inf)
    if ratio <= _OUTWEIGHS or not (weighed or swamps):
        return []
    first = next(iter(parts.values()))  # keeps its weight, and with it the size of the whole sum
    factors = {label: first / part for label, part in parts.items() if not 1 / _OUTWEIGHS <= part / first <= _OUTWEIGHS}
    tables = [
        {"kind": term.kind}
        | term.model_dump(mode="json", exclude_defaults=True, exclude={"kind"})
        | {"weight": float(f"{term.weight * factors[term.label]:.1g}") if term.label in factors else term.weight}
        for term in distillation.terms or ()
    ]
    values = ", ".join(f"{name} {value:.3g}" for name, value in parts.items())
    return [
        Warned(
            "term-outweighs-others",
            f"the distillation term '{largest}' is {ratio:.0f} times as large as any other after the first epoch "
            f"(weighted: {values})",
            f"--set 'distillation.terms={toml(tables)}' makes a new run with about equal terms",
        )
    ]


def _listed(names: list[str]) -> str:
    shown = ", ".join(f"'{name}'" for name in names[:4])
    return shown if len(names) <= 4 else f"{shown} and {len(names) - 4} more"
