"""Signs that a teacher does not fit the data although it loads: permuted classes, another input, no better than chance.

They are looked for on a few validation images, before anything is trained.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from kdtui.engine.adapted import Adapted
from kdtui.engine.class_names import class_order, listed
from kdtui.engine.data import IGNORE_INDEX, PixelFormat, SegmentationDataset
from kdtui.engine.families.family import IMAGENET
from kdtui.engine.models import device_of, inputs_of, outputs_of
from kdtui.engine.network import stride_of
from kdtui.engine.teacher import LoadedTeacher, identity
from kdtui.engine.teacher_input import Conversion
from kdtui.errors import StoreError
from kdtui.events import Warned
from kdtui.profile import Profile
from kdtui.store.files import reading
from kdtui.store.run import write_atomically
from kdtui.store.values import parse_json

_FORMAT = 1
"""Changes with what is looked for, and with the words of a warning."""
_MOST_BYTES = 2**20
_IMAGES = 8
_BATCH = 2
_RGB = 3
# A gain in mIoU is clear if it is at least this much, and by this factor.
_GAIN = 0.1
_FACTOR = 1.3
_MOST_NAMES = 24  # classes whose names fit into a hint
_USUAL = {
    "ImageNet's normalisation": IMAGENET,
    "values from -1 to 1": PixelFormat((0.5,) * _RGB, (0.5,) * _RGB),
    "values from 0 to 1": PixelFormat((0.0,) * _RGB, (1.0,) * _RGB),
    "values from 0 to 255": PixelFormat((0.0,) * _RGB, (1 / 255,) * _RGB),
}

Counts = NDArray[np.float64]
"""Confusion matrix [K,K]: true class, predicted class."""


def teacher_doubts(teacher: LoadedTeacher, dataset: SegmentationDataset) -> list[Warned]:
    """Warnings about a loaded teacher from a few images spread over a split.

    Args:
        teacher: On any device.
        dataset: The validation split.

    Raises:
        DataError: A sample cannot be used.
    """
    if teacher.members:
        return [
            _of_member(number, doubt)
            for number, one in enumerate(teacher.members, 1)
            for doubt in teacher_doubts(one, dataset)
        ]
    batches = list(_samples(dataset))
    counts = _confusion(teacher.network, batches, dataset)
    if counts is None:
        return []
    miou, settings, report = _miou(counts), teacher.settings, teacher.report
    chance = _near_chance(counts, miou)
    # What a checkpoint records is not doubted because its network has learnt nothing.
    knows_classes = bool(report.class_names) and settings.classes is None and settings.class_map is None
    knows_input = report.mean is not None and settings.mean is None and settings.std is None and settings.bgr is None
    return [
        *chance,
        *([] if chance and knows_classes else _permuted(counts, miou, teacher, dataset)),
        *([] if chance and knows_input else _other_input(miou, teacher, batches, dataset)),
    ]


def kept_doubts(store: Path, profile: Profile, teacher: LoadedTeacher, dataset: SegmentationDataset) -> list[Warned]:
    """Those of :func:`teacher_doubts`, found once for all runs of a store with the same teacher and validation split.

    Args:
        store: The run store.
        profile: The run's.
        teacher: On any device.
        dataset: The validation split.
    """
    teachers = [
        (
            one.report.sha256,
            identity(one),
            one.settings.model_dump(mode="json", exclude={"checkpoint", "ensemble", "cache"}),
        )
        for one in (teacher, *teacher.members)
    ]
    content = [_FORMAT, teachers, profile.data.fingerprint("val"), dataset.classes, stride_of(profile)]
    folder = store / ".cache" / "doubts"
    path = folder / f"{hashlib.sha256(json.dumps(content).encode()).hexdigest()[:24]}.json"
    try:
        with reading(path) as file:
            kept = parse_json(file.read(_MOST_BYTES))
        return [Warned(**one) for one in kept]
    except (OSError, ValueError, TypeError):  # missing or damaged
        doubts = teacher_doubts(teacher, dataset)
    with contextlib.suppress(OSError, StoreError):  # the next run looks for itself
        folder.mkdir(parents=True, exist_ok=True)
        body = [{"code": doubt.code, "message": doubt.message, "hint": doubt.hint} for doubt in doubts]
        write_atomically(path, json.dumps(body).encode())
    return doubts


def _of_member(number: int, doubt: Warned) -> Warned:
    """A warning about one of several teachers."""
    hint = doubt.hint
    if number > 1 and hint is not None and "--set" in hint:
        hint = "in its [[teacher.ensemble]], " + re.sub(r"--set ('?)teacher\.", r"\1", hint)
    return Warned(doubt.code, doubt.message.replace("the teacher", f"teacher {number}", 1), hint)


def _samples(dataset: SegmentationDataset) -> Iterator[Sequence[int]]:
    """Numbers of the samples in batches: with boxes, each of which costs a pass of a head, those that have 8 in all."""
    count = min(_IMAGES, len(dataset))
    maps = {place: max(1, len(dataset.boxes(place))) for place in (at * len(dataset) // count for at in range(count))}
    places: list[int] = []
    for place in maps:
        if sum(maps[one] for one in places) + maps[place] <= _IMAGES:
            places.append(place)
    places = places or sorted(maps, key=lambda place: maps[place])[:1]
    yield from (places[first : first + _BATCH] for first in range(0, len(places), _BATCH))


def _confusion(network: nn.Module, batches: Sequence[Sequence[int]], dataset: SegmentationDataset) -> Counts | None:
    """The confusion matrix on some images; None if predictions and labels are not maps of the same size."""
    classes, device = len(dataset.classes), device_of(network)
    counts = torch.zeros(classes * classes, dtype=torch.float64)
    for places in batches:
        batch = dataset.collate([dataset[place, 0] for place in places])
        extras = {name: value.to(device) for name, value in batch.extras.items()}
        with torch.inference_mode():
            raw = network(batch.images.to(device), **inputs_of(network, extras))
            predicted: Tensor = outputs_of(network, tree_map(Tensor.float, raw), dataset.task).main.argmax(dim=1).cpu()
        if predicted.shape != batch.masks.shape:
            return None
        valid = batch.masks != IGNORE_INDEX
        counts += torch.bincount(batch.masks[valid] * classes + predicted[valid], minlength=classes * classes)
    matrix: Counts = counts.reshape(classes, classes).numpy()
    return matrix


def _overlaps(counts: Counts) -> Counts:
    """IoU [K,K] of each true class with each predicted one; 0 for classes that do not occur."""
    union = counts.sum(axis=1)[:, None] + counts.sum(axis=0)[None] - counts
    overlaps: Counts = np.divide(counts, union, out=np.zeros_like(counts), where=union > 0)
    return overlaps


def _miou(counts: Counts, prediction_of: Sequence[int] | None = None) -> float:
    """Mean IoU of the classes that occur.

    Args:
        counts: Confusion matrix.
        prediction_of: The predicted class that is compared with each true one; default: the same.
    """
    matched = counts if prediction_of is None else counts[:, list(prediction_of)]
    occurs = (matched.sum(axis=0) + matched.sum(axis=1)) > 0
    return float(np.diag(_overlaps(matched))[occurs].mean()) if occurs.any() else 0.0


def _clear(better: float, miou: float) -> bool:
    return better >= miou + _GAIN and better >= _FACTOR * miou


def _near_chance(counts: Counts, miou: float) -> list[Warned]:
    occurring = int((counts.sum(axis=1) > 0).sum())
    if occurring < 2 or miou > 1 / occurring:
        return []
    return [
        Warned(
            "teacher-near-chance",
            f"the teacher's mIoU on a few validation images is {miou:.4f}; predicting one class everywhere reaches "
            f"up to {1 / occurring:.4f} with these {occurring} classes",
            "compare the order of its classes and its input normalisation with this data: kdtui inspect FILE",
        )
    ]


def _permuted(counts: Counts, miou: float, teacher: LoadedTeacher, dataset: SegmentationDataset) -> list[Warned]:
    """A warning if the teacher's classes match the labels much better in another order."""
    prediction_of = best_assignment(_overlaps(counts))
    better = _miou(counts, prediction_of)
    if not _clear(better, miou):
        return []
    names, present = dataset.classes, counts.sum(axis=1) > 0
    moved = [names[true] for true, predicted in enumerate(prediction_of) if true != predicted and present[true]]
    verb = "exchanged" if len(moved) == 2 else "permuted"
    return [
        Warned(
            "teacher-classes-permuted",
            f"classes {listed(moved)} of the teacher look {verb}: "
            f"its mIoU on a few validation images is {miou:.3f}, and {better:.3f} in another order",
            _order_hint(prediction_of, teacher, names),
        )
    ]


