"""Identify a network: the architecture, encoder, depth and widths whose keys and shapes match the file exactly.

The inferred network is built and compared key by key before any weight is loaded.
"""

from __future__ import annotations

import difflib
import functools
import hashlib
import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import segmentation_models_pytorch as smp
from torch import Tensor, nn

from kdtui.engine.checkpoint import differences
from kdtui.engine.containers import Contents
from kdtui.engine.shapes import WithoutRandomWeights
from kdtui.errors import TeacherError

# Prefixes below `decoder.` that identify an architecture; the order matters where one has the prefix of another.
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
# A convolution of each decoder whose norm is optional: without it, the convolution has a bias.
_NORMED = {
    "Unet": "blocks.0.conv1.0",
    "UnetPlusPlus": "blocks.x_0_0.conv1.0",
    "MAnet": "blocks.0.conv1.0",
    "Linknet": "blocks.0.block.0.0",
    "PSPNet": "conv.0",
    "UPerNet": "fusion_block.0",
}
_SEPARABLE = {"DeepLabV3": "aspp", "DeepLabV3Plus": "aspp.0"}
# The default depths of smp.
_DEFAULT_DEPTH = {"PSPNet": 3, "DPT": 4}


@dataclass(frozen=True)
class Decoder:
    """The decoder of a network, as far as its tensors determine it.

    Attributes:
        architecture: Name in smp.
        channels: Decoder widths: a list with one per stage, or a single number; None for Linknet.
        out_channels: Channels of the output.
        arguments: Arguments of the decoder, besides encoder, depth and classes.
    """

    architecture: str
    channels: list[int] | int | None
    out_channels: int
    arguments: dict[str, Any] = field(default_factory=dict)


def architecture_of(state: Mapping[str, Tensor]) -> str | None:
    """The architecture whose prefix occurs among the keys; None if there is none."""
    for name, mark in _MARKS:
        if any(key.startswith(f"decoder.{mark}") for key in state):
            return name
    return None


def read_decoder(architecture: str, state: Mapping[str, Tensor]) -> Decoder:
    """Read widths and options of a decoder from its tensors.

    Raises:
        KeyError: A key of this architecture is missing; its argument is the key.
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
    """Arguments for an output of the input's size, where the default of smp is correct for one depth only.

    PSPNet reads the deepest stage, and FPN the third one above it; the upsampling factor follows from the depth.
    """
    if architecture == "PSPNet":
        return {"upsampling": 2**depth}
    if architecture == "FPN":
        return {"upsampling": 2 ** (depth - 3)}
    return {}


def depths(decoder: Decoder, state: Mapping[str, Tensor], encoder_channels: Sequence[int] | None) -> list[int]:
    """Encoder depths that are consistent with the decoder's shapes, the most likely first.

    Args:
        decoder: The result of :func:`read_decoder`.
        state: Keys and tensors.
        encoder_channels: Channels of the encoder's stages 0..5, if known.

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
    """Settings that can be inferred from the keys."""
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
    """Number of numbered modules below ``decoder.<prefix>``."""
    prefix = f"decoder.{prefix}"
    modules = {key.removeprefix(prefix).split(".")[0] for key in state if key.startswith(prefix)}
    return sum(name.isdigit() for name in modules)


TABLE = Path(__file__).with_name("encoder_table.json")
RGB = 3
Shapes = Mapping[str, Sequence[int]]


@dataclass(frozen=True)
class Match:
    """An encoder with matching shapes.

    Attributes:
        name: Name in smp.
        depth: The only depth with these shapes; None if the encoder's tensors do not depend on the depth.
        channels: Channels of its stages, starting with the input.
        in_channels: Channels of the input.
    """

    name: str
    depth: int | None
    channels: tuple[int, ...]
    in_channels: int


def shape_hash(shapes: Shapes) -> str:
    """Hash of the sorted (key, shape) pairs."""
    pairs = sorted((key, list(shape)) for key, shape in shapes.items())
    return hashlib.sha256(json.dumps(pairs).encode()).hexdigest()[:16]


def find_encoders(shapes: Shapes) -> list[Match]:
    """Encoders of the table with these keys and shapes, for any number of input channels.

    Args:
        shapes: Shapes by key, without ``encoder.``.
    """
    table = _table()
    for stem in _stems():
        if not all(key in shapes and len(shapes[key]) >= 2 for key in stem):
            continue
        in_channels = shapes[stem[0]][1]
        as_rgb = {**shapes, **{key: (shapes[key][0], RGB, *shapes[key][2:]) for key in stem}}
        rows = [row for row in table.get(shape_hash(as_rgb), ()) if tuple(row["stem"]) == stem]
        if rows:
            return [Match(row["name"], row["depth"], tuple(row["channels"]), in_channels) for row in rows]
    return []


