"""The only wing that knows torch. Its one door is ``python -m kdtui.engine VERB``."""

from kdtui.engine.torchvision_compat import ensure_torchvision

# Here, so that no room of the engine has to remember it: smp, timm and the transforms all import torchvision.
ensure_torchvision()
