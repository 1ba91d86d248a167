"""Keep the gradients of a run's first optimizer step in ``gradients.pth``, with batch norms in eval mode."""

from __future__ import annotations

import os
import sys
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from kdtui.engine.data import train_loader
from kdtui.engine.fit import Fit, leave
from kdtui.engine.report import Report
from kdtui.engine.setup import set_up
from kdtui.store.run import Run
from tests.engine.runs import record


def keep_gradients(run: Run, *, rank: int = 0, world_size: int = 1) -> list[int]:
    """Compute them; returns the number of boxes of each micro-batch."""
    stage = set_up(run, record(run), world_size=world_size)
    with Report(run, active=False) as report:
        fit = Fit(stage, report)
        fit.load_teacher()
        stage.module.eval()
        place: Any = {"seed": 0, "epoch": 1, "rank": rank, "world_size": world_size}
        order = train_loader(stage.train_set, stage.profile.training, **place)
        batches = list(islice(order, len(order) // stage.steps_per_epoch))
        fit.backward(batches)
    if rank == 0:
        kept = {name: p.grad for name, p in stage.trainable.named_parameters() if p.grad is not None}
        torch.save(kept, run.path / "gradients.pth")
    return [len(batch.masks) for batch in batches]


if __name__ == "__main__":
    place = {name.lower(): int(os.environ[name]) for name in ("RANK", "WORLD_SIZE")}
    keep_gradients(Run(Path(sys.argv[1])), **place)
    leave(0)
