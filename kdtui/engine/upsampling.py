"""The last upsampling of a network's logits, apart from the rest of its forward pass.

Many networks compute their logits at a part of the size of the images and upsample them at the end. What follows that
map has no weights, so it determines the output of the network, and of one around it that changes size and classes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from segmentation_models_pytorch.base import SegmentationHead, SegmentationModel
from segmentation_models_pytorch.decoders.dpt.decoder import DPTSegmentationHead
from segmentation_models_pytorch.decoders.dpt.model import DPT
from torch import Tensor, nn
from torch.nn import functional as F

from kdtui.engine.models import Wrapper, unwrapped


@dataclass(frozen=True)
class Upsampling:
    """The end of a network's forward pass.

    Attributes:
        module: Its output is the logits [B,K,h,w] before the upsampling.
        apply: The network's raw output [B,K,H,W] for these logits and images of height H and width W.
    """

    module: nn.Module
    apply: Callable[[Tensor, int, int], Tensor]


def upsampling_of(network: nn.Module) -> Upsampling | None:
    """The upsampling at the end of a network: from its method ``upsampling`` if it has one, else that of smp.

    Args:
        network: The network; may be wrapped.

    Returns:
        None if its logits have the size of the images, or if what it does with them is not known.
    """
    network = unwrapped(network)
    own = getattr(network, "upsampling", None)
    if own is not None:
        upsampling: Upsampling = own()
        return upsampling
    # A class derived from these may do more with the output of its head.
    if type(network).forward not in (SegmentationModel.forward, DPT.forward):
        return None
    return _of_head(network.segmentation_head)


def _of_head(head: Any) -> Upsampling | None:
    if isinstance(head, SegmentationHead):
        convolution, upsampling, activation = head
        if isinstance(upsampling, nn.Upsample) and isinstance(activation.activation, nn.Identity):
            return Upsampling(convolution, lambda logits, _height, _width: upsampling(logits))
    if isinstance(head, DPTSegmentationHead) and isinstance(head.activation.activation, nn.Identity):
        factor = head.upsampling_factor
        return Upsampling(head.head, lambda logits, _height, _width: _aligned(logits, factor))
    return None


def _aligned(logits: Tensor, factor: float) -> Tensor:
    return F.interpolate(logits, scale_factor=factor, mode="bilinear", align_corners=True)


def resized(logits: Tensor, height: int, width: int) -> Tensor:
    """Logits [B,K,h,w] at another size, without aligned corners."""
    return F.interpolate(logits, (height, width), mode="bilinear", align_corners=False)


def with_logits_before(network: nn.Module, images: Tensor, upsampling: Upsampling) -> tuple[Tensor, Tensor]:
    """The raw output of a forward pass, and the logits [B,K,h,w] before its last upsampling.

    Args:
        network: The network; may be wrapped.
        images: [B,C,H,W].
        upsampling: That of the network.
    """
    before: list[Tensor] = []
    hook = upsampling.module.register_forward_hook(lambda _module, _inputs, output: before.append(output))
    try:
        raw = network(images)
    finally:
        hook.remove()
    return raw, before[0]


def upsampled(network: nn.Module, logits: Tensor, height: int, width: int) -> Tensor:
    """The raw output of a network for the logits before its last upsampling.

    Args:
        network: The network, with an upsampling; may be wrapped.
        logits: [B,K,h,w].
        height: Height of the images.
        width: Width of the images.
    """
    if isinstance(network, Wrapper):
        inner = network.inner_size(height, width)
        return network.converted(upsampled(network.network, logits, *inner), height, width)
    upsampling = upsampling_of(network)
    assert upsampling is not None
    return upsampling.apply(logits, height, width)
