"""Several teachers as one: the student learns from the mean of their softened class probabilities."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kdtui.engine.losses.term import at_least_f32, same_grid
from kdtui.engine.models import Outputs, Wrapper, inputs_of, outputs_of
from kdtui.profile.base import TaskName


def mean_logits(logits: Sequence[Tensor], weights: Sequence[float], temperature: float = 1.0) -> Tensor:
    """Logits z whose ``softmax(z / T)`` is the weighted mean of the ``softmax(z_i / T)``.

    Args:
        logits: [B,C,h,w] of each teacher, resized bilinearly to the first one's grid if it differs.
        weights: Of each teacher; their sum is 1.
        temperature: T > 0.

    Returns:
        ``T log Σ w_i softmax(z_i / T)``, [B,C,H,W], at least f32.
    """
    softened = [
        F.log_softmax(same_grid(at_least_f32(one), logits[0]) / temperature, dim=1) + math.log(weight)
        for one, weight in zip(logits, weights, strict=True)
    ]
    return temperature * torch.stack(softened).logsumexp(dim=0)


@dataclass(frozen=True)
class MeanOutputs(Outputs):
    """Outputs of several teachers.

    All logits are those of the mean probabilities: at T = 1, or at the temperature of :meth:`softened`. Features are
    those of the first teacher.

    Attributes:
        members: Outputs of each teacher.
        weights: Of each teacher; their sum is 1.
    """

    members: Sequence[Outputs] = ()
    weights: Sequence[float] = ()

    def softened(self, temperature: float) -> Outputs:
        """The outputs whose ``softmax(logits / T)`` is the mean of those of the teachers."""

        def mean(pick: Callable[[Outputs], Tensor]) -> Tensor:
            return mean_logits([pick(one) for one in self.members], self.weights, temperature)

        extra = {name: mean(lambda one, name=name: one.extra[name]) for name in self.extra}  # type: ignore[misc]
        return replace(self, main=mean(lambda one: one.main), extra=extra)


class Ensemble(Wrapper):
    """Several teachers as one network, whose features are those of the first.

    Args:
        networks: Each adapted to the run.
        weights: Of each network, > 0; normalised here.
    """

    def __init__(self, networks: Sequence[nn.Module], weights: Sequence[float]) -> None:
        super().__init__(networks[0])
        self.others = nn.ModuleList(networks[1:])
        self.weights = tuple(weight / sum(weights) for weight in weights)

    def forward(self, images: Tensor, **extras: Tensor) -> tuple[Any, ...]:
        """The raw outputs of the networks."""
        return tuple(network(images, **inputs_of(network, extras)) for network in (self.network, *self.others))

    def compose(self, raw: Any, task: TaskName, features: Mapping[str, Tensor] | None = None) -> Outputs:
        """See :class:`MeanOutputs`."""
        networks = (self.network, *self.others)
        members = [outputs_of(network, one, task) for network, one in zip(networks, raw, strict=True)]
        extra = {name: values for name, values in members[0].extra.items() if all(name in one.extra for one in members)}
        return MeanOutputs(members[0].main, extra, features or {}, members, self.weights).softened(1.0)