def resembling(shapes: Shapes, *, limit: int = 3) -> list[str]:
    """Encoders with the same first layer and a similar number of tensors, nearest first; used in hints only."""
    distances: dict[str, int] = {}
    for row in (row for rows in _table().values() for row in rows):
        if all(key in shapes for key in row["stem"]):
            distance = abs(row["tensors"] - len(shapes))
            distances[row["name"]] = min(distance, distances.get(row["name"], distance))
    return sorted(distances, key=lambda name: distances[name])[:limit]


@functools.cache
def _table() -> dict[str, list[dict[str, Any]]]:
    rows: list[dict[str, Any]] = json.loads(TABLE.read_text(encoding="utf-8"))["encoders"]
    table: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        table.setdefault(row["hash"], []).append(row)
    return table


@functools.cache
def _stems() -> list[tuple[str, ...]]:
    """The distinct sets of keys whose second dimension is the number of input channels."""
    return sorted({tuple(row["stem"]) for rows in _table().values() for row in rows})


_ENCODER = "encoder."
_DECIDE = "teacher.encoder and teacher.architecture in a profile; try: `kdtui inspect FILE --encoder NAME`"
# Settings that change the output of a network but not its tensors; only a config file contains them.
_TRACELESS = (
    "decoder_interpolation",
    "upsampling",
    "encoder_output_stride",
    "decoder_atrous_rates",
    "decoder_readout",
)
# Keys of the encoder's name in metadata.
_ENCODER_WORDS = ("encoder_name", "encoder", "backbone")
# Exceptions of smp and timm for invalid settings.
_UNBUILDABLE = (
    RuntimeError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    ArithmeticError,
    AssertionError,
    NotImplementedError,
)


@dataclass(frozen=True)
class NetworkIdentity:
    """A network that matches the file's tensors; the weights are not loaded yet.

    Attributes:
        network: The network with its initial weights.
        state: The file's tensors with the keys of this network.
        decoder: The decoder inferred from its tensors.
        encoder: Name of the encoder.
        depth: Number of used encoder stages.
        in_channels: Channels of the input.
    """

    network: nn.Module
    state: dict[str, Tensor]
    decoder: Decoder
    encoder: str
    depth: int
    in_channels: int

    def rebuilt(self, *, in_channels: int) -> nn.Module:
        """The same network for another number of input channels."""
        return _build(self.decoder, self.encoder, self.depth, in_channels)


def identify(contents: Contents, *, architecture: str | None, encoder: str | None) -> NetworkIdentity:
    """Identify the network; ``architecture`` and ``encoder`` are the user's settings, if any.

    Raises:
        TeacherError: No network, or more than one, has these keys and shapes.
    """
    decoder = _decoder(contents, architecture)
    state, matches = _encoders(contents.state)
    name = encoder or _only_name(contents, matches)
    _check_encoder(name, contents)
    known = [match for match in matches if match.name == name]
    in_channels = known[0].in_channels if known else RGB
    try:
        candidates = _depths(state, decoder, known)
    except LookupError as error:
        raise _incomplete(decoder.architecture, contents, error) from error
    nearest: list[str] = []
    for depth in candidates:
        try:
            network = _build(decoder, name, depth, in_channels)
        except _UNBUILDABLE as error:
            nearest = nearest or [f"at depth {depth}: {' '.join(str(error).split())[:300]}"]
            continue
        problems = differences(network, state)
        if not problems:
            return NetworkIdentity(network, state, decoder, name, depth, in_channels)
        if not nearest or len("".join(problems)) < len("".join(nearest)):
            nearest = problems
    others = sorted({match.name for match in matches} - {name})
    raise TeacherError(
        f"the weights do not match {decoder.architecture} with {name}",
        where=contents.file,
        found="; ".join(nearest),
        allowed="exactly the keys and shapes of that network",
        hint=f"the shapes match {' or '.join(others)}" if others else _DECIDE,
    )


def _decoder(contents: Contents, given: str | None) -> Decoder:
    architecture = given or architecture_of(contents.state)
    if architecture not in ARCHITECTURES:
        keys = [key for key in contents.state if key.startswith("decoder.")]
        nearest = difflib.get_close_matches(given or "", ARCHITECTURES, n=1)
        raise TeacherError(
            "no such architecture" if given else "the architecture of this network is unknown",
            where=contents.file,
            found=given or f"decoder keys {', '.join(keys[:3])} …",
            allowed=", ".join(ARCHITECTURES),
            hint=f"did you mean {nearest[0]}?"
            if nearest
            else "teacher.architecture in a profile; try: `kdtui inspect FILE --architecture NAME`",
        )
    try:
        decoder = read_decoder(architecture, contents.state)
    except LookupError as error:
        raise _incomplete(architecture, contents, error) from error
    config = contents.metadata.get("config")
    options = {key: config[key] for key in _TRACELESS if key in config} if isinstance(config, Mapping) else {}
    return Decoder(architecture, decoder.channels, decoder.out_channels, decoder.arguments | options)


