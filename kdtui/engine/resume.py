"""What a checkpoint carries: the student, and beside it what makes resuming equal to never having stopped.

Everything is tensors, numbers, strings, lists and dicts: ``torch.load(weights_only=True)`` reads it back.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from kdtui.engine.checkpoint import FORMAT
from kdtui.profile import Profile
from kdtui.store.run import Run


@dataclass
class Progress:
    """How far a run is.

    Attributes:
        step: Optimizer steps done.
        epochs_done: Epochs trained *and* evaluated.
        best_miou: Best validation mIoU so far; None before the first evaluation.
        best_epoch: Its epoch; 0 before.
        best_iou: IoU per class of that epoch.
        window: Loss parts per step since the last ``measured`` line, [P] each.
        train_point: The last ``measured`` point of the training split.
        history: The ``measured`` points that a run started from this checkpoint inherits.
    """

    step: int = 0
    epochs_done: int = 0
    best_miou: float | None = None
    best_epoch: int = 0
    best_iou: dict[str, float | None] = field(default_factory=dict)
    window: list[Tensor] = field(default_factory=list)
    train_point: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)


def student_payload(run: Run, profile: Profile, student: nn.Module, classes: tuple[str, ...]) -> dict[str, Any]:
    """A checkpoint without resume state: the student alone, and what it is."""
    return {
        "format": FORMAT,
        "student": student.state_dict(),
        "model": profile.student.model_dump(mode="json", exclude_none=True),
        "task": profile.data.task,
        "classes": list(classes),
        "data": {"height": profile.data.height, "width": profile.data.width},
        "run": run.id,
    }


def weights_alone(payload: Mapping[str, Any]) -> dict[str, Any]:
    """A checkpoint without its resume state, which takes two thirds of it."""
    return {key: value for key, value in payload.items() if key != "resume"}


def rng_state() -> dict[str, Any]:
    """The state of every generator a training step may draw from, on this rank."""
    version, words, gauss = random.getstate()
    numpy_state = np.random.get_state(legacy=False)
    assert isinstance(numpy_state, dict)
    state: dict[str, Any] = {
        "torch": torch.get_rng_state(),
        "python": [version, list(words), gauss],
        "numpy": [
            numpy_state["bit_generator"],
            [int(word) for word in numpy_state["state"]["key"]],
            int(numpy_state["state"]["pos"]),
            int(numpy_state["has_gauss"]),
            float(numpy_state["gauss"]),
        ],
    }
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def restore_rng(state: Mapping[str, Any]) -> None:
    """Set every generator to what :func:`rng_state` saw."""
    torch.set_rng_state(state["torch"])
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words), gauss))
    name, key, position, has_gauss, cached = state["numpy"]
    np.random.set_state((name, np.array(key, dtype=np.uint32), position, has_gauss, cached))
    if torch.cuda.is_available() and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"])


def _over_ranks(fabric: Fabric, window: list[Tensor]) -> list[Tensor]:
    """The window averaged over ranks: every rank takes it up again, and the mean of equals is itself."""
    return list(fabric.all_reduce(torch.stack(window), reduce_op="mean")) if window else []


def capture(
    fabric: Fabric, progress: Progress, optimizer: torch.optim.Optimizer, *, total_epochs: int, steps_per_epoch: int
) -> dict[str, Any]:
    """The ``resume`` part of a checkpoint. Every rank must call it: generators are gathered, the window averaged.

    The learning rate schedule is a function of ``step`` and ``total_epochs``, and the sampler's position one of
    ``step`` and ``steps_per_epoch``: these numbers are their whole state.
    """
    states: list[Any] = [rng_state()]
    if fabric.world_size > 1:
        states = [None] * fabric.world_size
        torch.distributed.all_gather_object(states, rng_state())
    return {
        "step": progress.step,
        "epochs_done": progress.epochs_done,
        "best_miou": progress.best_miou,
        "best_epoch": progress.best_epoch,
        "best_iou": dict(progress.best_iou),
        "window": [part.detach().cpu() for part in _over_ranks(fabric, progress.window)],
        "train_point": dict(progress.train_point),
        "history": list(progress.history),
        "total_epochs": total_epochs,
        "steps_per_epoch": steps_per_epoch,
        "optimizer": optimizer.state_dict(),
        "scaler": fabric.strategy.precision.state_dict(),
        "rng": states,
    }


def restore(fabric: Fabric, resume: Mapping[str, Any], optimizer: torch.optim.Optimizer) -> Progress:
    """Set optimizer, scaler and generators to a checkpoint's, and return how far it was.

    With another number of ranks than the checkpoint had, the generators of ranks it lacks keep their seeding.
    """
    optimizer.load_state_dict(resume["optimizer"])
    if resume["scaler"]:
        fabric.strategy.precision.load_state_dict(resume["scaler"])
    if fabric.global_rank < len(resume["rng"]):
        restore_rng(resume["rng"][fabric.global_rank])
    return Progress(
        step=resume["step"],
        epochs_done=resume["epochs_done"],
        best_miou=resume["best_miou"],
        best_epoch=resume["best_epoch"],
        best_iou=dict(resume["best_iou"]),
        window=[part.to(fabric.device) for part in resume["window"]],
        train_point=dict(resume.get("train_point", {})),
        history=list(resume["history"]),
    )
