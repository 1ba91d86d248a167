"""Variation of features within a class (IFVD, Wang et al., ECCV 2020).

The variation of a cell is the cosine between its features and the mean features of all cells of its class in the image.
The loss is the mean over valid cells of an image of the squared difference of both variations, then the mean over
images. The label of a cell is that of the nearest pixel; cells whose pixel is ignored belong to no class.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from kdtui.engine.losses.term import Labels, OutputLoss, StepShare
from kdtui.engine.models import Outputs


class IfvdLoss(OutputLoss):
    """The mean over images; widths may differ, as features are compared within a network only."""

    projects = False

    def forward(self, student: Outputs, teacher: Outputs, labels: Labels, share: StepShare) -> Tensor:
        """Compute the loss; see the module's docstring."""
        student_map, teacher_map = self.maps(student, teacher)
        membership = _membership(labels, student_map, student.main.shape[1])
        ours, theirs = (_variation(values.flatten(2), membership) for values in (student_map, teacher_map))
        valid = membership.sum(dim=2)
        squares = ((ours - theirs).square() * valid).sum(dim=1)
        return share.mean_of_images(squares / valid.sum(dim=1).clamp(min=1))


def _membership(labels: Labels, student_map: Tensor, classes: int) -> Tensor:
    """1 where a cell is of a class, [B,N,K], in the dtype of the map."""
    masks = labels.masks.masked_fill(~labels.valid, classes).unsqueeze(1).float()  # exact for any number of classes
    nearest = F.interpolate(masks, size=student_map.shape[-2:], mode="nearest").flatten(1).long()
    return F.one_hot(nearest, classes + 1)[..., :classes].to(student_map.dtype)


def _variation(values: Tensor, membership: Tensor) -> Tensor:
    """Cosine between the features [B,C,N] of each cell and the centroid of its class, [B,N]."""
    centroids = values @ membership / membership.sum(dim=1, keepdim=True).clamp(min=1)
    return F.cosine_similarity(values, centroids @ membership.mT, dim=1)
