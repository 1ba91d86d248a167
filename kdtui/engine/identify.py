"""Names a network: the one architecture, encoder, depth and width whose keys and shapes are exactly the file's.

A guess is never enough: whatever is inferred is built, and compared key by key before any weight is loaded.
"""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import segmentation_models_pytorch as smp
from torch import Tensor, nn

from kdtui.engine.architecture import ARCHITECTURES, DEPTHS, Decoder, architecture_of, depths, full_size, read_decoder
from kdtui.engine.checkpoint import differences
from kdtui.engine.containers import Contents
from kdtui.engine.encoder_table import RGB, Match, Shapes, find_encoders, resembling
from kdtui.errors import TeacherError

_ENCODER = "encoder."
_DECIDE = "teacher.encoder and teacher.architecture in a profile; try: `kdtui inspect FILE --encoder NAME`"
# Settings that change what a network computes without a trace in its tensors; a config beside them tells.
_TRACELESS = (
    "decoder_interpolation",
    "upsampling",
    "encoder_output_stride",
    "decoder_atrous_rates",
    "decoder_readout",
)
# Where people's files say what their encoder is called.
_ENCODER_WORDS = ("encoder_name", "encoder", "backbone")
# What smp and timm raise for settings that make no network.
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
class Identity:
    """A network that fits the file's tensors, not yet loaded.

    Attributes:
        network: Built, with the weights it was born with.
        state: The file's tensors under the names that this network uses.
        decoder: What its decoder's tensors told.
        encoder: Name of its encoder.
        depth: Stages of it in use.
        in_channels: Channels of its input.
    """

    network: nn.Module
    state: dict[str, Tensor]
    decoder: Decoder
    encoder: str
    depth: int
    in_channels: int

    def rebuilt(self, *, in_channels: int) -> nn.Module:
        """The same network for another input."""
        return _build(self.decoder, self.encoder, self.depth, in_channels)


def identify(contents: Contents, *, architecture: str | None, encoder: str | None) -> Identity:
    """Find the network; ``architecture`` and ``encoder`` are what the user says.

    Raises:
        TeacherError: No network has these keys and shapes, or several have.
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
            return Identity(network, state, decoder, name, depth, in_channels)
        if not nearest or len("".join(problems)) < len("".join(nearest)):
            nearest = problems
    others = sorted({match.name for match in matches} - {name})
    raise TeacherError(
        f"the weights do not fit {decoder.architecture} with {name}",
        where=contents.file,
        found="; ".join(nearest),
        allowed="every key, in its shape, and none beside",
        hint=f"the shapes are those of {' or '.join(others)}" if others else _DECIDE,
    )


def _decoder(contents: Contents, given: str | None) -> Decoder:
    architecture = given or architecture_of(contents.state)
    if architecture not in ARCHITECTURES:
        keys = [key for key in contents.state if key.startswith("decoder.")]
        nearest = difflib.get_close_matches(given or "", ARCHITECTURES, n=1)
        raise TeacherError(
            "there is no architecture of that name" if given else "the architecture of this network is not known",
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
    told = {key: config[key] for key in _TRACELESS if key in config} if isinstance(config, Mapping) else {}
    return Decoder(architecture, decoder.channels, decoder.out_channels, decoder.arguments | told)


def _incomplete(architecture: str, contents: Contents, error: LookupError) -> TeacherError:
    looks_like = architecture_of(contents.state)
    return TeacherError(
        f"this is no whole {architecture}",
        where=contents.file,
        found=f"{error.args[0]} is missing" if isinstance(error, KeyError) else "a tensor with too few dimensions",
        allowed="every key of the network that was saved",
        hint=f"the keys look like {looks_like}" if looks_like != architecture else None,
    )


def _encoders(state: dict[str, Tensor]) -> tuple[dict[str, Tensor], list[Match]]:
    """What the encoder may be, and the state under the names that today's smp gives its keys."""
    for renamed in _renamings(state):
        matches = find_encoders(_encoder_shapes(renamed))
        if matches:
            return renamed, matches
    return state, []


def _encoder_shapes(state: Mapping[str, Tensor]) -> Shapes:
    return {key.removeprefix(_ENCODER): tuple(value.shape) for key, value in state.items() if key.startswith(_ENCODER)}


def _renamings(state: dict[str, Tensor]) -> Iterator[dict[str, Tensor]]:
    """As it is; then as smp before 0.5 named its timm encoders: without ``model.``, and gernet with ``stages.``."""
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
    """The encoder's name: what the shapes say; what the file says where they leave several."""
    names = sorted({match.name for match in matches})
    if len(names) == 1:
        return names[0]
    told = [name for name in _told(contents.metadata) if name in names or (not names and _exists(name))]
    if told:
        return told[0]
    shapes = _encoder_shapes(contents.state)
    similar = [] if names else resembling(shapes)
    found = f"{len(shapes)} encoder tensors of a custom, incomplete or rarer timm encoder"
    raise TeacherError(
        "several encoders have exactly these shapes" if names else "the encoder of this network is not in the table",
        where=contents.file,
        found=", ".join(names) or found + (f", not unlike {', '.join(similar)}" if similar else ""),
        allowed="the name that it was built with",
        hint=f"teacher.encoder in a profile; try: `kdtui inspect FILE --encoder {[*names, *similar, 'tu-NAME'][0]}`",
    )


def _told(words: Mapping[str, Any], *, levels: int = 2) -> Iterator[str]:
    """What the file itself calls its encoder."""
    for key, value in words.items():
        if key in _ENCODER_WORDS and isinstance(value, str):
            yield value
        elif isinstance(value, Mapping) and levels:
            yield from _told(value, levels=levels - 1)


def _exists(name: str) -> bool:
    return name.startswith("tu-") or name in smp.encoders.get_encoder_names()


def _check_encoder(name: str, contents: Contents) -> None:
    if _exists(name):
        return
    nearest = difflib.get_close_matches(name, smp.encoders.get_encoder_names(), n=3, cutoff=0.5)
    raise TeacherError(
        "there is no encoder of that name",
        where=contents.file,
        found=name,
        allowed="a name that `kdtui encoders` lists, or tu-<timm model>",
        hint=f"did you mean {' or '.join(nearest)}?" if nearest else "kdtui encoders",
    )


def _depths(state: Mapping[str, Tensor], decoder: Decoder, known: list[Match]) -> list[int]:
    """Depths to try, likeliest first."""
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
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # smp and timm advise on names; the file has chosen its own
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
