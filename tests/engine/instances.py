"""A kind of network and a kind of data whose batches have one label map per box, as many as there are, and no more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics import Metric

from kdtui.engine.data import IGNORE_INDEX, Batch, Sample
from kdtui.engine.data.synthetic import SyntheticPeople
from kdtui.engine.models import Outputs, compose
from kdtui.engine.network import GraphInput, GraphOutput, NetworkKind
from kdtui.engine.roi.paste import instance_picture, picture_colours
from kdtui.export_options import ExportOptions
from kdtui.palette import RGB
from kdtui.profile.base import TaskName

SIDE = 8
"""Height and width of the masks."""


class BoxesOfPeople(SyntheticPeople):
    """Synthetic samples with none to two boxes each."""

    def extras(self, image: Tensor, mask: Tensor) -> Mapping[str, Tensor]:
        boxes = torch.tensor([[0.0, 0.0, 1.0, 1.0], [0.0, 0.5, 1.0, 1.0]])
        return {"boxes": boxes[: int(mask.sum()) % 3]}

    def collate(self, samples: Sequence[Sample]) -> Batch:
        counts = [len(sample.extras["boxes"]) for sample in samples]
        places = torch.arange(len(samples)).repeat_interleave(torch.tensor(counts))
        boxes = torch.cat([sample.extras["boxes"] for sample in samples])
        masks = torch.stack([sample.mask for sample in samples])
        small = F.interpolate(masks[:, None].float(), (SIDE, SIDE)).squeeze(1).long()
        rois = torch.cat([places[:, None].float(), boxes], dim=1)
        return Batch(torch.stack([sample.image for sample in samples]), small[places], {"rois": rois})

    def label_maps(self, index: int) -> int:
        return len(self[index, 0].extras["boxes"])


class Instances(nn.Module):
    """The four logits of each box, and two of each pixel of the images."""

    extra_inputs = ("rois",)

    def __init__(self) -> None:
        super().__init__()
        self.body, self.foreground, self.head = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 2, 1), nn.Conv2d(7, 4, 1)

    def forward(self, images: Tensor, rois: Tensor | None = None) -> dict[str, Tensor]:
        if rois is None:
            rois = F.pad(torch.arange(len(images), device=images.device)[:, None].to(images.dtype), (0, 4))
        maps = self.body(images).relu()
        chosen = F.interpolate(maps, (SIDE, SIDE), mode="bilinear")[rois[:, 0].long()]
        place = rois[:, 2, None, None, None].expand(-1, 1, SIDE, SIDE)
        return {"masks": self.head(torch.cat([chosen, place], dim=1)), "foreground": self.foreground(maps)}

    def compose(self, raw: dict[str, Tensor], task: TaskName, features: Any = None) -> Outputs:
        outputs = compose(raw["masks"], task, features)
        return Outputs(outputs.main, {**outputs.extra, "foreground": raw["foreground"]}, outputs.features)

    def logit_channels(self, task: TaskName, classes: int) -> dict[str, int]:
        return {"logits": 3, "bg_fg": 2, "target_nontarget": 2, "foreground": 2}


class TargetIoU(Metric):
    """The mean over boxes of the IoU of class 1."""

    full_state_update = False
    totals: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("totals", torch.zeros(2, dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, outputs: Outputs, batch: Batch) -> None:
        predicted, truth = outputs.main.argmax(dim=1) == 1, batch.masks == 1
        valid = batch.masks != IGNORE_INDEX
        union = ((predicted | truth) & valid).sum(dim=(1, 2))
        iou = (predicted & truth).sum(dim=(1, 2)) / union
        self.totals += torch.tensor([iou[union > 0].sum(), (union > 0).sum()], dtype=torch.float64)

    def compute(self) -> dict[str, Tensor]:
        return {"target_iou": self.totals[0] / self.totals[1], "boxes": self.totals[1]}


class Attempts(Metric):
    """Minus the number of evaluations so far, which is largest at first."""

    evaluations = 0
    full_state_update = False

    def __init__(self) -> None:
        super().__init__()
        type(self).evaluations += 1

    def update(self, outputs: Outputs, batch: Batch) -> None:
        """Nothing to count."""

    def compute(self) -> dict[str, float]:
        return {"earliness": -float(type(self).evaluations)}


class InstancesKind(NetworkKind):
    """Its best epoch is the first one."""

    score = "earliness"
    picture_legend = "a colour for each box"

    @property
    def stride(self) -> int:
        return 2

    def build(self, task: TaskName, classes: int, *, download: bool) -> nn.Module:
        return Instances()

    def graph_inputs(self) -> tuple[GraphInput, ...]:
        return (GraphInput("rois", lambda images: F.pad(torch.zeros(2, 1), (0, 4)), {0: "boxes"}),)

    def graph_outputs(self, task: TaskName, options: ExportOptions) -> tuple[GraphOutput, ...]:
        return GraphOutput("masks", "logits", {0: "boxes"}), GraphOutput("foreground", "foreground", logits=False)

    def metrics(self, classes: Sequence[str]) -> tuple[Metric, ...]:
        return (TargetIoU(), Attempts())

    def picture_labels(self, labels: Tensor, batch: Batch) -> Tensor:
        """The boxes, which are shares of the image here, in the whole image."""
        rois = batch.extras["rois"] * torch.tensor([1.0, *(2 * batch.images.shape[:1:-1])])
        return instance_picture(labels, batch._replace(extras={"rois": rois}))

    def picture_colours(self, classes: Sequence[RGB]) -> Sequence[RGB]:
        return picture_colours()
