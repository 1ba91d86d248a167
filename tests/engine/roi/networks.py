"""A tiny network of kind ``roi``, and runs that train it on synthetic pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kdtui.engine.network import build_student
from kdtui.engine.roi.network import RoiNetwork
from kdtui.profile import RoiModel
from kdtui.store.run import Run
from tests.engine.runs import make_run

STUDENT: dict[str, Any] = {
    "kind": "roi",
    "encoder": "tu-test_resnet",
    "encoder_depth": 3,
    "decoder_channels": [8, 8, 8],
    "roi": [8, 8],
    "mask": [16, 16],
    "head_channels": 8,
    "head_depth": 1,
}
DATA: dict[str, Any] = {"sample": "image", "mask_size": [16, 16], "train_samples": 8, "val_samples": 4}
TERMS: dict[str, Any] = {
    "loss__terms": [{"kind": "ce"}, {"kind": "dice"}, {"kind": "contour", "on": "head"}, {"kind": "foreground"}]
}
"""Supervised terms on boxes, on a head of its own, and on pictures."""
ROIS = torch.tensor([[0.0, 2, 2, 20, 30], [1.0, 4, 4, 16, 16], [0.0, -4, -4, 40, 40]])


def build(**changes: Any) -> RoiNetwork:
    """The tiny network with other keys."""
    torch.manual_seed(0)
    network = build_student(RoiModel.model_validate(STUDENT | changes), task="hierarchical", classes=3)
    assert isinstance(network, RoiNetwork)
    return network


def images(count: int = 2) -> Tensor:
    """Random images of 32 x 32."""
    return torch.randn(count, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def make_roi_run(root: Path, **changes: Any) -> Run:
    """A run of the tiny network."""
    parts = {"student": dict(STUDENT), "data": dict(DATA)}
    tables = {f"{table}__{key}": value for table, keys in parts.items() for key, value in keys.items()}
    tables |= {"training__precision": "fp32", "training__batch_size": 4, "training__log_every": 1}
    return make_run(root, **(tables | changes))
