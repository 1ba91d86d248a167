"""Allow a CPU-only torch with a torchvision that was built for CUDA.

Such a torchvision cannot load its compiled operators, and importing it fails when it registers shape functions for two
of them (``operator torchvision::nms does not exist``). Segmentation needs neither, so they are declared without an
implementation, and the import is repeated. If the operators load, this does nothing.
"""

from __future__ import annotations

import sys
from typing import Any

import torch

_SYMPTOM = "operator torchvision::nms does not exist"
_declared: list[torch.library.Library] = []  # declarations exist only as long as their library


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
    make_library: Any = torch.library.Library  # its constructor is untyped
    library = make_library("torchvision", "FRAGMENT")
    library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _declared.append(library)
    import torchvision  # noqa: F401
