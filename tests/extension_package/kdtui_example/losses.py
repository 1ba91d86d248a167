"""The terms: on logits, and on features with a projection."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from kdtui.engine.losses.term import DistillationLoss, Labels, OutputLoss, StepShare, same_grid, valid_cells
from kdtui.engine.models import Outputs


class LogitDistance(DistillationLoss):
    """``mean_c ((s - t) / T)²``, the mean over the valid pixels of the step."""

    def forward(self, student: Outputs, teacher: Outputs, labels: Labels, share: StepShare) -> Tensor:
        """See the class."""
        distances = (student.main - same_grid(teacher.main, student.main)) / self.temperature
        squares = distances.square().mean(dim=1)
        return squares.masked_fill(~labels.valid, 0.0).sum() / share.pixels


class Direction(OutputLoss):
    """``1 - cos(P(f_S), f_T)``, the mean over the images of the step of the mean over cells."""

    def forward(self, student: Outputs, teacher: Outputs, labels: Labels, share: StepShare) -> Tensor:
        """See the class."""
        student_map, teacher_map = self.maps(student, teacher)
        distance = 1 - F.cosine_similarity(student_map, teacher_map, dim=1)
        return share.mean_of_images((distance * valid_cells(labels.valid, student_map)).mean(dim=(1, 2)))
