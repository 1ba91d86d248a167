"""Costs of encoders and of Unets with them: parameters and multiply-accumulates, without torch.

``catalog_data.json`` lists every encoder of segmentation-models-pytorch (smp) and the mobile ones of timm (``tu-``); it
is written by ``python -m kdtui.engine.build_catalog``. Decoder and head of a Unet are computed here from their widths.
MACs count convolutions, matrix products and attention.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path
from typing import Any

from kdtui.errors import UsageError

# Pixels of the unit in which areas are counted.
TILE = 32 * 32
SIDE = 256
DECODER_CHANNELS = (256, 128, 64, 32, 16)
ARCHITECTURES = ("Unet",)
_DATA = Path(__file__).with_name("catalog_data.json")
_DEEPEST = 5
_KERNEL = 3 * 3
# The letters before the size, with a version if there is one: resnet|18, mobilenetv3|_small, ghostnetv2|_100.
_DESIGN = re.compile(r"[a-z]+?(?:v\d+)?(?=[\d_-]|$)")
_TWO_WORDS = ("efficientnet_lite", "se_resnext", "se_resnet")


@dataclass(frozen=True)
class EncoderCost:
    """One encoder at depth 5.

    Attributes:
        name: Name in smp.
        family: Design of the encoder, such as ``resnet`` or ``mobilenetv3``.
        parameters: Number of stored parameters.
        parameters_used: Number of parameters that the features depend on.
        macs: Multiply-accumulates of one forward pass of a 256 x 256 image.
        out_channels: Channels of each feature map, the one of the image's size first.
        reductions: Factor by which each feature map is smaller than the image.
    """

    name: str
    family: str
    parameters: int
    parameters_used: int
    macs: int
    out_channels: tuple[int, ...]
    reductions: tuple[int, ...]


@dataclass(frozen=True)
class NetworkCost:
    """Costs of a network: stored parameters, those that the output depends on, and MACs of one image."""

    parameters: int
    parameters_used: int
    macs: int


def family(name: str) -> str:
    """The design of an encoder: ``tu-mobilenetv3_small_100`` is a ``mobilenetv3``."""
    bare = name.removeprefix("tu-").removeprefix("timm-").removeprefix("tf_").replace("mobilenet_v2", "mobilenetv2")
    for stem in _TWO_WORDS:
        if bare.startswith(stem):
            return stem
    match = _DESIGN.match(bare)
    return match[0] if match else bare


def normalisation(encoder: str) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """Mean and standard deviation of red, green and blue (0 to 1) in an encoder's training; None: ImageNet's."""
    own = _normalisations()
    return own.get(encoder, own.get(encoder.partition(".")[0]))


def encoders(pattern: str | None = None) -> list[EncoderCost]:
    """Encoders whose name contains ``pattern`` or matches it as a glob; smallest first."""
    found = [
        _encoder_cost(row)
        for row in _rows().values()
        if pattern is None or pattern in row["name"] or fnmatchcase(row["name"], pattern)
    ]
    return sorted(found, key=lambda cost: (cost.parameters, cost.name))


def cost(
    encoder: str,
    *,
    architecture: str = "Unet",
    decoder_channels: int | Sequence[int] | None = None,
    out_channels: int = 4,
    encoder_depth: int = _DEEPEST,
    height: int,
    width: int,
) -> NetworkCost | None:
    """Compute the costs of a network.

    Height and width are padded to the network's stride, like the data. Parameters are exact. MACs are exact if both are
    divisible by 32; otherwise a shallower encoder may be off by up to 25 %, as some encoders compute deeper stages
    whose output is unused, and ``tu-mobilevitv2_050`` by 3 % if they are not divisible by 64.

    Args:
        encoder: Name in smp.
        architecture: Only ``Unet`` is supported.
        decoder_channels: One width per decoder stage, deepest first; None for the default of smp.
        out_channels: Channels of the head.
        encoder_depth: Stages of the encoder, 3 to 5.
        height: Rows of the image.
        width: Columns of the image.

    Returns:
        None if the catalog has no entry: another architecture, or a ``tu-`` encoder that it does not list.

    Raises:
        UsageError: There is no such encoder, or the widths do not match the depth.
    """
    row = _rows().get(encoder)
    if row is None and encoder.startswith("tu-"):
        return None
    if row is None:
        raise _unknown(encoder)
    if architecture not in ARCHITECTURES:
        return None
    kept = row["depths"].get(str(encoder_depth))
    if kept is None:
        raise UsageError("no such encoder depth", found=encoder_depth, allowed=", ".join(sorted(row["depths"])))
    widths = _widths(decoder_channels, encoder_depth)
    stride = 2**encoder_depth
    pixels = (-(-height // stride) * stride) * (-(-width // stride) * stride)
    parameters, macs = _unet(encoder, kept["channels"], kept["reductions"], widths, out_channels, pixels)
    return NetworkCost(
        parameters=kept["parameters"] + parameters,
        parameters_used=kept["used"] + parameters,
        macs=_work(kept["macs"], pixels) + macs,
    )


@lru_cache(maxsize=1)
def _data() -> dict[str, Any]:
    data: dict[str, Any] = json.loads(_DATA.read_bytes())
    return data


@lru_cache(maxsize=1)
def _rows() -> dict[str, dict[str, Any]]:
    return {row["name"]: row for row in _data()["encoders"]}


@lru_cache(maxsize=1)
def _normalisations() -> dict[str, tuple[tuple[float, ...], tuple[float, ...]] | None]:
    return {
        name: None if group["mean"] is None else (tuple(group["mean"]), tuple(group["std"]))
        for group in _data()["normalisations"]
        for name in group["encoders"]
    }


def _encoder_cost(row: dict[str, Any]) -> EncoderCost:
    kept = row["depths"][str(_DEEPEST)]
    return EncoderCost(
        name=row["name"],
        family=row["family"],
        parameters=kept["parameters"],
        parameters_used=kept["used"],
        macs=_work(kept["macs"], SIDE * SIDE),
        out_channels=tuple(kept["channels"]),
        reductions=tuple(kept["reductions"]),
    )


def _work(terms: Sequence[int], pixels: int) -> int:
    """MACs from terms that are constant (pooled gates), linear (convolutions) and quadratic (attention) in the area."""
    constant, linear, square = terms
    return constant + (linear * pixels * TILE + square * pixels * pixels) // (TILE * TILE)


def _widths(decoder_channels: int | Sequence[int] | None, depth: int) -> tuple[int, ...]:
    if decoder_channels is None:
        return DECODER_CHANNELS[-depth:]
    widths = (decoder_channels,) if isinstance(decoder_channels, int) else tuple(decoder_channels)
    if len(widths) != depth or isinstance(decoder_channels, int):
        raise UsageError(
            f"the decoder of a Unet takes {depth} widths, one per stage",
            where="student.decoder_channels",
            found=list(widths),
            allowed=f"{depth} numbers, such as {list(DECODER_CHANNELS[-depth:])}",
        )
    return widths


def _unet(
    encoder: str, channels: Sequence[int], reductions: Sequence[int], widths: Sequence[int], outputs: int, pixels: int
) -> tuple[int, int]:
    """Parameters and MACs of decoder and head."""
    parameters = macs = 0
    depth = len(widths)
    coming = channels[depth]
    if encoder.startswith("vgg"):  # smp puts two convolutions between encoder and decoder
        parameters += 2 * _normed(coming, coming)
        macs += 2 * _KERNEL * coming * coming * (pixels // reductions[depth] ** 2)
    for stage, wide in enumerate(widths):
        at = depth - 1 - stage
        skip = channels[at] if at > 0 else 0  # the stage at full resolution has no skip connection
        parameters += _normed(coming + skip, wide) + _normed(wide, wide)
        macs += _KERNEL * (coming + skip + wide) * wide * (pixels // reductions[at] ** 2)
        coming = wide
    parameters += _KERNEL * coming * outputs + outputs
    macs += _KERNEL * coming * outputs * pixels
    return parameters, macs


def _normed(coming: int, wide: int) -> int:
    """Parameters of a 3 x 3 convolution without bias, and of scale and shift of its normalisation."""
    return _KERNEL * coming * wide + 2 * wide


def _unknown(encoder: str) -> UsageError:
    near = difflib.get_close_matches(encoder, _rows(), n=3, cutoff=0.5)
    return UsageError(
        "no such encoder",
        found=encoder,
        allowed=f"nearest: {', '.join(near)}" if near else None,
        hint="`kdtui encoders` lists the encoders; `tu-NAME` is any encoder of timm",
    )
