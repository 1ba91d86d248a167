"""Lets a CPU-only torch stand beside a torchvision that was built for CUDA.

Such a torchvision cannot load its compiled operators, and importing it then fails while it registers shape functions
for two of them (``operator torchvision::nms does not exist``). Segmentation needs neither, so they are declared without
an implementation, and the import is tried again. Where the operators load this does nothing.
"""

from __future__ import annotations

import sys
from typing import Any

import torch

_SYMPTOM = "operator torchvision::nms does not exist"
_declared: list[torch.library.Library] = []  # a library's declarations vanish with it


def ensure_torchvision() -> None:
    """Make ``import torchvision`` work; call it before any import of torchvision or of what imports it."""
    if "torchvision" in sys.modules:
        return
    try:
        import torchvision
    except RuntimeError as error:
        if _SYMPTOM not in str(error):
            raise
    else:
        return
    for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
        del sys.modules[name]
    make_library: Any = torch.library.Library  # its constructor carries no types
    library = make_library("torchvision", "FRAGMENT")
    library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _declared.append(library)
    import torchvision  # noqa: F401
