"""Which network a state dict belongs to, read from its keys and shapes alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

# Keys below `decoder.` that only this architecture has; the order decides where one holds another's key.
_MARKS = (
    ("UnetPlusPlus", "blocks.x_0_0."),
    ("MAnet", "center.top_conv."),
    ("Linknet", "blocks.0.block.0.0."),
    ("Unet", "blocks.0.conv1.0."),
    ("FPN", "p5."),
    ("UPerNet", "feature_norms."),
    ("PSPNet", "psp.blocks."),
    ("PAN", "fpa."),
    ("Segformer", "mlp_stage."),
    ("DeepLabV3", "aspp.convs."),
    ("DeepLabV3Plus", "aspp.0."),
    ("DPT", "reassemble_blocks."),
)
ARCHITECTURES = tuple(name for name, _ in _MARKS)
DEPTHS = (5, 4, 3)
# A convolution of each decoder that may go without a norm: then it has a bias.
_NORMED = {
    "Unet": "blocks.0.conv1.0",
    "UnetPlusPlus": "blocks.x_0_0.conv1.0",
    "MAnet": "blocks.0.conv1.0",
    "Linknet": "blocks.0.block.0.0",
    "PSPNet": "conv.0",
    "UPerNet": "fusion_block.0",
}
_SEPARABLE = {"DeepLabV3": "aspp", "DeepLabV3Plus": "aspp.0"}
# What smp builds when no depth is given.
_DEFAULT_DEPTH = {"PSPNet": 3, "DPT": 4}


@dataclass(frozen=True)
class Decoder:
    """The half of a network that its decoder's tensors tell.

    Attributes:
        architecture: As smp names it.
        channels: Decoder width: a list where there is one per stage, a number elsewhere, None for Linknet.
        out_channels: Channels of the output.
        arguments: What to build the decoder with, beside encoder, depth and classes.
    """

    architecture: str
    channels: list[int] | int | None
    out_channels: int
    arguments: dict[str, Any] = field(default_factory=dict)


def architecture_of(state: Mapping[str, Tensor]) -> str | None:
    """The architecture whose mark is among the keys; None when there is none."""
    for name, mark in _MARKS:
        if any(key.startswith(f"decoder.{mark}") for key in state):
            return name
    return None


def read_decoder(architecture: str, state: Mapping[str, Tensor]) -> Decoder:
    """Width and options of a decoder.

    Raises:
        KeyError: A key that every network of this architecture has is missing; its argument is the key.
        IndexError: A tensor has too few dimensions.
    """
    head = "segmentation_head.head.4.weight" if architecture == "DPT" else "segmentation_head.0.weight"
    channels: list[int] | int | None
    if architecture in ("Unet", "MAnet"):
        channels = [_out(state, f"blocks.{stage}.conv1.0") for stage in range(_count(state, "blocks."))]
        arguments: dict[str, Any] = {"decoder_channels": channels}
    elif architecture == "UnetPlusPlus":
        channels = [_out(state, f"blocks.x_0_{stage}.conv1.0") for stage in range(_count(state, "blocks.x_0_"))]
        arguments = {"decoder_channels": channels}
    elif architecture == "Linknet":
        channels, arguments = None, {}
    elif architecture == "FPN":
        channels, segmentation = _out(state, "p5"), _out(state, "seg_blocks.0.block.0.block.0")
        merged = state[head].shape[1] == 4 * segmentation
        arguments = {
            "decoder_pyramid_channels": channels,
            "decoder_segmentation_channels": segmentation,
            "decoder_merge_policy": "cat" if merged else "add",
        }
    else:
        name, key = {
            "PSPNet": ("psp_out_channels", "conv.0"),
            "PAN": ("decoder_channels", "fpa.branch1.1.conv"),
            "UPerNet": ("decoder_channels", "fusion_block.0"),
            "Segformer": ("decoder_segmentation_channels", "fuse_stage.0"),
            "DeepLabV3": ("decoder_channels", "aspp.project.0"),
            "DeepLabV3Plus": ("decoder_channels", "aspp.0.project.0"),
            "DPT": ("decoder_fusion_channels", "fusion_blocks.0.project"),
        }[architecture]
        channels = _out(state, key)
        arguments = {name: channels}
    return Decoder(architecture, channels, state[head].shape[0], arguments | _options(architecture, state))


def full_size(architecture: str, depth: int) -> dict[str, int]:
    """What makes a network answer in the size it was asked, where smp's own default holds for one depth alone.

    PSPNet reads the deepest stage, and FPN the third from there; what is enlarged of it follows the depth.
    """
    if architecture == "PSPNet":
        return {"upsampling": 2**depth}
    if architecture == "FPN":
        return {"upsampling": 2 ** (depth - 3)}
    return {}


def depths(decoder: Decoder, state: Mapping[str, Tensor], encoder_channels: Sequence[int] | None) -> list[int]:
    """Encoder depths that the decoder's shapes allow, the likeliest first.

    Args:
        decoder: What :func:`read_decoder` found.
        state: Keys and shapes.
        encoder_channels: Channels of the encoder's stages 0..5 where known.

    Raises:
        KeyError: As :func:`read_decoder`.
        IndexError: A tensor has too few dimensions.
    """
    architecture = decoder.architecture
    if isinstance(decoder.channels, list):
        return [len(decoder.channels)]
    counted = {"Linknet": ("blocks.", 0), "UPerNet": ("feature_norms.", 1), "DPT": ("reassemble_blocks.", 0)}
    if architecture in counted:
        prefix, more = counted[architecture]
        return [_count(state, prefix) + more]
    if architecture == "PAN":
        return [3 + sum(any(key.startswith(f"decoder.gau{n}.") for key in state) for n in (2, 3))]
    default = _DEFAULT_DEPTH.get(architecture, 5)
    deepest = DEPTHS[0] if encoder_channels is None else len(encoder_channels) - 1
    likely = sorted((depth for depth in DEPTHS if depth <= deepest), key=lambda depth: depth != default)
    if encoder_channels is None:
        return likely
    if architecture == "Segformer":
        stages = _count(state, "mlp_stage.")
        return [depth for depth in likely if sum(map(bool, encoder_channels[1 : depth + 1])) == stages]
    taps = {
        "FPN": ("p5", "p4.skip_conv", "p3.skip_conv", "p2.skip_conv"),
        "PSPNet": ("psp.blocks.0.pool.1.0",),
        "DeepLabV3": ("aspp.convs.0.0",),
        "DeepLabV3Plus": ("aspp.0.convs.0.0",),
    }[architecture]
    seen = [int(state[f"decoder.{tap}.weight"].shape[1]) for tap in taps]
    return [depth for depth in likely if list(encoder_channels[depth::-1][: len(taps)]) == seen]


def _options(architecture: str, state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Settings that leave a trace among the keys."""
    options: dict[str, Any] = {}
    if f"decoder.{_NORMED.get(architecture)}.bias" in state:
        options["decoder_use_norm"] = False
    if architecture in ("Unet", "UnetPlusPlus") and any(".attention1." in key for key in state):
        options["decoder_attention_type"] = "scse"
    if architecture == "MAnet":
        options["decoder_pab_channels"] = _out(state, "center.top_conv")
    if architecture in _SEPARABLE:
        options["decoder_aspp_separable"] = f"decoder.{_SEPARABLE[architecture]}.convs.1.0.1.weight" in state
    if architecture == "DPT":
        stages = range(_count(state, "reassemble_blocks."))
        options["decoder_intermediate_channels"] = [
            _out(state, f"reassemble_blocks.{stage}.project_to_out_channel") for stage in stages
        ]
        options["decoder_readout"] = "cat" if _count(state, "projection_blocks.") else "ignore"
    return options


def _out(state: Mapping[str, Tensor], key: str) -> int:
    return int(state[f"decoder.{key}.weight"].shape[0])


def _count(state: Mapping[str, Tensor], prefix: str) -> int:
    """How many numbered modules stand below ``decoder.<prefix>``."""
    prefix = f"decoder.{prefix}"
    modules = {key.removeprefix(prefix).split(".")[0] for key in state if key.startswith(prefix)}
    return sum(name.isdigit() for name in modules)
