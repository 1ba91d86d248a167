"""What to run: the profile, its tables, and how a TOML file becomes one."""

from kdtui.profile.tables import (
    CocoData,
    Data,
    Distillation,
    FolderData,
    Launch,
    Model,
    Profile,
    SyntheticData,
    Teacher,
    Training,
)

__all__ = [
    "CocoData",
    "Data",
    "Distillation",
    "FolderData",
    "Launch",
    "Model",
    "Profile",
    "SyntheticData",
    "Teacher",
    "Training",
]
