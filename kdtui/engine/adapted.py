"""A teacher whose input or classes differ from those of the run, as a network for the run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kdtui.engine.models import Outputs, Wrapper, compose, logit_channels, outputs_of
from kdtui.profile.base import TaskName


class Adapted(Wrapper):
    """Convert the images before the network, and its classes and size after it.

    Args:
        network: The network; may be wrapped in :class:`kdtui.engine.models.AnySize`.
        task: How its raw output is read.
        convert: Converts images; None leaves them unchanged.
        scale: Factor for height and width of the images.
        groups: For each class of the run the network's classes whose probabilities are added; None for all classes in
            their order.
        channels: Permutation of the raw output's channels; None leaves it unchanged.
        notes: Descriptions of the changes, one each.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        task: TaskName,
        convert: nn.Module | None = None,
        scale: float = 1.0,
        groups: Sequence[Sequence[int]] | None = None,
        channels: Sequence[int] | None = None,
        notes: Sequence[str] = (),
    ) -> None:
        super().__init__(network)
        self.convert = convert
        self.notes = tuple(notes)
        self._task: TaskName = task
        self._scale = scale
        self._groups = groups
        self._channels = None if channels is None else list(channels)

    @classmethod
    def with_input(cls, network: nn.Module, convert: nn.Module, task: TaskName) -> Adapted:
        """The same network, which converts images in another way.

        Args:
            network: The network; if it is adapted, its other changes remain.
            convert: Converts images.
            task: How its raw output is read, if it is not adapted.
        """
        if not isinstance(network, Adapted):
            return cls(network, task=task, convert=convert)
        return cls(
            network.network,
            task=network._task,
            convert=convert,
            scale=network._scale,
            groups=network._groups,
            channels=network._channels,
        )

    def inner_size(self, height: int, width: int) -> tuple[int, int]:
        """The scaled size."""
        return max(1, round(height * self._scale)), max(1, round(width * self._scale))

    def forward(self, images: Tensor, **extras: Tensor) -> Any:
        """Raw output [B,C,H,W], or outputs by name, for the run's normalised images [B,C,H,W]."""
        seen = images if self.convert is None else self.convert(images)
        if self._scale != 1:
            size = self.inner_size(*images.shape[-2:])
            seen = F.interpolate(seen, size, mode="bilinear", align_corners=False, antialias=self._scale < 1)
        raw: Any = self.network(seen, **extras)
        if not isinstance(raw, Tensor):  # outputs by name have sizes of their own; other changes were refused
            return raw
        return self.converted(raw, *images.shape[-2:])

    def converted(self, raw: Tensor, height: int, width: int) -> Tensor:
        """With the run's classes, at the size of the run's images."""
        if self._channels is not None:
            raw = raw[:, self._channels]
        if self._groups is not None:
            raw = grouped(outputs_of(self.network, raw, self._task).main, self._groups)
        if raw.shape[-2:] != (height, width):
            raw = F.interpolate(raw.float(), (height, width), mode="bilinear", align_corners=False)
        return raw

    def compose(self, raw: Tensor, task: TaskName, features: Mapping[str, Tensor] | None = None) -> Outputs:
        """Grouped output has one channel per class of the run."""
        return super().compose(raw, task, features) if self._groups is None else compose(raw, task, features)

    def logit_channels(self, task: TaskName, classes: int) -> dict[str, int]:
        """As :meth:`compose`."""
        return super().logit_channels(task, classes) if self._groups is None else logit_channels(task, classes)


def grouped(logits: Tensor, groups: Sequence[Sequence[int]]) -> Tensor:
    """Logits of classes that are unions of others: log of the summed probabilities, up to a constant per pixel.

    Classes in no group are dropped; the softmax of the result renormalises the others.

    Args:
        logits: [B,K,H,W].
        groups: Indices of the classes of each union.

    Returns:
        f32 [B,len(groups),H,W].
    """
    logits = logits.float()
    if all(len(group) == 1 for group in groups):
        return logits[:, [group[0] for group in groups]]
    return torch.cat([logits[:, list(group)].logsumexp(dim=1, keepdim=True) for group in groups], dim=1)
