"""Export networks to ONNX files whose outputs are verified against torch."""

from __future__ import annotations

from kdtui.engine.export.make import export

__all__ = ["export"]
