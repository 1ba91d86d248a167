"""Edges and bodies of regions apart (BPKD, Liu et al., 2306.08075).

KL per pixel in the band around boundaries between classes, the mean over its pixels, plus KL per pixel or channel-wise
distillation on the other pixels. Edges are few, so that a mean over all pixels would hardly show them.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from kdtui.engine.losses.band import boundary_band
from kdtui.engine.losses.cwd import channel_kl
from kdtui.engine.losses.kl import pixel_kl
from kdtui.engine.losses.term import DistillationLoss, Labels, StepShare, at_least_f32, same_grid
from kdtui.engine.models import Outputs
from kdtui.profile.term_tables import EdgeBodyTerm


class EdgeBodyLoss(DistillationLoss):
    """The weighted sum of both parts; the band is computed from the labels."""

    def __init__(
        self, table: EdgeBodyTerm, student_channels: Mapping[str, int], teacher_channels: Mapping[str, int]
    ) -> None:
        super().__init__(table, student_channels, teacher_channels)
        self._band, self._body = table.band, table.body
        self._edge_weight, self._body_weight = table.edge_weight, table.body_weight

    def _areas(self, labels: Labels) -> dict[str, Tensor]:
        band = boundary_band(labels, self._band)
        return {"edge": band & labels.valid, "body": ~band & labels.valid}

    def masses(self, teacher: Outputs, labels: Labels) -> dict[str, Tensor]:
        """The number of valid pixels in the band and outside of it."""
        return {name: area.sum() for name, area in self._areas(labels).items()}

    def forward(self, student: Outputs, teacher: Outputs, labels: Labels, share: StepShare) -> Tensor:
        """Compute the loss; see the module's docstring."""
        areas, temperature = self._areas(labels), self.temperature
        teacher_logits = teacher.softened(temperature).main

        def kl(name: str) -> Tensor:
            mass = share.mass(name)
            return pixel_kl(student.main, teacher_logits, areas[name], temperature=temperature, valid_pixels=mass)

        if self._body == "kl":
            body = kl("body")
        else:
            ours = at_least_f32(student.main)
            theirs = same_grid(at_least_f32(teacher.main), ours)
            body = share.mean_of_images(channel_kl(ours, theirs, areas["body"], temperature=temperature))
        return self._edge_weight * kl("edge") + self._body_weight * body
