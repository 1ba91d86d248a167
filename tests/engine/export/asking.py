"""Asking a network and a file the same question."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from kdtui.engine.data import MEAN, STD
from kdtui.engine.export.deployed import Deployed
from kdtui.engine.export.source import ExportNetwork
from kdtui.engine.export.verify import session
from kdtui.engine.models import compose
from kdtui.export_options import ExportOptions


def deployed(source: ExportNetwork, options: ExportOptions) -> Deployed:
    return source.deployed(options)


def pictures(count: int = 2, height: int = 32, width: int = 32) -> NDArray[np.uint8]:
    """RGB [N,H,W,3] as a camera gives it."""
    generator = np.random.default_rng(0)
    return generator.integers(0, 256, (count, height, width, 3), dtype=np.uint8)


def normalised(images: NDArray[np.uint8]) -> torch.Tensor:
    """What training feeds: f32 [N,3,H,W]."""
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    return (pixels - torch.tensor(MEAN).view(1, 3, 1, 1)) / torch.tensor(STD).view(1, 3, 1, 1)


def logits(source: ExportNetwork, images: NDArray[np.uint8]) -> torch.Tensor:
    """The task's logits of images whose sides the stride divides."""
    with torch.inference_mode():
        return compose(source.network(normalised(images)), source.task).main


def ask(path: Path, images: NDArray[Any]) -> list[NDArray[Any]]:
    return list(session(path).run(None, {"images": images}))


def floats(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """RGB 0 to 1 [N,3,H,W]."""
    return np.ascontiguousarray((images.transpose(0, 3, 1, 2) / 255).astype(np.float32))
