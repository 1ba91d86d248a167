"""Networks of segmentation-models-pytorch with any of its encoders, and the interpretation of their output."""

from __future__ import annotations

import contextlib
import difflib
import itertools
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import segmentation_models_pytorch as smp
import timm
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._pytree import tree_leaves, tree_map

from kdtui.engine.hub_cache import PublishedFile, hub, published_files
from kdtui.engine.identify import RGB, full_size
from kdtui.engine.shapes import ShapesOnly
from kdtui.errors import ModelError
from kdtui.profile import Model
from kdtui.profile.base import TaskName
from kdtui.profile.network_tables import HIERARCHICAL_CHANNELS

ARCHITECTURES = (
    "Unet",
    "UnetPlusPlus",
    "MAnet",
    "Linknet",
    "FPN",
    "PSPNet",
    "PAN",
    "DeepLabV3",
    "DeepLabV3Plus",
    "UPerNet",
    "Segformer",
    "DPT",
)
# Default widths of smp, one per decoder stage, deepest first.
_STAGED = {"Unet": (256, 128, 64, 32, 16), "UnetPlusPlus": (256, 128, 64, 32, 16), "MAnet": (256, 128, 64, 32, 16)}
# The argument for the width of the other decoders.
_WIDTH = {
    "PSPNet": "psp_out_channels",
    "PAN": "decoder_channels",
    "DeepLabV3": "decoder_channels",
    "DeepLabV3Plus": "decoder_channels",
    "UPerNet": "decoder_channels",
    "Segformer": "decoder_segmentation_channels",
    "DPT": "decoder_fusion_channels",
}
# Side in pixels of the image for finding unused parameters; PAN pools four more times after its encoder.
_PROBE = {"PAN": 128}
_SMALLEST_PROBE = 64
# Exceptions of torch, timm and smp in a forward pass with unsupported sizes.
UNWORKABLE = (RuntimeError, ValueError, AssertionError, LookupError, TypeError)


@dataclass(frozen=True)
class Outputs:
    """Outputs of a network for a batch.

    Attributes:
        main: f32 [B,C,H,W], the logits of the task's classes.
        extra: Further logits by name. A hierarchical task has ``bg_fg`` (background | person) and
            ``target_nontarget`` (target | other, given a person), f32 [B,2,H,W] each.
        features: Feature maps [B,C,h,w] by name, see :mod:`kdtui.engine.taps`.
    """

    main: Tensor
    extra: Mapping[str, Tensor] = field(default_factory=dict)
    features: Mapping[str, Tensor] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Tensor:
        """An output by its name in profiles, where ``logits`` is the main one."""
        if name == "logits":
            return self.main
        return self.extra[name] if name in self.extra else self.features[name]

    def softened(self, temperature: float) -> Outputs:
        """The outputs for terms on ``softmax(logits / T)`` over classes; those of several teachers depend on T."""
        del temperature
        return self


@dataclass(frozen=True)
class Parameters:
    """Number of parameters of a network, and of those that the output depends on."""

    stored: int
    used: int


def out_channels(task: TaskName, classes: int) -> int:
    """Output channels of a network for ``task``: two 2-way decisions, or one channel per class."""
    return HIERARCHICAL_CHANNELS if task == "hierarchical" else classes


def compose(raw: Tensor, task: TaskName, features: Mapping[str, Tensor] | None = None) -> Outputs:
    """Convert raw network output to logits of the classes.

    One channel z of a semantic task is the logit of the second of two classes. The main logits are [0, z], whose
    softmax is the sigmoid of z, so that losses, metrics and exports need not distinguish the two forms.

    Hierarchical output has two decisions, background | person and, given a person, target | other. The main logits are
    their composition ``[log p(bg), log p(fg) + log p(target|fg), log p(fg) + log p(other|fg)]``, which is normalised:
    it equals its log softmax.

    Args:
        raw: [B,4,H,W] for ``hierarchical``, [B,K,H,W] or [B,1,H,W] for ``semantic``; converted to f32.
        task: The task.
        features: Feature maps of the same forward pass.
    """
    raw = raw.float()
    features = features or {}
    if task == "semantic":
        one = raw.shape[1] == 1
        return Outputs(main=torch.cat([torch.zeros_like(raw), raw], dim=1) if one else raw, features=features)
    bg_fg, target_nontarget = raw[:, :2], raw[:, 2:]
    decision, person = F.log_softmax(bg_fg, dim=1), F.log_softmax(target_nontarget, dim=1)
    main = torch.cat([decision[:, :1], decision[:, 1:] + person], dim=1)
    return Outputs(main, {"bg_fg": bg_fg, "target_nontarget": target_nontarget}, features)


