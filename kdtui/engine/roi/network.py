"""The kind of network ``roi``: stage 1 on the whole picture once, then a head on each box.

Stage 1 is a network of segmentation-models-pytorch for foreground and background. Its logit and the pixels of the
picture are read in each box by :func:`kdtui.engine.roi.align.roi_align`; the head makes two decisions per pixel of the
mask, which are composed as everywhere (:func:`kdtui.engine.models.compose`). A picture with k boxes costs one pass of
stage 1 and k passes of the head.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from kdtui.engine.checkpoint import load_student
from kdtui.engine.containers import open_places
from kdtui.engine.data import Batch
from kdtui.engine.models import Outputs, compose, create, logit_channels
from kdtui.engine.network import GraphInput, GraphOutput, Translation, graph_outputs
from kdtui.engine.roi.align import TRANSLATION, roi_align
from kdtui.engine.roi.head import RoiHead
from kdtui.engine.roi.memory import check_memory
from kdtui.engine.roi.metrics import instance_metrics
from kdtui.engine.roi.paste import LEGEND, instance_picture, picture_colours
from kdtui.engine.smp_network import SmpNetwork
from kdtui.engine.student_weights import load_weights
from kdtui.engine.taps import TapPoint, tap_points
from kdtui.engine.torchmetrics import Metric
from kdtui.errors import ModelError
from kdtui.export_options import ExportOptions
from kdtui.palette import RGB
from kdtui.profile import Loss, Model, Profile, RoiModel
from kdtui.profile.base import TaskName
from kdtui.text import counted

BINARY = ("background", "person")
MEASURED = (1, 3, 10)
"""Numbers of boxes of a picture for which latency is measured."""


class RoiNetwork(nn.Module):
    """Stage 1 and the head.

    Args:
        stage1: Network with one output channel, the logit of the foreground, or two, background and foreground.
        head: The head.
        roi: Height and width of the grid on which the head reads a box.

    Attributes:
        stage1_alone: Whether no gradient flows from the head into stage 1.
    """

    extra_inputs = ("rois",)

    def __init__(self, stage1: nn.Module, head: RoiHead, roi: tuple[int, int]) -> None:
        super().__init__()
        self.stage1, self.head = stage1, head
        self.stage1_alone = False
        self._roi = roi

    def forward(self, images: Tensor, rois: Tensor | None = None) -> dict[str, Tensor]:
        """Raw output by name.

        Args:
            images: f32 [B,C,H,W].
            rois: f32 [N,5]: index of the image, x1, y1, x2, y2 in pixels; by default one box around each image.

        Returns:
            ``masks``, the two decisions [N,4,h,w], and ``foreground``, its log odds [B,1,H,W].
        """
        if rois is None:
            rois = _whole(images)
        logits = self.stage1(images)
        foreground = logits if logits.shape[1] == 1 else logits[:, 1:] - logits[:, :1]
        seen = foreground.detach() if self.stage1_alone else foreground
        # One map, as the weights of the samples are the same.
        cells = roi_align(torch.cat([seen.to(images.dtype), images], dim=1), rois, self._roi)
        return {"masks": self.head(cells[:, :1], cells[:, 1:]), "foreground": foreground}

    def compose(
        self, raw: Mapping[str, Tensor], task: TaskName, features: Mapping[str, Tensor] | None = None
    ) -> Outputs:
        """See :func:`kdtui.engine.models.outputs_of`."""
        outputs = compose(raw["masks"], task, features)
        return Outputs(outputs.main, {**outputs.extra, "foreground": raw["foreground"].float()}, outputs.features)

    def logit_channels(self, task: TaskName, classes: int) -> dict[str, int]:
        """See :func:`kdtui.engine.models.channels_of`."""
        return logit_channels(task, classes) | {"foreground": 1}

    def tap_points(self) -> dict[str, TapPoint]:
        """Features of stage 1 under their usual names, and of the head.

        ``head.0`` are the shared ones of the grid, ``head.1`` and ``head`` those before the two decisions.
        """
        head = {"head.0": self.head.shared, "head.1": self.head.background_mask, "head": self.head.target_mask}
        return tap_points(self.stage1) | {name: TapPoint(module, _same) for name, module in head.items()}

    def smallest_inputs(self) -> dict[str, Tensor]:
        """No box: the head's grid does not shrink with the picture, and empty maps have gradients too."""
        return {"rois": torch.zeros(0, 5)}

    @property
    def picture_outputs(self) -> frozenset[str]:
        """Names of outputs with one map per picture, not per box."""
        return frozenset({"foreground", *tap_points(self.stage1)})


