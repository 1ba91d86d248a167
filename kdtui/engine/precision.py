"""Choose precision and memory format of a run."""

from __future__ import annotations

from typing import Literal

import torch

from kdtui.engine.network import network_kind
from kdtui.errors import PrecisionError
from kdtui.profile import Profile

FabricPrecision = Literal["32-true", "bf16-mixed", "16-mixed"]
_FABRIC: dict[str, FabricPrecision] = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}
# Pixels of an image from which bf16 pays for depthwise encoders on a CPU with bf16 instructions: at 64x64
# EfficientNet-B3 took 1.2x the time of fp32, at 192x256 B0 took 0.75x.
_LARGE_IMAGE = 128 * 128


def cpu_has_bf16() -> bool:
    """Whether this CPU multiplies bf16 natively; emulated bf16 is slower than fp32."""
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def choose_precision(profile: Profile, device_type: str) -> str:
    """The configured precision, or for ``auto`` the faster one for this network on this device.

    Args:
        profile: ``training.precision``, encoder and image size are used.
        device_type: ``cpu`` or ``cuda``.

    Returns:
        ``fp32``, ``bf16`` or ``fp16``.

    Raises:
        PrecisionError: fp16 on a CPU, or bf16 on a GPU that does not support it.
    """
    requested = profile.training.precision
    if device_type == "cpu":
        if requested == "fp16":
            raise PrecisionError(
                "training in fp16 is not supported on a CPU",
                where="training.precision",
                found="fp16",
                allowed="fp32, bf16, auto",
                hint="use bf16: --set training.precision=bf16",
            )
        if requested != "auto":
            return requested
        # On small maps of depthwise convolutions bf16 autocast costs more in casts than it saves.
        depthwise = network_kind(profile.student).depthwise
        small = profile.data.height * profile.data.width < _LARGE_IMAGE
        return "fp32" if not cpu_has_bf16() or (depthwise and small) else "bf16"
    supported = torch.cuda.is_bf16_supported(including_emulation=False)
    if requested == "bf16" and not supported:
        raise PrecisionError(
            "this GPU does not support bf16",
            where="training.precision",
            found="bf16",
            allowed="fp32, fp16, auto",
            hint="use fp16: --set training.precision=fp16",
        )
    return requested if requested != "auto" else ("bf16" if supported else "fp16")


def choose_channels_last(profile: Profile) -> bool:
    """Whether images and weights use the memory format NHWC.

    It was faster in all measurements: on a CPU a step of a Unet took 0.84 to 0.94 of the time in fp32 (ResNet-18 and
    -34, 96x64 and 128x160), and kernels for bf16 and fp16 require it anyway.
    """
    requested = profile.training.channels_last
    return requested if requested != "auto" else True


def fabric_precision(precision: str) -> FabricPrecision:
    """Fabric's name of the precision; master weights stay fp32."""
    return _FABRIC[precision]