def inputs_of(network: nn.Module, extras: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The further inputs that a network reads: those that it names in ``extra_inputs``, keywords of its ``forward``.

    Args:
        network: It may be one that pads.
        extras: What a batch carries beside images and labels, by name.

    Raises:
        ModelError: The data do not have one of them.
    """
    names = getattr(unwrapped(network), "extra_inputs", ())
    missing = [name for name in names if name not in extras]
    if missing:
        raise ModelError(
            "the network reads an input that these data do not have",
            where="student.kind, data.kind",
            found=missing[0],
            allowed=", ".join(extras) or "images only",
        )
    return {name: extras[name] for name in names}


def outputs_of(network: nn.Module, raw: Any, task: TaskName, features: Mapping[str, Tensor] | None = None) -> Outputs:
    """Convert raw output with the network's ``compose``, by default with :func:`compose`.

    Args:
        network: The network; may be wrapped.
        raw: Its output: a tensor, or tensors by name if the network has its own ``compose``.
        task: Task of the data.
        features: Feature maps of the same forward pass.
    """
    read = getattr(network, "compose", compose)
    outputs: Outputs = read(raw, task, features)
    return outputs


def channels_of(network: nn.Module, task: TaskName, classes: int) -> dict[str, int]:
    """Channels of a network's logits after :func:`outputs_of`, by the names of :class:`Outputs`."""
    channels = getattr(network, "logit_channels", logit_channels)
    by_name: dict[str, int] = channels(task, classes)
    return by_name


def logit_channels(task: TaskName, classes: int) -> dict[str, int]:
    """Channels of the logits of :func:`compose`, by the names of :class:`Outputs`."""
    extra = {"bg_fg": 2, "target_nontarget": 2} if task == "hierarchical" else {}
    return {"logits": classes, **extra}


class Wrapper(nn.Module):
    """A network around another one, whose outputs and features it has.

    Args:
        network: The inner network; may be wrapped too.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def compose(self, raw: Tensor, task: TaskName, features: Mapping[str, Tensor] | None = None) -> Outputs:
        """See :func:`outputs_of`."""
        return outputs_of(self.network, raw, task, features)

    def logit_channels(self, task: TaskName, classes: int) -> dict[str, int]:
        """See :func:`channels_of`."""
        return channels_of(self.network, task, classes)

    def inner_size(self, height: int, width: int) -> tuple[int, int]:
        """Size of the images that the inner network sees."""
        return height, width

    def converted(self, raw: Tensor, height: int, width: int) -> Tensor:
        """The raw output for images of this size, of the raw output of the inner network."""
        del height, width
        return raw

    def cropped(self, features: Tensor, height: int, width: int) -> Tensor:
        """The part of the inner network's features [B,C,h,w] that covers images of this size."""
        inner = self.inner_size(height, width)
        return self.network.cropped(features, *inner) if isinstance(self.network, Wrapper) else features


def unwrapped(network: nn.Module) -> nn.Module:
    """The innermost network."""
    while isinstance(network, Wrapper):
        network = network.network
    return network


def device_of(network: nn.Module) -> torch.device:
    """The device of a network; the CPU for one without tensors."""
    tensors = itertools.chain(network.parameters(), network.buffers())
    return next((tensor.device for tensor in tensors), torch.device("cpu"))


class AnySize(Wrapper):
    """A network for images of any size: pads them at the right and bottom, and crops the output.

    Images are padded to the student's stride, and a deeper teacher may need a larger one.
    """

    def __init__(self, network: nn.Module, *, stride: int) -> None:
        super().__init__(network)
        self.stride = stride

    def forward(self, images: Tensor, **extras: Tensor) -> Any:
        """Raw output for normalised images [B,3,H,W]; the padding has the mean colour."""
        height, width = images.shape[-2:]
        padded = F.pad(images, (0, -width % self.stride, 0, -height % self.stride))

        def cropped(answer: Tensor) -> Tensor:
            # Outputs by name may have a size of their own.
            own = answer.shape[-2:] != padded.shape[-2:]
            return answer if own else answer[..., :height, :width]

        raw = self.network(padded, **extras)
        return self.converted(raw, height, width) if isinstance(raw, Tensor) else tree_map(cropped, raw)

    def converted(self, raw: Tensor, height: int, width: int) -> Tensor:
        """Without the padding."""
        return raw[..., :height, :width]

    def inner_size(self, height: int, width: int) -> tuple[int, int]:
        """With the padding."""
        return height + -height % self.stride, width + -width % self.stride

    def cropped(self, features: Tensor, height: int, width: int) -> Tensor:
        """The part of features [B,C,h,w] that covers images without the padding, resampled bilinearly."""
        padded_height, padded_width = self.inner_size(height, width)
        features = super().cropped(features, height, width)
        if (padded_height, padded_width) == (height, width):
            return features
        rows, columns = height / padded_height, width / padded_width
        grid = [-(-features.shape[-2] * height // padded_height), -(-features.shape[-1] * width // padded_width)]
        window = torch.tensor([[columns, 0.0, columns - 1], [0.0, rows, rows - 1]], device=features.device)
        where = F.affine_grid(window.expand(len(features), 2, 3), [len(features), 1, *grid], align_corners=False)
        return F.grid_sample(features.float(), where, padding_mode="border", align_corners=False)


def stride(model: Model) -> int:
    """Height and width of the network's input must be divisible by this."""
    return int(2**model.encoder_depth)


def build_network(model: Model, *, task: TaskName, classes: int) -> nn.Module:
    """Build an smp network with raw output; parameters that the output does not depend on are frozen.

    Args:
        model: Architecture, encoder, depth, decoder width, encoder weights.
        task: Determines the number of output channels.
        classes: Number of classes of the task.

    Raises:
        ModelError: An unknown name, an invalid decoder width, or weights that cannot be loaded.
    """
    network = create(model, channels=out_channels(task, classes))
    freeze_unused(network)
    return network


def create(model: Model, *, channels: int, in_channels: int = RGB) -> nn.Module:
    """Build an smp network with ``channels`` output channels; all parameters are trainable."""
    _check_names(model)
    weights = None if model.encoder_weights == "none" else model.encoder_weights
    arguments = {
        "encoder_name": model.encoder,
        "encoder_weights": weights,
        "encoder_depth": model.encoder_depth,
        "classes": channels,
        "in_channels": in_channels,
        **_decoder_width(model),
        **full_size(model.architecture, model.encoder_depth),
    }
    files = () if weights is None else published_files(model.encoder)
    try:
        with contextlib.nullcontext() if weights is None else hub(files), warnings.catch_warnings():
            # Many teachers use these encoders; the corresponding tu- encoders have other keys.
            warnings.filterwarnings("ignore", message="`timm-` encoders are deprecated")
            # smp warns that timm selects the weights itself.
            warnings.filterwarnings("ignore", message="For 'tu-'")
            # A decoder on a stage without channels: reported as an error below.
            warnings.filterwarnings("ignore", message="Initializing zero-element tensors")
            with ShapesOnly():  # smp builds an encoder of timm twice, first on the meta device
                network: nn.Module = smp.create_model(model.architecture, **arguments)
    except (OSError, RuntimeError, ValueError, KeyError, TypeError, AttributeError, NotImplementedError) as error:
        raise _unbuildable(model, files, error) from error
    set_input_channels(network, in_channels)
    return network


def set_input_channels(network: nn.Module, channels: int) -> None:
    """Record the number of channels of a network's images, see :func:`input_channels`."""
    network.image_channels = channels  # type: ignore[assignment]


def input_channels(network: nn.Module) -> int:
    """Number of channels of the images that a network takes; three for networks that were not built here."""
    channels = getattr(network, "image_channels", None)
    if channels is None and isinstance(network, Wrapper):
        return input_channels(network.network)
    return RGB if channels is None else int(channels)


def freeze_unused(network: nn.Module) -> None:
    """Freeze parameters that the output does not depend on.

    smp's ``timm-efficientnet-*`` have ``encoder.conv_head`` and ``encoder.bn2``, which a Unet does not use: DDP fails
    on them at its second step, and they are counted separately. They are found by a backward pass, which works for
    every encoder; a network may define ``smallest_inputs``, with which its pass costs least.

    Raises:
        ModelError: Encoder and decoder are not compatible.
    """
    training = network.training
    network.eval()
    height, width = only_size(network) or (_PROBE.get(type(network).__name__, _SMALLEST_PROBE),) * 2
    extras: dict[str, Tensor] = getattr(network, "smallest_inputs", dict)()
    try:
        with torch.enable_grad():
            raw = network(torch.zeros(1, input_channels(network), height, width), **extras)
            sum(answer.sum() for answer in tree_leaves(raw)).backward()
    except UNWORKABLE as error:
        raise ModelError(
            f"{type(network).__name__} does not work with this encoder at this depth",
            found=f"{type(error).__name__}: {one_line(error)}",
            allowed="another architecture, encoder or student.encoder_depth",
        ) from error
    for parameter in network.parameters():
        if parameter.grad is None:
            parameter.requires_grad_(False)
        parameter.grad = None
    network.train(training)


def only_size(network: nn.Module) -> tuple[int, int] | None:
    """Height and width of a network with a fixed input size, such as many vision transformers; otherwise None."""
    config = getattr(getattr(getattr(network, "encoder", None), "model", None), "pretrained_cfg", None) or {}
    if not config.get("fixed_input_size"):
        return None
    _, height, width = config["input_size"]
    return int(height), int(width)


def all_finite(values: Tensor) -> bool:
    """Whether all values are finite numbers; their sum, which is faster, is not if one is not."""
    return bool(torch.isfinite(values.sum()) or torch.isfinite(values).all())


def lay_out_channels_last(network: nn.Module) -> nn.Module:
    """Convert the kernels of a network to the memory format NHWC."""
    # torch's annotation of Module.to lacks this overload.
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network


def count_parameters(network: nn.Module) -> Parameters:
    """Stored and used parameters of a network whose unused ones are frozen."""
    sizes = [(parameter.numel(), parameter.requires_grad) for parameter in network.parameters()]
    return Parameters(stored=sum(size for size, _ in sizes), used=sum(size for size, used in sizes if used))


def _decoder_width(model: Model) -> dict[str, Any]:
    """``decoder_channels`` as the arguments of this architecture."""
    width, architecture = model.decoder_channels, model.architecture
    if architecture in _STAGED:
        if width is None:
            return {"decoder_channels": _STAGED[architecture][-model.encoder_depth :]}
        if isinstance(width, int) or len(width) != model.encoder_depth:
            raise ModelError(
                f"{architecture} takes one decoder width per stage",
                where="student.decoder_channels",
                found=width if isinstance(width, int) else list(width),
                allowed=f"{model.encoder_depth} numbers, deepest stage first",
                hint=f"--set student.decoder_channels={list(_STAGED[architecture][-model.encoder_depth :])}",
            )
        return {"decoder_channels": width}
    if width is None:
        return {}
    if architecture == "Linknet":
        raise ModelError(
            "the decoder width of Linknet cannot be set",
            where="student.decoder_channels",
            found=width,
            allowed="no student.decoder_channels",
        )
    if not isinstance(width, int):
        raise ModelError(
            f"{architecture} takes one decoder width",
            where="student.decoder_channels",
            found=list(width),
            allowed="a number",
        )
    if architecture == "FPN":
        return {"decoder_pyramid_channels": width, "decoder_segmentation_channels": max(1, width // 2)}
    return {_WIDTH[architecture]: width}


def _check_names(model: Model) -> None:
    if model.architecture not in ARCHITECTURES:
        raise _unknown("architecture", model.architecture, ARCHITECTURES)
    if model.encoder.startswith("tu-"):
        known = timm.list_models()
        if model.encoder.removeprefix("tu-").split(".")[0] not in known:
            raise _unknown("encoder", model.encoder, [f"tu-{name}" for name in known])
    elif model.encoder not in smp.encoders.get_encoder_names():
        raise _unknown("encoder", model.encoder, smp.encoders.get_encoder_names())


def _unknown(kind: str, found: str, known: Iterable[str]) -> ModelError:
    nearest = difflib.get_close_matches(found, list(known), n=3, cutoff=0.5)
    return ModelError(
        f"no such {kind}",
        where=f"student.{kind}",
        found=found,
        allowed=", ".join(known)
        if kind == "architecture"
        else "a name that `kdtui encoders` lists, or tu-<timm model>",
        hint=f"did you mean {' or '.join(nearest)}?" if nearest else "kdtui encoders",
    )


def one_line(error: Exception) -> str:
    """A library's error message on one line, truncated."""
    return " ".join(str(error).split())[:300]


def _unbuildable(model: Model, files: Sequence[PublishedFile], error: Exception) -> ModelError:
    text = one_line(error)
    missing = next((file for file in files if not file.is_cached), None)
    if missing is not None:
        return ModelError(
            f"could not download the {model.encoder_weights} weights of {model.encoder}, which are not in the cache",
            where=missing.path,
            found=f"{type(error).__name__}: {text}",
            allowed=missing.source,
            hint=f"{missing.how_to_copy}; or train from scratch with --set student.weights=none",
        )
    if model.encoder_weights != "none":
        return ModelError(
            f"could not load the {model.encoder_weights} weights of {model.encoder}",
            where="student.weights",
            found=f"{type(error).__name__}: {text}",
            allowed="none, imagenet if the encoder has such weights, or a checkpoint",
            hint="--set student.weights=none trains from scratch",
        )
    return ModelError(
        f"{model.architecture} cannot be built with {model.encoder} at depth {model.encoder_depth}",
        where="student",
        found=f"{type(error).__name__}: {text}",
        allowed="another encoder, student.encoder_depth from 3 to 5, or decoder width",
    )
