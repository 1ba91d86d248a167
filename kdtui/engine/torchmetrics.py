"""What the engine uses of torchmetrics, imported without what torchmetrics does not use itself."""

from __future__ import annotations

from kdtui.engine.imports import without_scipy_signal

with without_scipy_signal():
    from torchmetrics import Metric
    from torchmetrics.classification import MulticlassConfusionMatrix

__all__ = ["Metric", "MulticlassConfusionMatrix"]