def _same(values: Tensor) -> Tensor:
    return values


def _whole(images: Tensor) -> Tensor:
    """A box around each image, [B,5]."""
    height, width = images.shape[-2:]
    corners = images.new_tensor([0.0, 0.0, width, height]).expand(len(images), 4)
    return torch.cat([torch.arange(len(images), device=images.device)[:, None].to(images.dtype), corners], dim=1)


def _boxes(count: int, height: int, width: int) -> Tensor:
    """Boxes in the first image, side by side, a quarter of its height and width each."""
    left, top = (torch.linspace(0, 0.75 * side, count) for side in (width, height))
    return torch.stack([torch.zeros(count), left, top, left + width / 4, top + height / 4], dim=1)


def _boxes_text(count: int) -> str:
    return "1 box" if count == 1 else f"{count} boxes"


class RoiKind(SmpNetwork):
    """A network with a mask per box."""

    score = "target_iou"
    picture_legend = LEGEND
    table: RoiModel  # type: ignore[assignment]

    @property
    def _stage1(self) -> Model:
        """The table of stage 1."""
        keys = Model.model_fields.keys() - {"kind"}
        table = Model.model_validate(self.table.model_dump(include=keys))
        return table.model_copy(update={"binary": table.binary or "sigmoid"})

    @property
    def architecture(self) -> str:
        """Stage 1 as smp calls it, with a head."""
        return f"{self.table.architecture}+RoI"

    def build(self, task: TaskName, classes: int, *, download: bool) -> nn.Module:
        """See the base class.

        Raises:
            ModelError: It cannot be built, or the task is not hierarchical.
        """
        if task != "hierarchical":
            raise ModelError(
                "networks of kind 'roi' need boxes with masks of background, target and others",
                where="student.kind, data.sample",
                found=f"a {task} task with {counted(classes, 'class')}",
                allowed="a hierarchical task",
                hint="--set data.sample=image",
            )
        table = self._stage1
        if not download:
            table = table.model_copy(update={"encoder_weights": "none"})
        stage1 = create(table, channels=table.out_channels("semantic", len(BINARY)), in_channels=self.channels)
        height, width = self.table.roi
        return RoiNetwork(stage1, RoiHead(self.table, self.channels), (height, width))

    def load_weights(self, network: nn.Module, classes: Sequence[str]) -> str:
        """See the base class: weights of stage 1, or all of a checkpoint of this kind."""
        assert isinstance(network, RoiNetwork)
        table = self._stage1
        if table.weights is None:
            words = super().load_weights(network.stage1, BINARY)
            return words and f"stage 1: {words}"
        places = open_places(table.weights)
        for tensors in places.tensors.values():
            if any(key.startswith("stage1.") for key in tensors) and table.weights_part != "encoder":
                load_student(network, dict(tensors), where=places.file)
                return f"all weights of {places.file}: {counted(len(tensors), 'tensor')}"
        return f"stage 1: {load_weights(network.stage1, table, BINARY)}"

    def metrics(self, classes: Sequence[str]) -> tuple[Metric, ...]:
        """See the base class."""
        return instance_metrics()

    def picture_labels(self, labels: Tensor, batch: Batch) -> Tensor:
        """The targets of all boxes in their pictures."""
        return instance_picture(labels, batch)

    def picture_colours(self, classes: Sequence[RGB]) -> Sequence[RGB]:
        """One for each instance."""
        return picture_colours()

    def graph_inputs(self) -> tuple[GraphInput, ...]:
        """The boxes."""
        return (GraphInput("rois", lambda images: torch.tensor([[0.0, 0, 0, 8, 8], [0.0, 4, 4, 16, 16]]), {0: "rois"}),)

    def graph_outputs(self, task: TaskName, options: ExportOptions) -> tuple[GraphOutput, ...]:
        """The masks of the boxes, and the foreground of the pictures as log odds."""
        _, *parts = graph_outputs(task, options)
        decisions = [GraphOutput(part.name, part.source, {0: "rois"}) for part in parts]
        return (
            GraphOutput("masks", "logits", {0: "rois"}),
            *decisions,
            GraphOutput("foreground", "foreground", logits=False),
        )

    def workloads(self, height: int, width: int) -> dict[str, tuple[Tensor, ...]]:
        """One box, three and ten, each a quarter of the picture in height and width."""
        return {_boxes_text(count): (_boxes(count, height, width),) for count in MEASURED}

    def parts(self, network: nn.Module, images: Tensor) -> dict[str, Callable[[], object]]:
        """Stage 1, and the heads of one box, three and ten."""
        assert isinstance(network, RoiNetwork)
        calls: dict[str, Callable[[], object]] = {"stage 1": partial(network.stage1, images)}
        for count in MEASURED:
            shapes = (count, 1, *self.table.roi), (count, images.shape[1], *self.table.roi)
            calls[f"heads of {_boxes_text(count)}"] = partial(network.head, *map(images.new_zeros, shapes))
        return calls

    def translations(self) -> tuple[Translation, ...]:
        """RoIAlign."""
        return (TRANSLATION,)

    def freezing(self, network: nn.Module) -> Callable[[int], bool] | None:
        """Stage 1 alone is trained in the first epochs, then the head alone; None if both are trained together."""
        epochs = self.table.stage1_epochs
        if epochs is None:
            return None
        assert isinstance(network, RoiNetwork)
        parts = {part: [p for p in part.parameters() if p.requires_grad] for part in (network.stage1, network.head)}

        def freeze(epoch: int) -> bool:
            """Freeze one part, and train the other one."""
            network.stage1_alone, changed = epoch <= epochs, False
            for part, parameters in parts.items():
                trained = (part is network.stage1) == network.stage1_alone
                changed |= any(parameter.requires_grad != trained for parameter in parameters)
                for parameter in parameters:
                    parameter.requires_grad_(trained)
                if not trained:
                    part.eval()  # its batch norms would otherwise drift away from the weights
            return changed

        return freeze

    def check(self, network: nn.Module, profile: Profile) -> None:
        """See the base class: the boxes of a step have to fit into memory.

        Raises:
            ModelError: They do not, or stage 1 and its encoder are frozen by two settings.
        """
        self.table.check_data(profile.data)
        if self.table.stage1_epochs is not None and profile.training.unfreezing is not None:
            raise ModelError(
                "stage 1 cannot be frozen by epochs and unfrozen stage by stage",
                where="student.stage1_epochs, training.unfreezing",
                found=f"stage1_epochs = {self.table.stage1_epochs}",
                allowed="one of them",
                hint="leave out student.stage1_epochs or the table training.unfreezing",
            )
        if self.table.stage1_epochs:
            self._check_stage1_is_trained(network, profile)
        check_memory(network, self.table, profile)

    def _check_stage1_is_trained(self, network: nn.Module, profile: Profile) -> None:
        assert isinstance(network, RoiNetwork)
        distillation = profile.distillation
        terms = [*(profile.loss or Loss()).active_terms()]
        reads = [term.student_needs for term in terms]
        if distillation.enabled:
            reads += [term.student_needs for term in distillation.active_terms(profile.data.task)]
        if not any(names & network.picture_outputs for names in reads):
            raise ModelError(
                "no loss term trains stage 1 while it is trained alone",
                where="student.stage1_epochs, loss.terms",
                found=", ".join(term.label for term in terms),
                allowed='a term on its output, such as {kind = "foreground"}, or stage1_epochs = 0',
                hint="--set student.stage1_epochs=0 freezes stage 1",
            )
