"""Feature maps of a network by name.

- ``encoder.K``: the encoder's map of stride ``2**K`` (a dilated encoder keeps a smaller stride in its last stages).
  Stages that an encoder does not have, such as the first one of most transformers, have no name. The stages of vision
  transformers have one stride and are numbered from 1.
- ``encoder``: the last one of them.
- ``decoder``: the map before the segmentation head.
- ``decoder.K``: the output of block ``K`` of a decoder with numbered blocks (Unet, MAnet, Linknet), 0 is the deepest.

They are captured with forward hooks that exist only during that forward pass, so evaluation, export and other uses of
the network are not affected.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from kdtui.engine.models import UNWORKABLE, Wrapper, device_of, input_channels, inputs_of, unwrapped
from kdtui.engine.shapes import ShapesOnly

Pick = Callable[[Any], Tensor]


@dataclass(frozen=True)
class TapPoint:
    """A feature map of a network.

    Attributes:
        module: The module that computes it.
        pick: Selects the map from the module's output.
    """

    module: nn.Module
    pick: Pick


def tap_points(network: nn.Module) -> dict[str, TapPoint]:
    """All feature maps of a network by name: from its method ``tap_points`` if it has one, else those of smp."""
    network = unwrapped(network)
    own = getattr(network, "tap_points", None)
    if own is not None:
        points: dict[str, TapPoint] = own()
        return points
    encoder, decoder = network.get_submodule("encoder"), network.get_submodule("decoder")
    stages = _stages(encoder)
    points = {f"encoder.{number}": TapPoint(encoder, _stage(index)) for index, number in stages}
    points["encoder"] = TapPoint(encoder, _stage(stages[-1][0]))
    blocks = getattr(decoder, "blocks", None)
    if isinstance(blocks, nn.ModuleList):
        points |= {f"decoder.{index}": TapPoint(block, _whole) for index, block in enumerate(blocks)}
    return points | {"decoder": TapPoint(decoder, _whole)}


def tapped(
    network: nn.Module, images: Tensor, names: Collection[str], extras: Mapping[str, Tensor] | None = None
) -> tuple[Any, dict[str, Tensor]]:
    """Run a forward pass and capture feature maps.

    Args:
        network: A network; may be wrapped.
        images: f32 [B,3,H,W].
        names: Names from :func:`tap_points`.
        extras: Further inputs of the batch, by name.

    Returns:
        The network's output, and maps [B,C,h,w] by name, as the network computed them (dtype and memory format).
    """
    maps: dict[str, Tensor] = {}
    points = tap_points(network) if names else {}
    with ExitStack() as hooks:
        for name in names:
            handle = points[name].module.register_forward_hook(_keep(maps, name, points[name].pick))
            hooks.callback(handle.remove)
        raw = network(images, **inputs_of(network, extras or {}))
    if isinstance(network, Wrapper):
        maps = {name: network.cropped(values, *images.shape[-2:]) for name, values in maps.items()}
    return raw, maps


def tap_channels(network: nn.Module, height: int, width: int) -> dict[str, int]:
    """Channels of all feature maps of a network; see :func:`tap_shapes`."""
    return {name: shape[0] for name, shape in tap_shapes(network, height, width).items()}


def tap_shapes(network: nn.Module, height: int, width: int) -> dict[str, tuple[int, int, int]]:
    """Channels, height and width of all feature maps of a network, in the order of :func:`tap_points`.

    A map that the network modifies in place later in its forward pass is left out, as a loss would see the new values.

    Args:
        network: The network, on any device; unchanged.
        height: Height of the images, which the network must accept.
        width: Width of the images.
    """
    try:
        return _probed(network, torch.empty(1, input_channels(network), height, width, device="meta"))
    except UNWORKABLE:  # an operator may be missing only on the meta device
        device = device_of(network)
        with torch.random.fork_rng(devices=[] if device.type == "cpu" else [device]):
            return _probed(network, torch.zeros(1, input_channels(network), height, width, device=device))


def _probed(network: nn.Module, images: Tensor) -> dict[str, tuple[int, int, int]]:
    tensors = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    copies = {name: tensor.detach().to(images.device, copy=True) for name, tensor in tensors.items()}
    points = tap_points(network)
    maps: dict[str, Tensor] = {}
    versions: dict[str, int] = {}
    training = network.training
    with ExitStack() as hooks, torch.no_grad(), ShapesOnly():
        for name, point in points.items():
            hooks.callback(point.module.register_forward_hook(_keep(maps, name, point.pick, versions)).remove)
        hooks.callback(network.train, training)
        functional_call(network.eval(), copies, (images,))
    kept = {name: maps[name] for name in points if maps[name]._version == versions[name]}
    return {name: (values.shape[-3], values.shape[-2], values.shape[-1]) for name, values in kept.items()}


def _keep(
    maps: dict[str, Tensor], name: str, pick: Pick, versions: dict[str, int] | None = None
) -> Callable[[nn.Module, tuple[Any, ...], Any], None]:
    def hook(_: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        maps[name] = pick(output)
        if versions is not None:
            versions[name] = maps[name]._version

    return hook


def _stages(encoder: nn.Module) -> list[tuple[int, int]]:
    """Index in the encoder's outputs and number K in its name, for each stage that has channels."""
    channels: Any = encoder.out_channels
    if hasattr(encoder, "output_strides"):  # vision transformers: all stages have one stride, and none is the image
        return [(index, index + 1) for index in range(len(channels))]
    return [(index, index) for index in range(1, len(channels)) if channels[index] > 0]


def _whole(output: Any) -> Tensor:
    values: Tensor = output
    return values


def _stage(index: int) -> Pick:
    def pick(output: Any) -> Tensor:
        stages = output[0] if isinstance(output, tuple) else output  # vision transformers return their tokens too
        values: Tensor = stages[index]
        return values

    return pick
