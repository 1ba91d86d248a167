"""The only package that imports torch; run as ``python -m kdtui.engine VERB``."""

from kdtui.engine.torchvision_compat import ensure_torchvision

# Before any other module of the engine: smp, timm and the transforms import torchvision.
ensure_torchvision()
