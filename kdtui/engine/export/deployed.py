"""The exported module: normalisation, padding for any size, the network, and the form of its output."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from kdtui.engine.data import MEAN, STD
from kdtui.engine.models import outputs_of
from kdtui.export_options import ExportOptions
from kdtui.profile.base import TaskName

# Names of the main output. Not "softmax" and "argmax": the dynamo exporter uses these names for values inside the
# graph, and the duplicate name would not be valid ONNX.
OUTPUTS = {"logits": "logits", "softmax": "probabilities", "argmax": "classes"}
PARTS = ("bg_fg", "target_nontarget")
_BYTE = 255.0


@dataclass(frozen=True)
class InputSize:
    """Height and width of an input, in pixels."""

    height: int
    width: int

    def __str__(self) -> str:
        return f"{self.height}x{self.width}"


class Deployed(nn.Module):
    """A network with pre- and postprocessing, for use without kdtui.

    Args:
        network: Raw logits [N,C,H,W] of normalised images [N,3,H,W].
        task: Interpretation of the raw output.
        stride: Height and width of the network's input must be divisible by this.
        options: Form of input and output.
    """

    def __init__(self, network: nn.Module, *, task: TaskName, stride: int, options: ExportOptions) -> None:
        super().__init__()
        self.network = network
        self.task = task
        self.stride = stride
        self.input = options.input
        self.contents = options.output
        self.parts = options.parts and task == "hierarchical"
        self.any_size = options.dynamic_size
        # (value - mean) / std as one multiplication and one addition, as in training.
        unit = _BYTE if options.input == "uint8" else 1.0
        std, mean = (torch.tensor(values).view(1, 3, 1, 1) for values in (STD, MEAN))
        self.scale: Tensor
        self.shift: Tensor
        self.register_buffer("scale", 1 / (unit * std), persistent=False)
        self.register_buffer("shift", -mean / std, persistent=False)

    @property
    def output_names(self) -> tuple[str, ...]:
        """Names of the outputs, in order."""
        main = OUTPUTS[self.contents]
        return (main, *PARTS) if self.parts else (main,)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Outputs for images from :func:`fed`: [N,C,H,W] each, or classes uint8 [N,H,W] for ``argmax``."""
        pixels = images
        if self.input == "uint8":
            pixels = images.permute(0, 3, 1, 2).to(torch.float32)
        if self.input != "normalised":
            pixels = pixels * self.scale + self.shift
        height, width = pixels.shape[-2:]
        if self.any_size:
            # Zero is the mean colour after normalisation; training pads in the same way.
            pixels = functional.pad(pixels, (0, -width % self.stride, 0, -height % self.stride))
        raw = self.network(pixels)
        if self.any_size:
            raw = raw[..., :height, :width]
        logits = outputs_of(self.network, raw, self.task)
        wanted = [logits.main]
        if self.parts:
            wanted += [logits.extra[name] for name in PARTS if name in logits.extra]
        return tuple(self._read(answer) for answer in wanted)

    def _read(self, logits: Tensor) -> Tensor:
        if self.contents == "softmax":
            return logits.softmax(dim=1)
        # There are at most 256 classes: uint8 needs one byte per pixel instead of eight.
        return logits.argmax(dim=1).to(torch.uint8) if self.contents == "argmax" else logits


def fed(images: Tensor, options: ExportOptions) -> Tensor:
    """Convert normalised images f32 [N,3,H,W] to the input of the exported graph.

    Pixels were bytes before the normalisation, so rounding restores them.
    """
    if options.input == "normalised":
        return images
    std, mean = (torch.tensor(values).view(1, 3, 1, 1) for values in (STD, MEAN))
    pixels = ((images * std + mean) * _BYTE).round().clamp(0, _BYTE)
    if options.input == "uint8":
        return pixels.to(torch.uint8).permute(0, 2, 3, 1).contiguous()
    return pixels / _BYTE


def example(options: ExportOptions, size: InputSize) -> Tensor:
    """Images for tracing: two of them if the batch is dynamic, as a size of 1 would be traced as a constant."""
    count = 2 if options.dynamic_batch else options.batch
    generator = torch.Generator().manual_seed(0)
    return fed(torch.randn(count, 3, size.height, size.width, generator=generator), options)


def axes(options: ExportOptions) -> dict[int, str]:
    """Names of the dynamic axes by index."""
    names = {0: "batch"} if options.dynamic_batch else {}
    if options.dynamic_size:
        first = 1 if options.input == "uint8" else 2
        names |= {first: "height", first + 1: "width"}
    return names
