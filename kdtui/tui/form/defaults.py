"""The profile's values, used for the empty fields of the form."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from kdtui.catalog import ARCHITECTURES, DECODER_CHANNELS
from kdtui.tui.form.fields import FIELDS, plain

if TYPE_CHECKING:
    from kdtui.profile import Profile


def looked_up(table: Mapping[str, Any], name: str) -> Any:
    """The value of a field in a profile."""
    found: Any = table
    for part in FIELDS[name].key.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found


def own_texts(profile: Profile) -> dict[str, str]:
    """The values of a profile as texts of the fields."""
    student, distillation, training = profile.student, profile.distillation, profile.training
    widths: Any = student.decoder_channels
    if widths is None and student.architecture in ARCHITECTURES:
        widths = DECODER_CHANNELS[-student.encoder_depth :]
    return {
        "teacher": profile.teacher.checkpoint if distillation.enabled and profile.teacher.checkpoint else "",
        "encoder": student.encoder,
        "decoder": plain(widths),
        "temperature": plain(distillation.temperature),
        "alpha": plain(distillation.alpha),
        "epochs": plain(training.epochs),
        "batch_size": plain(training.batch_size),
        "learning_rate": plain(training.learning_rate),
        "seeds": plain(profile.seed),
        "precision": training.precision,
        "accelerator": training.accelerator,
        "devices": plain(training.devices),
        "name": profile.name,
        "tags": plain(profile.tags),
    }


def teacher_options(profile: Profile) -> tuple[str, ...]:
    """Settings of a profile's teacher, apart from the file, as options of ``kdtui inspect``."""
    told = profile.teacher
    pairs = (("--task", told.task), ("--architecture", told.architecture), ("--encoder", told.encoder))
    return tuple(word for flag, value in pairs if value is not None for word in (flag, value))
