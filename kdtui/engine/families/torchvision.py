"""Segmentation networks of torchvision: FCN, DeepLabV3 and LRASPP."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torchvision.models import segmentation

from kdtui.engine.containers import Contents, Layout
from kdtui.engine.families.family import (
    IMAGENET,
    Family,
    IdentifiedNetwork,
    check_setting,
    load_strictly,
    unknown_network,
)
from kdtui.engine.models import count_parameters
from kdtui.engine.taps import TapPoint
from kdtui.engine.upsampling import Upsampling, resized

_RGB = 3
# The last layer, whose channels are the classes, and a key that only this head has.
_HEADS = {
    "deeplabv3": ("classifier.4.weight", "classifier.0.convs.0.0.weight"),
    "fcn": ("classifier.4.weight", "classifier.0.weight"),
    "lraspp": ("classifier.low_classifier.weight", "classifier.cbr.0.weight"),
}
# Keys that only one backbone has; the larger ResNet has all keys of the smaller one.
_BACKBONES = {
    "resnet101": "backbone.layer3.22.conv1.weight",
    "resnet50": "backbone.layer4.2.conv3.weight",
    "mobilenet_v3_large": "backbone.16.0.weight",
}


class Logits(nn.Module):
    """The main output of a network of torchvision, which has the size of the images."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        """Logits [B,K,H,W] of normalised images [B,3,H,W]."""
        logits: Tensor = self.network(images)["out"]
        return logits

    def tap_points(self) -> dict[str, TapPoint]:
        """The last map of the backbone, and the map before the last layer."""
        classifier = self.network.get_submodule("classifier")
        points = {"encoder": TapPoint(self.network.get_submodule("backbone"), _deepest)}
        if isinstance(classifier, nn.Sequential):
            points["decoder"] = TapPoint(classifier[-2], lambda output: output)
        return points

    def upsampling(self) -> Upsampling:
        """Of the logits, which have the stride of the backbone."""
        return Upsampling(self.network.get_submodule("classifier"), resized)


class TorchvisionFamily(Family):
    """Networks of ``torchvision.models.segmentation``; the auxiliary head is ignored."""

    layout = Layout("torchvision", ("backbone", "classifier"))

    def identify(self, contents: Contents, *, architecture: str | None, encoder: str | None) -> IdentifiedNetwork:
        """See the base class."""
        state = contents.state
        head = next((name for name, keys in _HEADS.items() if all(key in state for key in keys)), None)
        backbone = next((name for name, key in _BACKBONES.items() if key in state), None)
        build = getattr(segmentation, f"{head}_{backbone}", None)
        if head is None or backbone is None or build is None:
            last = [key for key in state if key.startswith("classifier.")][-1]
            raise unknown_network(
                self.layout.family,
                where=contents.file,
                found=f"{head or last}, {backbone or next(iter(state))}",
                allowed="FCN, DeepLabV3 and LRASPP of torchvision.models.segmentation",
            )
        check_setting("architecture", architecture, head, where=contents.file)
        check_setting("encoder", encoder, backbone, where=contents.file)
        classes = int(state[_HEADS[head][0]].shape[0])
        network = build(weights=None, weights_backbone=None, num_classes=classes)
        load_strictly(network, state, where=contents.file, title=f"{head}_{backbone}")
        facts: dict[str, Any] = {
            "architecture": head,
            "encoder": backbone,
            "encoder_depth": None,
            "decoder_channels": None,
            "out_channels": classes,
            "in_channels": _RGB,
        }
        return IdentifiedNetwork(Logits(network), facts, count_parameters(network), pixels=IMAGENET)


def _deepest(output: dict[str, Tensor]) -> Tensor:
    return output["out"] if "out" in output else output["high"]
