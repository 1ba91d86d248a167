"""SegFormer as Hugging Face, mmsegmentation and its authors save it, on the encoder of smp.

The published networks differ in the names of the tensors, the epsilon of layer norms, the projections of the decoder
and the order in which it concatenates them. Logits have stride 4 and are resized to the images without aligned corners,
as in these libraries and other than in smp.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import torch
from segmentation_models_pytorch.encoders.mix_transformer import LayerNorm, MixVisionTransformerEncoder
from torch import Tensor, nn
from torch.nn import functional as F

from kdtui.engine.containers import Contents, Layout
from kdtui.engine.data import PixelFormat
from kdtui.engine.families.family import (
    IMAGENET,
    Family,
    IdentifiedNetwork,
    check_setting,
    load_strictly,
    unknown_network,
)
from kdtui.engine.models import count_parameters
from kdtui.engine.shards import read_json
from kdtui.engine.upsampling import Upsampling, resized

_STAGES = range(1, 5)
_STRIDES = (4, 2, 2, 2)
_DEPTH = 5
# Width of the first stage and number of blocks, by name; the other widths are 2, 5 and 8 times the first one.
_MIT = {
    "mit_b0": (32, (2, 2, 2, 2)),
    "mit_b1": (64, (2, 2, 2, 2)),
    "mit_b2": (64, (3, 4, 6, 3)),
    "mit_b3": (64, (3, 4, 18, 3)),
    "mit_b4": (64, (3, 8, 27, 3)),
    "mit_b5": (64, (3, 6, 40, 3)),
}
_PUBLISHED_HEADS = (1, 2, 5, 8)


@dataclass(frozen=True)
class Dialect:
    """How a library names and computes SegFormer.

    Attributes:
        names: Patterns of its keys, with the names in :class:`Segformer`; the group ``stage`` counts from ``first``.
        first: Number of the first stage in its keys.
        epsilon: Epsilon of the layer norms of blocks and stages.
        inner_epsilon: Epsilon of the layer norms of patch embeddings and of reduced keys.
        normed: Whether the projections of the decoder have a batch norm and ReLU instead of a bias.
        deepest_first: Whether the decoder concatenates the deepest stage first.
    """

    names: Mapping[str, str]
    first: int
    epsilon: float
    inner_epsilon: float
    normed: bool = False
    deepest_first: bool = True


_BLOCK = r"(?P<block>\d+)"
_STAGE = r"(?P<stage>\d)"
HUGGING_FACE = Dialect(
    names={
        rf"segformer\.encoder\.patch_embeddings\.{_STAGE}\.proj": "encoder.patch_embed{stage}.proj",
        rf"segformer\.encoder\.patch_embeddings\.{_STAGE}\.layer_norm": "encoder.patch_embed{stage}.norm",
        rf"segformer\.encoder\.layer_norm\.{_STAGE}": "encoder.norm{stage}",
        **{
            rf"segformer\.encoder\.block\.{_STAGE}\.{_BLOCK}\.{theirs}": f"encoder.block{{stage}}.{{block}}.{ours}"
            for theirs, ours in {
                "layer_norm_1": "norm1",
                "layer_norm_2": "norm2",
                r"attention\.self\.query": "attn.q",
                r"attention\.self\.key": "attn.k",
                r"attention\.self\.value": "attn.v",
                r"attention\.self\.sr": "attn.sr",
                r"attention\.self\.layer_norm": "attn.norm",
                r"attention\.output\.dense": "attn.proj",
                r"mlp\.dense1": "mlp.fc1",
                r"mlp\.dense2": "mlp.fc2",
                r"mlp\.dwconv\.dwconv": "mlp.dwconv.dwconv",
            }.items()
        },
        rf"decode_head\.linear_c\.{_STAGE}\.proj": "decoder.projections.{stage}.0",
        r"decode_head\.linear_fuse": "decoder.fuse.0",
        r"decode_head\.batch_norm": "decoder.fuse.1",
        r"decode_head\.classifier": "segmentation_head",
    },
    first=0,
    epsilon=1e-5,
    inner_epsilon=1e-5,
)
MMSEG = Dialect(
    names={
        rf"backbone\.layers\.{_STAGE}\.0\.projection": "encoder.patch_embed{stage}.proj",
        rf"backbone\.layers\.{_STAGE}\.0\.norm": "encoder.patch_embed{stage}.norm",
        rf"backbone\.layers\.{_STAGE}\.2": "encoder.norm{stage}",
        **{
            rf"backbone\.layers\.{_STAGE}\.1\.{_BLOCK}\.{theirs}": f"encoder.block{{stage}}.{{block}}.{ours}"
            for theirs, ours in {
                "norm1": "norm1",
                "norm2": "norm2",
                r"attn\.attn\.in_proj_(?P<rest>weight|bias)": "attn.qkv.{rest}",
                r"attn\.attn\.out_proj": "attn.proj",
                r"attn\.sr": "attn.sr",
                r"attn\.norm": "attn.norm",
                r"ffn\.layers\.0": "mlp.fc1",
                r"ffn\.layers\.1": "mlp.dwconv.dwconv",
                r"ffn\.layers\.4": "mlp.fc2",
            }.items()
        },
        rf"decode_head\.convs\.{_STAGE}\.conv": "decoder.projections.{stage}.0",
        rf"decode_head\.convs\.{_STAGE}\.bn": "decoder.projections.{stage}.1",
        r"decode_head\.fusion_conv\.conv": "decoder.fuse.0",
        r"decode_head\.fusion_conv\.bn": "decoder.fuse.1",
        r"decode_head\.conv_seg": "segmentation_head",
    },
    first=0,
    epsilon=1e-6,
    inner_epsilon=1e-6,
    normed=True,
    deepest_first=False,
)
AUTHORS = Dialect(
    names={
        rf"backbone\.patch_embed{_STAGE}\.": "encoder.patch_embed{stage}.",
        rf"backbone\.block{_STAGE}\.": "encoder.block{stage}.",
        rf"backbone\.norm{_STAGE}": "encoder.norm{stage}",
        rf"decode_head\.linear_c{_STAGE}\.proj": "decoder.projections.{stage}.0",
        r"decode_head\.linear_fuse\.conv": "decoder.fuse.0",
        r"decode_head\.linear_fuse\.bn": "decoder.fuse.1",
        r"decode_head\.linear_pred": "segmentation_head",
    },
    first=1,
    epsilon=1e-6,
    inner_epsilon=1e-5,
)


class Decoder(nn.Module):
    """Project all stages to one width, resize them to the first one, concatenate and fuse them.

    Args:
        channels: Channels of the stages, the first one first.
        width: The common width.
        dialect: Its variant.
    """

    def __init__(self, channels: Sequence[int], width: int, dialect: Dialect) -> None:
        super().__init__()
        self.projections = nn.ModuleDict()
        for stage, count in zip(_STAGES, channels, strict=True):
            convolution = nn.Conv2d(count, width, 1, bias=not dialect.normed)
            norm = (nn.BatchNorm2d(width), nn.ReLU()) if dialect.normed else ()
            self.projections[str(stage)] = nn.Sequential(convolution, *norm)
        self.fuse = nn.Sequential(
            nn.Conv2d(width * len(channels), width, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()
        )
        self._deepest_first = dialect.deepest_first

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """A map [B,width,H/4,W/4] of the stages' maps."""
        size = features[0].shape[-2:]
        maps = [
            F.interpolate(project(stage), size, mode="bilinear", align_corners=False)
            for project, stage in zip(self.projections.values(), features, strict=True)
        ]
        fused: Tensor = self.fuse(torch.cat(maps[::-1] if self._deepest_first else maps, dim=1))
        return fused


