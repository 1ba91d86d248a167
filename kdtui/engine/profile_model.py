"""Parameters and multiply-accumulates of a network."""

from __future__ import annotations

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from kdtui.engine.models import device_of, input_channels

_OPERATIONS_PER_MAC = 2


def count_macs(network: nn.Module, *, height: int, width: int) -> int:
    """Multiply-accumulates of one forward pass of one image.

    Convolutions, matrix products and attention are counted; norms, activations and resizing are not. For a network on
    the meta device nothing is computed.
    """
    device = device_of(network)
    image = torch.empty(1, input_channels(network), height, width, device=device)
    training = network.training
    network.eval()
    try:
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            network(image)
    finally:
        network.train(training)
    return int(counter.get_total_flops()) // _OPERATIONS_PER_MAC


def stored_parameters(network: nn.Module) -> int:
    """Number of parameters."""
    return sum(parameter.numel() for parameter in network.parameters())
