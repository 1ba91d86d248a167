"""Keep the gradients of a run's first optimizer step in ``gradients.pth``; fp32, BN in eval, unequal ignore areas."""

from __future__ import annotations

import os
import sys
from itertools import islice
from pathlib import Path

import torch

from kdtui.engine.data import IGNORE_INDEX, Batch, train_loader
from kdtui.engine.fit import Fit, leave
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
        stage.module.eval()
        order = train_loader(stage.train_set, stage.profile.training, seed=0, epoch=1, rank=rank, world_size=world_size)
        batches = [ignoring(batch) for batch in islice(order, stage.accumulate)]
        fit.backward(batches)
    if rank == 0:
        kept = {name: p.grad for name, p in stage.student.named_parameters() if p.grad is not None}
        torch.save(kept, run.path / "gradients.pth")


def ignoring(batch: Batch) -> Batch:
    """The same batch with an ignored area that differs from image to image, by the image's own content."""
    masks = batch.masks.clone()
    for index, image in enumerate(batch.images):
        rows = int(image.abs().sum() * 1000) % (masks.shape[1] - 1)
        masks[index, :rows] = IGNORE_INDEX
    return Batch(batch.images, masks)


if __name__ == "__main__":
    keep_first_gradients(Run(Path(sys.argv[1])), rank=int(os.environ["RANK"]), world_size=int(os.environ["WORLD_SIZE"]))
    leave(0)