class Segformer(nn.Module):
    """SegFormer with the encoder of smp.

    Args:
        encoder: Returns six maps: the image, an empty one, and the four stages.
        decoder: Fuses the stages.
        width: Channels of the decoder's map.
        classes: Output channels.
    """

    def __init__(self, encoder: nn.Module, decoder: Decoder, width: int, classes: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder
        self.segmentation_head = nn.Conv2d(width, classes, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Logits [B,K,H,W] of normalised images [B,C,H,W]."""
        features = self.encoder(images)[2:]
        logits = self.segmentation_head(self.decoder(features))
        return resized(logits, *images.shape[-2:])

    def upsampling(self) -> Upsampling:
        """Of the logits, whose stride is 4."""
        return Upsampling(self.segmentation_head, resized)


class SegformerFamily(Family):
    """Base of the families that contain SegFormer."""

    dialects: ClassVar[tuple[Dialect, ...]]
    others: ClassVar[str]
    """Allowed networks, for the message about others."""

    def identify(self, contents: Contents, *, architecture: str | None, encoder: str | None) -> IdentifiedNetwork:
        """See the base class."""
        for dialect in self.dialects:
            state = _split(_renamed(contents.state, dialect))
            if "encoder.patch_embed1.proj.weight" in state:
                break
        else:
            raise self._unknown(contents, ", ".join(list(contents.state)[:3]) + " …")
        config = contents.metadata.get("config")
        config = config if isinstance(config, Mapping) else {}
        try:
            network, name = _build(state, dialect, config)
        except (LookupError, ValueError, RuntimeError, TypeError, AssertionError, ArithmeticError) as error:
            missing = f"{error.args[0]} is missing" if isinstance(error, KeyError) else str(error)
            raise self._unknown(contents, missing) from error
        check_setting("architecture", architecture, "Segformer", where=contents.file)
        check_setting("encoder", encoder, name, where=contents.file)
        load_strictly(network, state, where=contents.file, title=f"Segformer with {name}")
        width = network.segmentation_head.in_channels
        facts = {
            "architecture": "Segformer",
            "encoder": name,
            "encoder_depth": _DEPTH,
            "decoder_channels": width,
            "out_channels": network.segmentation_head.out_channels,
            "in_channels": int(state["encoder.patch_embed1.proj.weight"].shape[1]),
        }
        return IdentifiedNetwork(network, facts, count_parameters(network), pixels=self.pixels(contents))

    def pixels(self, contents: Contents) -> PixelFormat:
        """The images that the network was trained with."""
        return IMAGENET

    def _unknown(self, contents: Contents, found: str) -> Exception:
        return unknown_network(self.layout.family, where=contents.file, found=found, allowed=self.others)


class HuggingFaceFamily(SegformerFamily):
    """``SegformerForSemanticSegmentation``: a folder with ``config.json``."""

    layout = Layout("Hugging Face", ("segformer", "decode_head"))
    dialects = (HUGGING_FACE,)
    others = "SegformerForSemanticSegmentation with the strides 4, 2, 2, 2"

    def pixels(self, contents: Contents) -> PixelFormat:
        """As ``preprocessor_config.json`` says."""
        path = contents.file.parent / "preprocessor_config.json"
        settings = read_json(path, "cannot read the preprocessing of this model") if path.is_file() else {}
        mean, std = settings.get("image_mean"), settings.get("image_std")
        numbers = _numbers(mean), _numbers(std)
        valid = len(numbers[0]) == len(numbers[1]) and all(numbers[1]) and numbers[1]
        return PixelFormat(*numbers) if valid else IMAGENET


class MmsegFamily(SegformerFamily):
    """SegFormer of mmsegmentation, or as its authors published it."""

    layout = Layout("mmsegmentation", ("backbone", "decode_head"))
    dialects = (MMSEG, AUTHORS)
    others = "SegFormer: a MixVisionTransformer with a SegformerHead"


def _numbers(value: Any) -> tuple[float, ...]:
    """A list of numbers from 0 in a config; empty for anything else."""
    numbers = value if isinstance(value, list) else []
    return tuple(map(float, numbers)) if all(type(item) in (int, float) and 0 <= item < 1e3 for item in numbers) else ()


def _renamed(state: Mapping[str, Tensor], dialect: Dialect) -> dict[str, Tensor]:
    """The state with the keys of :class:`Segformer`; keys that are not known stay as they are."""
    patterns = [(re.compile(pattern), ours) for pattern, ours in dialect.names.items()]
    renamed: dict[str, Tensor] = {}
    for key, value in state.items():
        name = key
        for pattern, ours in patterns:
            if (match := pattern.match(key)) is not None:
                groups = match.groupdict()
                if "stage" in groups:
                    groups["stage"] = str(int(groups["stage"]) + 1 - dialect.first)
                name = ours.format(**groups) + key[match.end() :]
                break
        renamed[name] = value
    return renamed


def _split(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state with queries apart from keys and values, and with linear layers and 1x1 convolutions as in smp."""
    changed: dict[str, Tensor] = {}
    for key, value in state.items():
        if ".attn.qkv." in key and value.ndim:
            width = len(value) // 3
            changed[key.replace(".qkv.", ".q.")], changed[key.replace(".qkv.", ".kv.")] = value[:width], value[width:]
        elif ".attn.k." in key:
            values = state.get(key.replace(".k.", ".v."))
            if values is not None and values.ndim and value.ndim and values.dtype == value.dtype:
                changed[key.replace(".k.", ".kv.")] = torch.cat([value, values])
        elif ".attn.v." in key:
            continue
        elif ".mlp.fc" in key and value.ndim == 4:
            changed[key] = value.flatten(1)
        elif key.startswith("decoder.projections.") and key.endswith(".0.weight") and value.ndim == 2:
            changed[key] = value[..., None, None]
        else:
            changed[key] = value
    return changed


def _build(state: Mapping[str, Tensor], dialect: Dialect, config: Mapping[str, Any]) -> tuple[Segformer, str]:
    """The network whose sizes are those of the tensors, and the name of its encoder.

    Raises:
        KeyError: A tensor is missing.
        ValueError: The config has another structure, or the number of attention heads is not known.
    """
    strides, activation = config.get("strides", list(_STRIDES)), config.get("hidden_act", "gelu")
    if list(strides) != list(_STRIDES) or activation != "gelu" or config.get("reshape_last_stage") is False:
        raise ValueError(f"strides {strides}, activation {activation}")
    patches = [state[f"encoder.patch_embed{stage}.proj.weight"] for stage in _STAGES]
    channels = [int(patch.shape[0]) for patch in patches]
    head = state["segmentation_head.weight"]
    width = int(head.shape[1])
    # The largest tensors are in the file, so that building the network takes no more memory than the file.
    squares = {
        f"encoder.block{stage}.0.attn.q.weight": (size, size) for stage, size in zip(_STAGES, channels, strict=True)
    }
    for key, shape in (squares | {"decoder.fuse.0.weight": (width, 4 * width, 1, 1)}).items():
        if tuple(state[key].shape) != shape:
            raise ValueError(f"{key} {tuple(state[key].shape)} instead of {shape}")
    depths = [
        len({key.split(".")[2] for key in state if key.startswith(f"encoder.block{stage}.")}) for stage in _STAGES
    ]
    reductions = [state.get(f"encoder.block{stage}.0.attn.sr.weight") for stage in _STAGES]
    hidden = [int(state[f"encoder.block{stage}.0.mlp.fc1.weight"].shape[0]) for stage in _STAGES]
    name = next(
        (
            name
            for name, (first, blocks) in _MIT.items()
            if channels == [first * heads for heads in _PUBLISHED_HEADS] and depths == list(blocks)
        ),
        "mit",
    )
    heads = config.get("num_attention_heads", _PUBLISHED_HEADS if name != "mit" else None)
    if not isinstance(heads, list | tuple) or len(heads) != len(_STAGES):
        raise ValueError(f"widths {channels} with an unknown number of attention heads")
    encoder = MixVisionTransformerEncoder(
        out_channels=[int(patches[0].shape[1]), 0, *channels],
        depth=_DEPTH,
        in_chans=int(patches[0].shape[1]),
        embed_dims=channels,
        num_heads=[int(count) for count in heads],
        mlp_ratios=[size / count for size, count in zip(hidden, channels, strict=True)],
        qkv_bias="encoder.block1.0.attn.q.bias" in state,
        norm_layer=partial(LayerNorm, eps=dialect.epsilon),
        depths=depths,
        sr_ratios=[1 if reduction is None else int(reduction.shape[-1]) for reduction in reductions],
    )
    for part, module in encoder.named_modules():
        if isinstance(module, nn.LayerNorm) and ("patch_embed" in part or part.endswith("attn.norm")):
            module.eps = dialect.inner_epsilon
    return Segformer(encoder, Decoder(channels, width, dialect), width, int(head.shape[0])), name
