"""The profile's values, used for the empty fields of the form."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from kdtui.catalog import ARCHITECTURES, DECODER_CHANNELS
from kdtui.profile.settings import SETTINGS, plain

if TYPE_CHECKING:
    from kdtui.profile import Profile


def looked_up(table: Mapping[str, Any], key: str) -> Any:
    """The value of a key in the tables of a profile; None if it has none."""
    value: Any = table
    for part in key.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def own_values(profile: Profile) -> dict[str, Any]:
    """The tables of a profile; initial weights are those of ``student.weights``, also if written otherwise."""
    table = profile.model_dump(mode="json")
    if table["student"].get("weights") is None and "encoder_weights" in table["student"]:
        table["student"]["weights"] = table["student"]["encoder_weights"]
    return table


def own_texts(profile: Profile) -> dict[str, str]:
    """The values of a profile as texts of the fields."""
    table = own_values(profile)
    texts = {name: plain(looked_up(table, setting.key)) for name, setting in SETTINGS.items() if setting.key}
    network = profile.student.catalog_arguments()
    if network and network["decoder_channels"] is None and network["architecture"] in ARCHITECTURES:
        texts["decoder"] = plain(DECODER_CHANNELS[-network["encoder_depth"] :])
    return texts if profile.distillation.enabled else {**texts, "teacher": ""}


def teacher_options(profile: Profile) -> tuple[str, ...]:
    """Settings of a profile's teacher, apart from the file, as options of ``kdtui inspect``."""
    told = profile.teacher
    pairs = (("--task", told.task), ("--architecture", told.architecture), ("--encoder", told.encoder))
    return tuple(word for flag, value in pairs if value is not None for word in (flag, value))
