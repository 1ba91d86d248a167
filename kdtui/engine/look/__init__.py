"""The ``look`` verb: guess how a folder of images and labels is laid out, and what its labels mean."""

from __future__ import annotations

from kdtui.engine.look.folder import look

__all__ = ["look"]
