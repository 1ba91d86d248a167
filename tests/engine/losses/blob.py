"""Golden input: an image of 8 x 10 pixels with two touching regions, and logits of student and teacher in f64."""

from __future__ import annotations

import torch
from torch import Tensor

from kdtui.engine.data import IGNORE_INDEX
from kdtui.engine.losses import Labels, StepShare, SupervisedLoss
from kdtui.engine.models import Outputs

_K = torch.arange(240, dtype=torch.float64)
STUDENT = (2 * torch.sin(0.37 * _K)).reshape(1, 3, 8, 10)
TEACHER = (3 * torch.cos(0.23 * _K + 0.5)).reshape(1, 3, 8, 10)
MASKS = torch.zeros(1, 8, 10, dtype=torch.long)
MASKS[:, 2:6, 2:5] = 1
MASKS[:, 3:7, 5:8] = 2
LABELS = Labels(MASKS, IGNORE_INDEX)
SHARE = StepShare(valid_pixels=80, images=1)


def random_batch(seed: int = 0) -> tuple[Tensor, Tensor]:
    """Logits f64 [4,3,6,5] and masks with ignored pixels, one image of one class, one of ignored pixels only."""
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(4, 3, 6, 5, generator=generator, dtype=torch.float64)
    masks = torch.randint(0, 3, (4, 6, 5), generator=generator)
    masks[0, :2] = IGNORE_INDEX
    masks[2] = 1
    masks[3] = IGNORE_INDEX
    return logits, masks


def value(term: SupervisedLoss, logits: Tensor, masks: Tensor) -> float:
    """The loss of a whole step."""
    labels = Labels(masks, IGNORE_INDEX)
    share = StepShare(max(1.0, float(labels.valid.sum())), len(masks), masses=term.masses(labels))
    return float(term(Outputs(logits), labels, share))
