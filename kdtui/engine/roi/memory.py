"""Memory of the heads of all boxes of a step, before anything is trained."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.func import functional_call

from kdtui.engine.term_memory import device_memory
from kdtui.errors import ModelError
from kdtui.profile import Profile, RoiModel
from kdtui.text import mebibytes

_BYTES = 8
"""Of an element of a map in training: its value, kept for the backward pass, and its gradient, in f32."""


def bytes_per_box(network: nn.Module, table: RoiModel) -> int:
    """Bytes of the head's maps for one box in training, estimated as all outputs of its layers.

    Args:
        network: With a module ``head``; unchanged.
        table: Its table.
    """
    head = network.get_submodule("head")
    elements = 0

    def count(module: nn.Module, inputs: object, output: Tensor) -> None:
        nonlocal elements
        elements += output.numel()

    layers = [module for module in head.modules() if not list(module.children())]
    hooks = [module.register_forward_hook(count) for module in layers]
    tensors = {**dict(head.named_parameters()), **dict(head.named_buffers())}
    copies = {name: tensor.detach().to("meta", copy=True) for name, tensor in tensors.items()}
    channels = getattr(network, "image_channels", 3)
    cells = [torch.empty(1, width, *table.roi, device="meta") for width in (1, channels)]
    training = head.training
    try:
        with torch.no_grad():
            functional_call(head.eval(), copies, tuple(cells))
    finally:
        head.train(training)
        for hook in hooks:
            hook.remove()
    return _BYTES * elements


def check_memory(network: nn.Module, table: RoiModel, profile: Profile) -> None:
    """Check that the heads of as many boxes as one forward pass may have fit into memory.

    Args:
        network: The network of the table.
        table: Its table.
        profile: The profile; its data say how many boxes a picture has at most.

    Raises:
        ModelError: They do not fit; the message has a number that does.
    """
    settings, most = profile.training, getattr(profile.data, "max_instances", 1)
    images = settings.micro_batch_size or settings.batch_size // settings.devices
    each, memory = bytes_per_box(network, table), device_memory(profile)
    if each * images * most <= memory:
        return
    fitting = memory // each
    fewer = fitting // images
    raise ModelError(
        "the boxes of a forward pass do not fit into memory",
        where="data.max_instances, training.batch_size",
        found=f"{images} x {most} boxes: about {mebibytes(each * images * most)}",
        allowed=f"{fitting:,} boxes: at most {mebibytes(memory)}, the memory of the device",
        hint=f"--set data.max_instances={fewer}" if fewer else "--set training.micro_batch_size=1, or a smaller head",
    )
