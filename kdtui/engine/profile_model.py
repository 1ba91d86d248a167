"""Parameters and multiply-accumulates of a network."""

from __future__ import annotations

import torch
from torch import nn
from torch.func import functional_call
from torch.utils.flop_counter import FlopCounterMode

from kdtui.engine.models import UNWORKABLE, device_of, input_channels
from kdtui.engine.shapes import ShapesOnly

_OPERATIONS_PER_MAC = 2


def count_macs(network: nn.Module, *, height: int, width: int) -> int:
    """Multiply-accumulates of one forward pass of one image.

    Convolutions, matrix products and attention are counted; norms, activations and resizing are not. Nothing is
    computed, unless the network has an operator that is missing on torch's meta device.
    """
    training = network.training
    network.eval()
    try:
        return _counted(network, height, width, torch.device("meta"))
    except UNWORKABLE:
        return _counted(network, height, width, device_of(network))
    finally:
        network.train(training)


def _counted(network: nn.Module, height: int, width: int, device: torch.device) -> int:
    tensors = {
        name: tensor.detach().to(device) for name, tensor in (*network.named_parameters(), *network.named_buffers())
    }
    image = torch.empty(1, input_channels(network), height, width, device=device)
    with torch.no_grad(), ShapesOnly(), FlopCounterMode(display=False) as counter:
        functional_call(network, tensors, (image,))
    return int(counter.get_total_flops()) // _OPERATIONS_PER_MAC


def stored_parameters(network: nn.Module) -> int:
    """Number of parameters."""
    return sum(parameter.numel() for parameter in network.parameters())
