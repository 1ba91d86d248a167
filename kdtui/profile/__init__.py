"""What to run: the profile, its tables, and how a TOML file becomes one.

The names below are loaded on first use, because the tables bring pydantic: ``kdtui.profile.find`` alone (names and
places of profile files) stays cheap enough for shell completion.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kdtui.profile.loading import absolute, amend, dump, load, sources
    from kdtui.profile.tables import (
        CocoData,
        CocoSplit,
        Data,
        Distillation,
        FolderData,
        Launch,
        Loss,
        Model,
        Profile,
        SyntheticData,
        Teacher,
        Training,
    )

__all__ = [
    "CocoData",
    "CocoSplit",
    "Data",
    "Distillation",
    "FolderData",
    "Launch",
    "Loss",
    "Model",
    "Profile",
    "SyntheticData",
    "Teacher",
    "Training",
    "absolute",
    "amend",
    "dump",
    "load",
    "sources",
]

_LOADING = frozenset({"absolute", "amend", "dump", "load", "sources"})


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module("kdtui.profile.loading" if name in _LOADING else "kdtui.profile.tables"), name)
