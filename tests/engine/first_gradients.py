"""Keep the gradients of a run's first optimizer step in ``gradients.pth``; fp32, BN in eval, unequal ignore areas.

The loss has one more term than the profile asks for, one with a mass of its own.
"""

from __future__ import annotations

import os
import sys
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kdtui.engine.data import IGNORE_INDEX, Batch, train_loader
from kdtui.engine.fit import Fit, leave
from kdtui.engine.losses import DistillationLoss, Labels, StepShare
from kdtui.engine.models import Outputs
from kdtui.engine.objective import Objective
from kdtui.engine.report import Report
from kdtui.engine.setup import set_up
from kdtui.store.run import Run
from tests.engine.runs import record


def keep_first_gradients(run: Run, *, rank: int = 0, world_size: int = 1) -> None:
    """Everything that a run does up to its first reduction of gradients."""
    stage = set_up(run, record(run), world_size=world_size)
    with Report(run, active=False) as report:
        fit = Fit(stage, report)
        fit.load_teacher()
        fit.objective = with_confident_pixels(fit.objective)
        stage.module.eval()
        place: Any = {"seed": 0, "epoch": 1, "rank": rank, "world_size": world_size}
        order = train_loader(stage.train_set, stage.profile.training, unlabelled=stage.unlabelled, **place)
        fit.backward([ignoring(batch) for batch in islice(order, len(order) // stage.steps_per_epoch)])
    if rank == 0:
        kept = {name: p.grad for name, p in stage.trainable.named_parameters() if p.grad is not None}
        torch.save(kept, run.path / "gradients.pth")


class ConfidentPixels(DistillationLoss):
    """Cross entropy with the teacher's class where the teacher is confident: its mass is a number of other pixels."""

    def __init__(self) -> None:
        nn.Module.__init__(self)

    @staticmethod
    def confident(teacher: Outputs, labels: Labels) -> Tensor:
        return (teacher.main.softmax(dim=1).amax(dim=1) > 0.4) & labels.valid

    def masses(self, teacher: Outputs, labels: Labels) -> dict[str, Tensor]:
        return {"pixels": self.confident(teacher, labels).sum()}

    def forward(self, student: Outputs, teacher: Outputs, labels: Labels, share: StepShare) -> Tensor:
        each = F.cross_entropy(student.main, teacher.main.argmax(dim=1), reduction="none")
        return (each * self.confident(teacher, labels)).sum() / share.mass("pixels")


def with_confident_pixels(objective: Objective) -> Objective:
    """The same loss with one more term."""
    terms: Any = objective.terms
    base = {name: (weight, terms[f"base_{name}"]) for name, weight in objective.base_weights.items()}
    distill = {name: (weight, terms[f"distill_{name}"]) for name, weight in objective.distill_weights.items()}
    distill["confident"] = (1.0, ConfidentPixels())
    unlabelled = {name: (weight, terms[f"unlabelled_{name}"]) for name, weight in objective.unlabelled_weights.items()}
    return Objective(base, distill, alpha=0.7, unlabelled=unlabelled, threshold=0.4)


def ignoring(batch: Batch) -> Batch:
    """The same batch with an ignored area that differs from image to image, by the image's own content."""
    masks = batch.masks.clone()
    for index, image in enumerate(batch.images):
        rows = int(image.abs().sum() * 1000) % (masks.shape[1] - 1)
        masks[index, :rows] = IGNORE_INDEX
    return batch._replace(masks=masks)


if __name__ == "__main__":
    keep_first_gradients(Run(Path(sys.argv[1])), rank=int(os.environ["RANK"]), world_size=int(os.environ["WORLD_SIZE"]))
    leave(0)