def _order_hint(prediction_of: Sequence[int], teacher: LoadedTeacher, names: Sequence[str]) -> str:
    if teacher.settings.class_map is not None:
        return "check teacher.class_map"
    if len(names) > _MOST_NAMES:
        return "compare the order of its classes with that of the data: kdtui inspect FILE"
    known = teacher.report.class_names
    channel_of = (class_order(known, names) if known else None) or list(range(len(names)))
    ordered = list(names)
    for true, predicted in enumerate(prediction_of):
        ordered[channel_of[predicted]] = names[true]
    return f"if so, name its classes in the order of its output: --set 'teacher.classes={_as_json(ordered)}'"


def _other_input(
    miou: float, teacher: LoadedTeacher, batches: Sequence[Sequence[int]], dataset: SegmentationDataset
) -> list[Warned]:
    """A warning if the teacher is much better with another normalisation or channel order."""
    source, current = dataset.pixels, teacher.pixels
    if source.channels != _RGB or current.channels != _RGB or not _clear(1.0, miou):  # 1 is the highest mIoU
        return []
    others = {name: _flipped(pixels) if current.bgr else pixels for name, pixels in _USUAL.items()}
    others["RGB instead of BGR" if current.bgr else "BGR instead of RGB"] = _flipped(current)
    scores: dict[str, float] = {}
    device = device_of(teacher.network)
    for name, pixels in others.items():
        if not Conversion(current, pixels).is_identity:
            changed = Adapted.with_input(teacher.network, Conversion(source, pixels).to(device), dataset.task)
            counts = _confusion(changed.eval(), batches, dataset)
            scores[name] = 0.0 if counts is None else _miou(counts)
    name = max(scores, key=lambda name: scores[name])
    if not _clear(scores[name], miou):
        return []
    pixels = others[name]
    settings = [f"--set teacher.{key}={_as_json(getattr(pixels, key))}" for key in ("mean", "std", "bgr")]
    if pixels.bgr == current.bgr:
        del settings[-1]
    return [
        Warned(
            "teacher-input-differs",
            f"the teacher looks trained with {name}: its mIoU on a few validation images is {miou:.3f}, "
            f"and {scores[name]:.3f} with it",
            f"if so: {' '.join(settings)}",
        )
    ]


