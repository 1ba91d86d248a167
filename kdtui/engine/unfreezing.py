"""Progressive unfreezing: the encoder is trained stage by stage, the deepest one first.

A stage is what computes the feature map ``encoder.K`` from the previous one (:mod:`kdtui.engine.taps`). It is read from
the graph of a forward pass, so it exists for every encoder that has maps: convolutional, hierarchical and plain
transformers, and networks of other packages.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from kdtui.engine.models import UNWORKABLE, device_of, input_channels
from kdtui.engine.taps import tap_shapes, tapped
from kdtui.errors import ModelError
from kdtui.profile import Unfreezing

_STAGE = re.compile(r"encoder\.(\d+)")


def stages_of(network: nn.Module, height: int, width: int) -> dict[str, list[str]]:
    """Names of the trainable parameters of each encoder stage, the deepest stage first.

    Parameters of the encoder that several maps need belong to the first of these maps.

    Args:
        network: A network, on any device; unchanged.
        height: Height of the images, which the network must accept.
        width: Width of the images.
    """
    names = [name for name in tap_shapes(network, height, width) if _STAGE.fullmatch(name)]
    names.sort(key=lambda name: int(name.removeprefix("encoder.")))
    trained = {name: parameter for name, parameter in network.named_parameters() if parameter.requires_grad}
    try:
        needs = _needs(network, names, torch.device("meta"), height, width)
    except UNWORKABLE:  # an operator may be missing only on the meta device
        with torch.random.fork_rng():
            needs = _needs(network, names, device_of(network), height, width)
    stages: dict[str, list[str]] = {}
    earlier: set[str] = set()
    for name in names:
        stages[name] = [key for key in trained if key in needs[name] - earlier]
        earlier |= needs[name]
    return {name: keys for name, keys in reversed(stages.items()) if keys}


def _needs(
    network: nn.Module, names: Iterable[str], device: torch.device, height: int, width: int
) -> dict[str, set[str]]:
    """Names of the parameters that each map depends on."""
    copies = {name: p.detach().to(device, copy=True).requires_grad_() for name, p in network.named_parameters()}
    buffers = {name: buffer.detach().to(device, copy=True) for name, buffer in network.named_buffers()}
    images = torch.zeros(1, input_channels(network), height, width, device=device)
    training, probe = network.training, _Tapped(network, tuple(names))
    try:
        network.eval()
        tensors = {f"network.{name}": tensor for name, tensor in {**copies, **buffers}.items()}
        with torch.enable_grad():
            maps = functional_call(probe, tensors, (images,))
    finally:
        network.train(training)
    keys = {id(copy): name for name, copy in copies.items()}
    return {name: {keys[leaf] for leaf in _leaves(values) if leaf in keys} for name, values in maps.items()}


class _Tapped(nn.Module):
    """The feature maps of a network as its output."""

    def __init__(self, network: nn.Module, names: tuple[str, ...]) -> None:
        super().__init__()
        self.network, self._names = network, names

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return tapped(self.network, images, self._names)[1]


def _leaves(values: Tensor) -> set[int]:
    """Identities of the leaves of the graph of a tensor."""
    leaves: set[int] = set()
    seen: set[Any] = set()
    nodes = [values.grad_fn]
    while nodes:
        node = nodes.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if (variable := getattr(node, "variable", None)) is not None:
            leaves.add(id(variable))
        nodes += [below for below, _ in node.next_functions]
    return leaves


class EncoderStages:
    """The stages of a student's encoder, frozen or trained.

    Args:
        network: The student.
        settings: When each stage is trained.
        height: Height of the network's input.
        width: Width of the network's input.

    Attributes:
        names: Stages that are trained at some time, the deepest first.

    Raises:
        ModelError: The network has no stages, or fewer than the settings name.
    """

    def __init__(self, network: nn.Module, settings: Unfreezing, height: int, width: int) -> None:
        stages, self._settings, self._network = stages_of(network, height, width), settings, network
        if not stages:
            raise ModelError(
                "this network has no encoder stages, so it cannot be unfrozen stage by stage",
                where="training.unfreezing",
                allowed="a network with feature maps encoder.K",
                hint="omit the table training.unfreezing",
            )
        if len(stages) < (settings.stages or 0):
            raise ModelError(
                "the encoder has fewer stages",
                where="training.unfreezing.stages",
                found=settings.stages,
                allowed=f"1 to {len(stages)}: {', '.join(stages)}",
                hint=f"--set training.unfreezing.stages={len(stages)}",
            )
        self.names = tuple(stages)[: settings.stages]
        parameters = dict(network.named_parameters())
        self._parameters = {name: [parameters[key] for key in keys] for name, keys in stages.items()}

    @property
    def parameters(self) -> list[nn.Parameter]:
        """Those of all stages."""
        return [parameter for stage in self._parameters.values() for parameter in stage]

    def trained(self, epoch: int) -> tuple[str, ...]:
        """Names of the stages that are trained in an epoch, which is counted from 1."""
        count = 0 if epoch < self._settings.start else 1 + (epoch - self._settings.start) // self._settings.every
        return self.names[:count]

    def freeze(self, epoch: int) -> bool:
        """Freeze the stages that are not trained in an epoch, and put their modules into eval mode.

        Returns:
            Whether other parameters are trained than before.
        """
        trained, changed = self.trained(epoch), False
        for name, stage in self._parameters.items():
            for parameter in stage:
                changed |= parameter.requires_grad != (name in trained)
                parameter.requires_grad_(name in trained)
        frozen = {id(parameter) for parameter in self.parameters if not parameter.requires_grad}
        for module in self._network.modules():
            own = [id(parameter) for parameter in module.parameters()]
            # Their batch norms would otherwise drift away from the weights, and dropout disturb fixed features.
            if own and frozen.issuperset(own):
                module.eval()
        return changed
