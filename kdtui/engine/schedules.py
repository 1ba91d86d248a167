"""Schedules as pure functions of step or epoch, without state to save."""

from __future__ import annotations

import math
from collections.abc import Iterable

from kdtui.profile import Distillation
from kdtui.profile.schedules import Course, RateCourse

_POWER = 0.9
"""Of ``poly``, as published (Chen et al., 1606.00915)."""


def rate_factor(step: int, total_steps: int, *, warmup: float, course: RateCourse = "cosine") -> float:
    """Factor of the peak learning rate for the 0-based optimizer step ``step``.

    Linear from 1/n to 1 over the first n = ``warmup * total_steps`` steps. With p = 0 at the step after them and 1 just
    after the last step, then a half cosine to zero (Loshchilov and Hutter, 1608.03983, without restarts), 1 - p, or
    (1 - p) to the power of 0.9; or constant.

    Args:
        step: Number of completed optimizer steps.
        total_steps: Number of steps of the whole run; later steps have the factor of its end.
        warmup: Share of warm-up steps, in [0, 1).
        course: ``training.schedule``.
    """
    rising = round(warmup * total_steps)
    if step < rising:
        return (step + 1) / rising
    progress = min(1.0, (step - rising) / max(1, total_steps - rising))
    if course == "constant":
        return 1.0
    if course == "cosine":
        return 0.5 * (1.0 + math.cos(math.pi * progress))
    return (1.0 - progress) ** (_POWER if course == "poly" else 1)


def between(course: Course, start: float, end: float, progress: float) -> float:
    """The value at ``progress``, 0 at the start and 1 at the end; ``exponential`` needs values > 0."""
    if course == "constant" or start == end:
        return start
    if course == "linear":
        return start + (end - start) * progress
    if course == "cosine":
        return end + (start - end) * (1 + math.cos(math.pi * progress)) / 2
    return start * math.pow(end / start, progress)


def temperature_at(table: Distillation, epoch: int, epochs: int) -> float:
    """The temperature T of an epoch.

    Args:
        table: Settings of the distillation.
        epoch: Number of the epoch, from 1.
        epochs: Number of epochs of the whole run.
    """
    progress = _progress(epoch, epochs)
    return between(table.temperature_schedule, table.temperature, table.temperature_end, progress)


def alpha_at(table: Distillation, epoch: int, epochs: int, retentions: Iterable[float]) -> float:
    """The weight α of an epoch.

    ``adaptive`` has a hysteresis: α drops to ``alpha_end`` when the student reaches ``alpha_upper`` of the teacher's
    mIoU, and returns when it falls below ``alpha_lower``. It is a function of the past evaluations, which every
    checkpoint has, so that it needs no state of its own.

    Args:
        table: Settings of the distillation.
        epoch: Number of the epoch, from 1.
        epochs: Number of epochs of the whole run.
        retentions: The student's validation mIoU divided by the teacher's, after each evaluated epoch before this one.
    """
    if table.alpha_schedule == "warmup":
        return table.alpha * min(1.0, epoch / table.alpha_warmup)
    if table.alpha_schedule == "adaptive":
        dropped = False
        for retention in retentions:
            dropped = retention >= (table.alpha_lower if dropped else table.alpha_upper)
        return table.alpha_end if dropped else table.alpha
    return between(table.alpha_schedule, table.alpha, table.alpha_end, _progress(epoch, epochs))


def _progress(epoch: int, epochs: int) -> float:
    return min(1.0, (epoch - 1) / (epochs - 1)) if epochs > 1 else 0.0
