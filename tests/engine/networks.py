"""Small networks made with smp, as other people and as our own runs save them."""

from __future__ import annotations

import warnings
from typing import Any

import segmentation_models_pytorch as smp
import torch
from torch import nn

from kdtui.engine import checkpoint
from kdtui.engine.shapes import ShapesOnly
from kdtui.profile import Model

NARROW = (8, 8, 8)
ENCODER = "tu-lcnet_050"  # small, quickly built, and in the table that encoders are found in
MODEL = Model(encoder=ENCODER, encoder_depth=3, decoder_channels=NARROW)


def unet(encoder: str = ENCODER, **arguments: Any) -> nn.Module:
    """A small Unet, with every tensor made distinguishable from a newborn one."""
    return build("Unet", encoder, encoder_depth=3, decoder_channels=NARROW, **arguments)


def build(architecture: str, encoder: str, **arguments: Any) -> nn.Module:
    with warnings.catch_warnings(), ShapesOnly():
        warnings.simplefilter("ignore")  # smp and timm warn of deprecated names
        network: nn.Module = smp.create_model(
            architecture, **({"encoder_name": encoder, "encoder_weights": None, "classes": 4} | arguments)
        )
    generator = torch.Generator().manual_seed(1)
    for parameter in network.parameters():
        parameter.data += 0.01 * torch.randn(parameter.shape, generator=generator)
    return network.eval()


def own_payload(network: nn.Module, **changes: Any) -> dict[str, Any]:
    return {
        "format": checkpoint.FORMAT,
        "student": network.state_dict(),
        "model": MODEL.model_dump(mode="json", exclude_none=True),
        "task": "hierarchical",
        "classes": ["background", "target", "other"],
        "run": "some-run",
        "step": 12,
        "resume": {"rng": torch.zeros(8)},
    } | changes


def same_answers(left: nn.Module, right: nn.Module, *, side: int = 64, channels: int = 3) -> bool:
    images = torch.rand(1, channels, side, side, generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        return torch.equal(left(images), right(images))
