"""From a network to an ONNX file that has been shown to answer as the network does."""

from __future__ import annotations

from kdtui.engine.export.make import export

__all__ = ["export"]
