"""Profiles: their tables, and loading them from TOML files.

The names below are imported on first use, because the tables need pydantic: importing ``kdtui.profile.find`` alone is
fast enough for shell completion.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kdtui.profile.data_tables import CocoData, CocoSplit, DataTable, FolderData, ImageData, SyntheticData
    from kdtui.profile.loading import absolute, amend, dump, load, sources
    from kdtui.profile.network_tables import Model, NetworkTable, RoiModel
    from kdtui.profile.tables import Distillation, Launch, Loss, Profile, Teacher, Training, Unfreezing

__all__ = [
    "CocoData",
    "CocoSplit",
    "DataTable",
    "Distillation",
    "FolderData",
    "ImageData",
    "Launch",
    "Loss",
    "Model",
    "NetworkTable",
    "Profile",
    "RoiModel",
    "SyntheticData",
    "Teacher",
    "Training",
    "Unfreezing",
    "absolute",
    "amend",
    "dump",
    "load",
    "sources",
]

_MODULES = {
    **dict.fromkeys(("absolute", "amend", "dump", "load", "sources"), "loading"),
    **dict.fromkeys(("CocoData", "CocoSplit", "DataTable", "FolderData", "ImageData", "SyntheticData"), "data_tables"),
    **dict.fromkeys(("Model", "NetworkTable", "RoiModel"), "network_tables"),
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"kdtui.profile.{_MODULES.get(name, 'tables')}"), name)