def _incomplete(architecture: str, contents: Contents, error: LookupError) -> TeacherError:
    looks_like = architecture_of(contents.state)
    return TeacherError(
        f"incomplete {architecture}",
        where=contents.file,
        found=f"{error.args[0]} is missing" if isinstance(error, KeyError) else "a tensor with too few dimensions",
        allowed="all keys of the saved network",
        hint=f"the keys look like {looks_like}" if looks_like != architecture else None,
    )


def _encoders(state: dict[str, Tensor]) -> tuple[dict[str, Tensor], list[Match]]:
    """The matching encoders, and the state with the keys of the current smp."""
    for renamed in renamings(state):
        matches = find_encoders(_encoder_shapes(renamed))
        if matches:
            return renamed, matches
    return state, []


def _encoder_shapes(state: Mapping[str, Tensor]) -> Shapes:
    return {key.removeprefix(_ENCODER): tuple(value.shape) for key, value in state.items() if key.startswith(_ENCODER)}


def renamings(state: dict[str, Tensor]) -> Iterator[dict[str, Tensor]]:
    """The state as it is, then with keys renamed from smp before 0.5, whose timm encoders lack ``model.``."""
    yield state
    front = f"{_ENCODER}model."
    if any(key.startswith(front) for key in state):
        return
    inner = {
        front + key.removeprefix(_ENCODER) if key.startswith(_ENCODER) else key: value for key, value in state.items()
    }
    yield inner
    yield {key.replace(".stages.", ".stages_") if key.startswith(front) else key: value for key, value in inner.items()}


def _only_name(contents: Contents, matches: list[Match]) -> str:
    """The encoder's name from the shapes, or from the metadata if several encoders have the shapes."""
    names = sorted({match.name for match in matches})
    if len(names) == 1:
        return names[0]
    recorded = [name for name in _recorded(contents.metadata) if name in names or (not names and _exists(name))]
    if recorded:
        return recorded[0]
    shapes = _encoder_shapes(contents.state)
    similar = [] if names else resembling(shapes)
    found = f"{len(shapes)} encoder tensors of a custom, incomplete or rare timm encoder"
    raise TeacherError(
        "several encoders have exactly these shapes" if names else "the encoder of this network is not in the table",
        where=contents.file,
        found=", ".join(names) or found + (f", similar to {', '.join(similar)}" if similar else ""),
        allowed="the encoder's name in smp",
        hint=f"teacher.encoder in a profile; try: `kdtui inspect FILE --encoder {[*names, *similar, 'tu-NAME'][0]}`",
    )


def _recorded(words: Mapping[str, Any], *, levels: int = 2) -> Iterator[str]:
    """Names of the encoder in the metadata of the file."""
    for key, value in words.items():
        if key in _ENCODER_WORDS and isinstance(value, str):
            yield value
        elif isinstance(value, Mapping) and levels:
            yield from _recorded(value, levels=levels - 1)


def _exists(name: str) -> bool:
    return name.startswith("tu-") or name in smp.encoders.get_encoder_names()


def _check_encoder(name: str, contents: Contents) -> None:
    if _exists(name):
        return
    nearest = difflib.get_close_matches(name, smp.encoders.get_encoder_names(), n=3, cutoff=0.5)
    raise TeacherError(
        "no such encoder",
        where=contents.file,
        found=name,
        allowed="a name that `kdtui encoders` lists, or tu-<timm model>",
        hint=f"did you mean {' or '.join(nearest)}?" if nearest else "kdtui encoders",
    )


def _depths(state: Mapping[str, Tensor], decoder: Decoder, known: list[Match]) -> list[int]:
    """Depths to try, the most likely first."""
    if not known:
        return depths(decoder, state, None)
    found = [
        depth
        for match in known
        for depth in depths(decoder, state, match.channels)
        if match.depth is None or match.depth == depth
    ]
    return list(dict.fromkeys(found)) or [known[0].depth or DEPTHS[0]]


def _build(decoder: Decoder, encoder: str, depth: int, in_channels: int) -> nn.Module:
    with warnings.catch_warnings(), WithoutRandomWeights():
        warnings.simplefilter("ignore")  # smp and timm warn about names, which the file determines
        network: nn.Module = smp.create_model(
            decoder.architecture,
            encoder_name=encoder,
            encoder_weights=None,
            encoder_depth=depth,
            in_channels=in_channels,
            classes=decoder.out_channels,
            **(full_size(decoder.architecture, depth) | decoder.arguments),
        )
    return network