def _flipped(pixels: PixelFormat) -> PixelFormat:
    """The same statistics in the opposite channel order."""
    return PixelFormat(pixels.mean[::-1], pixels.std[::-1], not pixels.bgr)


def _as_json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def best_assignment(values: Counts) -> list[int]:
    """The permutation of the columns with the largest sum on the diagonal.

    The Hungarian method with potentials, in O(K³) of which the inner loop is vectorised; see Burkard, Dell'Amico and
    Martello, Assignment Problems, chapter 4.

    Args:
        values: [K,K].

    Returns:
        The column of each row.
    """
    count = len(values)
    costs = values.max(initial=0.0) - values
    rows, columns = np.zeros(count + 1), np.zeros(count + 1)  # potentials; index 0 is a column without a row
    row_of, previous = np.zeros(count + 1, int), np.zeros(count + 1, int)
    for row in range(1, count + 1):
        row_of[0], column = row, 0
        shortest, done = np.full(count + 1, np.inf), np.zeros(count + 1, bool)
        while row_of[column]:
            done[column] = True
            reduced = costs[row_of[column] - 1] - rows[row_of[column]] - columns[1:]
            closer = ~done[1:] & (reduced < shortest[1:])
            shortest[1:][closer], previous[1:][closer] = reduced[closer], column
            column = int(np.where(done, np.inf, shortest)[1:].argmin()) + 1
            step = shortest[column]
            rows[row_of[done]] += step
            columns[done] -= step
            shortest[~done] -= step
            if row_of[column] == 0:
                break
        while column:
            row_of[column] = row_of[previous[column]]
            column = int(previous[column])
    assigned = [0] * count
    for column in range(1, count + 1):
        assigned[row_of[column] - 1] = column - 1
    return assigned
