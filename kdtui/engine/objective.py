"""What a training step computes: the student's loss beside a frozen teacher.

``L = α·L_distill + (1-α)·L_base``, ``L_base`` = CE + Dice, ``L_distill`` = weighted pixel KL terms. The teacher is
frozen, in ``eval()`` and inference mode, under the run's own autocast, and never wrapped by DDP (which refuses a module
without trainable parameters).
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from kdtui.engine.losses import binary_pixel_kl, cross_entropy, dice_per_image, pixel_kl
from kdtui.engine.models import Logits, compose
from kdtui.profile import Distillation
from kdtui.profile.base import TaskName


class FrozenTeacher:
    """A teacher that only ever answers.

    Args:
        network: Plain smp network; its parameters are frozen here.
        task: How its raw output is read.
        autocast: The run's autocast context factory.
    """

    def __init__(
        self, network: nn.Module, *, task: TaskName, autocast: Callable[[], AbstractContextManager[None]]
    ) -> None:
        self.network = network.eval().requires_grad_(False)
        self._task = task
        self._autocast = autocast

    def logits(self, images: Tensor) -> Logits:
        """Logits of f32 images [B,3,H,W], as ordinary tensors without a graph."""
        with torch.inference_mode(), self._autocast():
            raw = self.network(images)
        # Cloned outside: an inference tensor saved for backward raises there.
        with torch.no_grad():
            return compose(raw.float().clone(), self._task)


@dataclass(frozen=True)
class StepShare:
    """What the whole optimizer step holds, so that one micro-batch knows its share of it.

    Attributes:
        valid_pixels: Valid pixels over all micro-batches and ranks, at least 1.
        images: Images over all micro-batches and ranks.
        world_size: Ranks; DDP averages gradients over them, so each rank's sum is multiplied back.
    """

    valid_pixels: float
    images: int
    world_size: int = 1


@dataclass(frozen=True)
class LossTerms:
    """The loss of one micro-batch as its share of the optimizer step.

    Attributes:
        total: Scalar with graph.
        parts: Detached scalars by name (``loss``, ``loss.base``, ``loss.distill.logits``, …); they add up over the
            micro-batches of a step and average over ranks.
    """

    total: Tensor
    parts: dict[str, Tensor]


class Objective:
    """Turns logits and masks into the loss.

    Args:
        distillation: Temperature, alpha and weights; ``enabled = false`` leaves the base loss alone.
        ignore_index: Label that contributes to no term.
    """

    def __init__(self, distillation: Distillation, *, ignore_index: int) -> None:
        self._distillation = distillation
        self._ignore_index = ignore_index

    def __call__(self, student: Logits, teacher: Logits | None, masks: Tensor, share: StepShare) -> LossTerms:
        """The loss of one micro-batch.

        Args:
            student: The student's logits, with graph.
            teacher: The teacher's, or None for a student trained alone.
            masks: i64 [B,H,W].
            share: The optimizer step this micro-batch belongs to.
        """
        valid_pixels = share.valid_pixels / share.world_size
        ce = cross_entropy(student.main, masks, ignore_index=self._ignore_index, valid_pixels=valid_pixels)
        dice = dice_per_image(student.main, masks, ignore_index=self._ignore_index).sum()
        dice = dice * share.world_size / share.images
        base = ce + dice
        parts = {"loss.base": base, "loss.base.ce": ce, "loss.base.dice": dice}
        total = base
        if teacher is not None and self._distillation.enabled:
            terms = self._distill(student, teacher, masks != self._ignore_index, valid_pixels)
            distill = torch.stack(list(terms.values())).sum()
            alpha = self._distillation.alpha
            total = alpha * distill + (1 - alpha) * base
            parts["loss.distill"] = distill
            parts.update({f"loss.distill.{name}": term for name, term in terms.items()})
        return LossTerms(total, {name: value.detach() for name, value in {"loss": total, **parts}.items()})

    def _distill(self, student: Logits, teacher: Logits, valid: Tensor, valid_pixels: float) -> dict[str, Tensor]:
        settings = self._distillation
        temperature = settings.temperature
        terms = {
            "logits": settings.logits
            * pixel_kl(student.main, teacher.main, valid, temperature=temperature, valid_pixels=valid_pixels)
        }
        for name, weight, ours, theirs in (
            ("bg_fg", settings.bg_fg, student.bg_fg, teacher.bg_fg),
            ("target_nontarget", settings.target_nontarget, student.target_nontarget, teacher.target_nontarget),
        ):
            if ours is not None and theirs is not None:
                # A softmax over two channels is a sigmoid of their difference.
                terms[name] = weight * binary_pixel_kl(
                    ours[:, 1] - ours[:, 0],
                    theirs[:, 1] - theirs[:, 0],
                    valid,
                    temperature=temperature,
                    valid_pixels=valid_pixels,
                )
        return terms
