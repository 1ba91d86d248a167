"""The graph that is exported: normalisation, any size, the network, and how its output is read."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from kdtui.engine.data import MEAN, STD
from kdtui.engine.models import outputs_of
from kdtui.export_options import ExportOptions
from kdtui.profile.base import TaskName

# What the main output is called. Not "softmax" and "argmax": the dynamo exporter calls values inside the graph so, and
# gives an output of that name the same name once more, which is no valid ONNX.
OUTPUTS = {"logits": "logits", "softmax": "probabilities", "argmax": "classes"}
PARTS = ("bg_fg", "target_nontarget")
_BYTE = 255.0


@dataclass(frozen=True)
class Size:
    """Height and width of an input, in pixels."""

    height: int
    width: int

    def __str__(self) -> str:
        return f"{self.height}x{self.width}"


class Deployed(nn.Module):
    """A network as a caller without kdtui wants it.

    Args:
        network: Raw logits [N,C,H,W] of normalised images [N,3,H,W].
        task: How its raw output is read.
        stride: Height and width that the network takes divide by this.
        options: What goes in and what comes out.
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
        # (value - mean) / std as one multiplication and one addition, as training has it.
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
        """The outputs for images as :func:`fed` makes them; [N,C,H,W] each, classes uint8 [N,H,W] for ``argmax``."""
        pixels = images
        if self.input == "uint8":
            pixels = images.permute(0, 3, 1, 2).to(torch.float32)
        if self.input != "normalised":
            pixels = pixels * self.scale + self.shift
        height, width = pixels.shape[-2:]
        if self.any_size:
            # Zero is the mean colour after normalisation; training pads so too.
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
        # A class is one of at most 256: a byte a pixel where an i64 would be eight.
        return logits.argmax(dim=1).to(torch.uint8) if self.contents == "argmax" else logits


def fed(images: Tensor, options: ExportOptions) -> Tensor:
    """Normalised images f32 [N,3,H,W] of a data set as the exported graph takes them.

    Pixels were bytes before they were normalised, so rounding finds them again.
    """
    if options.input == "normalised":
        return images
    std, mean = (torch.tensor(values).view(1, 3, 1, 1) for values in (STD, MEAN))
    pixels = ((images * std + mean) * _BYTE).round().clamp(0, _BYTE)
    if options.input == "uint8":
        return pixels.to(torch.uint8).permute(0, 2, 3, 1).contiguous()
    return pixels / _BYTE


def example(options: ExportOptions, size: Size) -> Tensor:
    """Images to trace with: two of them where the batch is open, since 1 would be taken for a constant."""
    count = 2 if options.dynamic_batch else options.batch
    generator = torch.Generator().manual_seed(0)
    return fed(torch.randn(count, 3, size.height, size.width, generator=generator), options)


def axes(options: ExportOptions) -> dict[int, str]:
    """Axis to name, for the axes that a caller chooses."""
    names = {0: "batch"} if options.dynamic_batch else {}
    if options.dynamic_size:
        first = 1 if options.input == "uint8" else 2
        names |= {first: "height", first + 1: "width"}
    return names
