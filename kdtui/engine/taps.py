"""Features of a network: where they can be taken, and how.

- ``encoder.K``: the encoder's map of stride ``2**K`` (a dilated encoder keeps a smaller stride in its last stages). A
  stage that an encoder does not have, such as the first of most transformers, has no name. The stages of vision
  transformers are of one stride and are counted from 1.
- ``encoder``: the last of them.
- ``decoder``: the map before the segmentation head.
- ``decoder.K``: the output of block ``K`` of a decoder with numbered blocks (Unet, MAnet, Linknet), 0 the deepest.

They are taken by forward hooks, which exist during that forward pass only: evaluation, export and every other use of
the network are without them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from kdtui.engine.models import UNWORKABLE, AnySize, inputs_of

Pick = Callable[[Any], Tensor]


@dataclass(frozen=True)
class TapPoint:
    """A place in a network.

    Attributes:
        module: Whose forward pass is observed.
        pick: From its output to the map.
    """

    module: nn.Module
    pick: Pick


def tap_points(network: nn.Module) -> dict[str, TapPoint]:
    """Every place of a network, by name: those that it names itself (its own ``tap_points``), or those of smp."""
    network = getattr(network, "network", network)  # of one that pads
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
) -> tuple[Tensor, dict[str, Tensor]]:
    """A forward pass and the maps of some places in it.

    Args:
        network: An smp network, or one that pads.
        images: f32 [B,3,H,W].
        names: Of :func:`tap_points`.
        extras: What the batch carries beside them, by name.

    Returns:
        The network's output, and maps [B,C,h,w] by name, as the network computed them (dtype and memory format).
    """
    maps: dict[str, Tensor] = {}
    points = tap_points(network) if names else {}
    with ExitStack() as hooks:
        for name in names:
            handle = points[name].module.register_forward_hook(_keep(maps, name, points[name].pick))
            hooks.callback(handle.remove)
        raw: Tensor = network(images, **inputs_of(network, extras or {}))
    if isinstance(network, AnySize):
        maps = {name: network.cropped(values, images) for name, values in maps.items()}
    return raw, maps


def tap_channels(network: nn.Module, height: int, width: int) -> dict[str, int]:
    """Channels of the map at every place of a network, in the order of :func:`tap_points`.

    A place whose map the network overwrites later in its forward pass is left out: a loss on it would see other values.

    Args:
        network: On any device; left as it was.
        height: Of its images, a size that it takes.
        width: Of its images.
    """
    try:
        return _probed(network, torch.empty(1, 3, height, width, device="meta"))
    except UNWORKABLE:  # an operator may be missing for the meta device alone
        device = next(network.parameters()).device
        with torch.random.fork_rng(devices=[] if device.type == "cpu" else [device]):
            return _probed(network, torch.zeros(1, 3, height, width, device=device))


def _probed(network: nn.Module, images: Tensor) -> dict[str, int]:
    tensors = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    copies = {name: tensor.detach().to(images.device, copy=True) for name, tensor in tensors.items()}
    points = tap_points(network)
    maps: dict[str, Tensor] = {}
    versions: dict[str, int] = {}
    training = network.training
    with ExitStack() as hooks, torch.no_grad():
        for name, point in points.items():
            hooks.callback(point.module.register_forward_hook(_keep(maps, name, point.pick, versions)).remove)
        hooks.callback(network.train, training)
        functional_call(network.eval(), copies, (images,))
    return {name: maps[name].shape[1] for name in points if maps[name]._version == versions[name]}


def _keep(
    maps: dict[str, Tensor], name: str, pick: Pick, versions: dict[str, int] | None = None
) -> Callable[[nn.Module, tuple[Any, ...], Any], None]:
    def hook(_: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        maps[name] = pick(output)
        if versions is not None:
            versions[name] = maps[name]._version

    return hook


def _stages(encoder: nn.Module) -> list[tuple[int, int]]:
    """Index among the encoder's outputs, and the K of its name, of each stage that has channels."""
    channels: Any = encoder.out_channels
    if hasattr(encoder, "output_strides"):  # vision transformers: every stage has one stride, and none is the image
        return [(index, index + 1) for index in range(len(channels))]
    return [(index, index) for index in range(1, len(channels)) if channels[index] > 0]


def _whole(output: Any) -> Tensor:
    values: Tensor = output
    return values


def _stage(index: int) -> Pick:
    def pick(output: Any) -> Tensor:
        stages = output[0] if isinstance(output, tuple) else output  # vision transformers answer with their tokens too
        values: Tensor = stages[index]
        return values

    return pick
