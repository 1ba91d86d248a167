"""What a training step computes: the student's loss beside a frozen teacher.

``L = α·L_distill + (1-α)·L_base``, each a weighted sum of terms. The teacher is frozen, in ``eval()`` and inference
mode, under the run's own autocast, and never wrapped by DDP (which refuses a module without trainable parameters).
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import reduce

import torch
from torch import Tensor, nn

from kdtui import plugins
from kdtui.engine.losses import DistillationLoss, Labels, StepShare, SupervisedLoss
from kdtui.engine.models import Outputs, compose
from kdtui.errors import ModelError
from kdtui.profile import Loss, Profile
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

    def outputs(self, images: Tensor) -> Outputs:
        """Outputs for f32 images [B,3,H,W], as ordinary tensors without a graph."""
        with torch.inference_mode(), self._autocast():
            raw = self.network(images)
        # Cloned outside: an inference tensor saved for backward raises there.
        with torch.no_grad():
            return compose(raw.float().clone(), self._task)


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


class Objective(nn.Module):
    """Turns outputs and labels into the loss; holds what the terms train of their own.

    Args:
        base: Supervised terms with their weights, by name.
        distill: Distillation terms with their weights, by name; none for a student trained alone.
        alpha: Share of the distillation terms, in [0, 1].
    """

    def __init__(
        self,
        base: Mapping[str, tuple[float, SupervisedLoss]],
        distill: Mapping[str, tuple[float, DistillationLoss]],
        *,
        alpha: float,
    ) -> None:
        super().__init__()
        self._alpha = alpha
        self._base_weights = {name: weight for name, (weight, _) in base.items()}
        self._distill_weights = {name: weight for name, (weight, _) in distill.items()}
        # Lists: a name that is also an attribute of ModuleDict would be refused there.
        self._base = nn.ModuleList(term for _, term in base.values())
        self._distill = nn.ModuleList(term for _, term in distill.values())

    def forward(self, student: Outputs, teacher: Outputs | None, labels: Labels, share: StepShare) -> LossTerms:
        """The loss of one micro-batch.

        Args:
            student: The student's outputs, with graph.
            teacher: The teacher's, or None for a student trained alone.
            labels: Of the same images, on the same device.
            share: The optimizer step this micro-batch belongs to.
        """
        base = {
            name: weight * term(student, labels, _own(share, f"base.{name}."))
            for (name, weight), term in zip(self._base_weights.items(), self._base, strict=True)
        }
        total = base_total = reduce(torch.add, base.values())
        parts = {"loss.base": base_total, **{f"loss.base.{name}": value for name, value in base.items()}}
        if teacher is not None and self._distill_weights:
            distill = {
                name: weight * term(student, teacher, labels, _own(share, f"distill.{name}."))
                for (name, weight), term in zip(self._distill_weights.items(), self._distill, strict=True)
            }
            distill_total = torch.stack(list(distill.values())).sum()
            total = self._alpha * distill_total + (1 - self._alpha) * base_total
            parts["loss.distill"] = distill_total
            parts.update({f"loss.distill.{name}": value for name, value in distill.items()})
        return LossTerms(total, {name: value.detach() for name, value in {"loss": total, **parts}.items()})


def _own(share: StepShare, prefix: str) -> StepShare:
    """The share with the masses of one term, by the names it gave them."""
    if not share.masses:
        return share
    masses = {name.removeprefix(prefix): mass for name, mass in share.masses.items() if name.startswith(prefix)}
    return dataclasses.replace(share, masses=masses)


def build_objective(
    profile: Profile, *, student_channels: Mapping[str, int], teacher_channels: Mapping[str, int]
) -> Objective:
    """The loss that a profile asks for.

    Args:
        profile: Its terms and weights; ``distillation.enabled = false`` leaves the base loss alone.
        student_channels: Channels of every output of the student, by name.
        teacher_channels: Channels of every output of the teacher.

    Raises:
        UsageError: The module of a term cannot be imported.
        ModelError: A term reads an output that the student or the teacher does not have.
    """
    distillation = profile.distillation
    base = (profile.loss or Loss()).active_terms()
    distill = distillation.active_terms(profile.data.task) if distillation.enabled else ()
    for index, table in enumerate(distill):
        for role, needs, channels in (
            ("student", table.student_needs, student_channels),
            ("teacher", table.teacher_needs, teacher_channels),
        ):
            _check_outputs(role, needs, channels, f"distillation.terms[{index}]")
    return Objective(
        {table.label: (table.weight, plugins.imported(table.implementation)(table)) for table in base},
        {
            table.label: (
                table.weight,
                plugins.imported(table.implementation)(table, student_channels, teacher_channels),
            )
            for table in distill
        },
        alpha=distillation.alpha,
    )


def _check_outputs(role: str, needs: Collection[str], channels: Mapping[str, int], where: str) -> None:
    missing = sorted(set(needs) - channels.keys())
    if missing:
        close = difflib.get_close_matches(missing[0], channels, n=1)
        raise ModelError(
            f"the {role} has no output of this name",
            where=where,
            found=missing[0],
            allowed=", ".join(channels),
            hint=f"did you mean {close[0]}?" if close else None,
        )
