"""Families of networks whose checkpoints can teach; a further one is a module of this package and an entry here."""

from kdtui.engine.families.family import Family, IdentifiedNetwork
from kdtui.engine.families.segformer import HuggingFaceFamily, MmsegFamily
from kdtui.engine.families.smp import SmpFamily
from kdtui.engine.families.torchvision import TorchvisionFamily

FAMILIES: tuple[Family, ...] = (SmpFamily(), TorchvisionFamily(), HuggingFaceFamily(), MmsegFamily())
"""All families; the first one whose keys occur in a dict of tensors is chosen."""

__all__ = ["FAMILIES", "Family", "IdentifiedNetwork"]
