"""The exported module: normalisation, padding for any size, the network, and the form of its output."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from kdtui.engine.data import PixelFormat
from kdtui.engine.models import outputs_of
from kdtui.engine.network import GraphInput, GraphOutput, Translation, graph_outputs
from kdtui.export_options import ExportOptions
from kdtui.profile.base import TaskName

_BYTE = 255.0
RGB_PIXELS = PixelFormat()


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
        network: Raw logits [N,K,H,W] of normalised images [N,C,H,W].
        task: Interpretation of the raw output.
        stride: Height and width of the network's input must be divisible by this.
        options: Form of input and output.
        inputs: Inputs beside images.
        outputs: By default those of :func:`kdtui.engine.network.graph_outputs`.
        translations: How exporters write operators of the network's own.
        pixels: Normalisation and channel order of the network's images.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        task: TaskName,
        stride: int,
        options: ExportOptions,
        inputs: Sequence[GraphInput] = (),
        outputs: Sequence[GraphOutput] = (),
        translations: Sequence[Translation] = (),
        pixels: PixelFormat = RGB_PIXELS,
    ) -> None:
        super().__init__()
        self.pixels = pixels
        self.network = network
        self.task = task
        self.stride = stride
        self.input = options.input
        self.contents = options.output
        self.inputs = tuple(inputs)
        self.outputs = tuple(outputs) or graph_outputs(task, options)
        self.translations = tuple(translations)
        self.any_size = options.dynamic_size
        # (value - mean) / std as one multiplication and one addition, as in training.
        unit = _BYTE if options.input == "uint8" else 1.0
        scale, shift = pixels.scale_and_shift(unit)
        self.scale: Tensor
        self.shift: Tensor
        self.register_buffer("scale", scale[None], persistent=False)
        self.register_buffer("shift", shift[None], persistent=False)

    @property
    def output_names(self) -> tuple[str, ...]:
        """Names of the outputs, in order."""
        return tuple(output.name for output in self.outputs)

    def forward(self, images: Tensor, *extras: Tensor) -> tuple[Tensor, ...]:
        """Outputs for images from :func:`fed` and the further inputs in order.

        Returns:
            Logits or probabilities [N,C,H,W], or classes uint8 [N,H,W] for ``argmax``.
        """
        pixels = images
        if self.input == "uint8":
            pixels = images.permute(0, 3, 1, 2).to(torch.float32)
        if self.input != "normalised":
            pixels = pixels * self.scale + self.shift
        height, width = pixels.shape[-2:]
        if self.any_size:
            # Zero is the mean colour after normalisation; training pads in the same way.
            pixels = functional.pad(pixels, (0, -width % self.stride, 0, -height % self.stride))
        raw = self.network(pixels, **{entry.name: extra for entry, extra in zip(self.inputs, extras, strict=True)})
        whole = isinstance(raw, Tensor)
        if self.any_size and whole:
            raw = raw[..., :height, :width]
        answers = outputs_of(self.network, raw, self.task)
        read = []
        for output in self.outputs:
            answer = answers[output.source]
            if self.any_size and not whole and "height" in output.axes.values():
                answer = answer[..., :height, :width]
            read.append(self._read(answer) if output.logits else answer)
        return tuple(read)

    def _read(self, logits: Tensor) -> Tensor:
        if self.contents == "softmax":
            return logits.softmax(dim=1)
        # There are at most 256 classes: uint8 needs one byte per pixel instead of eight.
        return logits.argmax(dim=1).to(torch.uint8) if self.contents == "argmax" else logits


def fed(images: Tensor, options: ExportOptions, pixels: PixelFormat = RGB_PIXELS) -> Tensor:
    """Convert normalised images f32 [N,C,H,W] to the input of the exported graph, in the network's channel order.

    Most pixels were bytes before the normalisation, so rounding restores them.
    """
    if options.input == "normalised":
        return images
    values = (pixels.restored(images) * _BYTE).round().clamp(0, _BYTE)
    if options.input == "uint8":
        return values.to(torch.uint8).permute(0, 2, 3, 1).contiguous()
    return values / _BYTE


def resized(images: Tensor, size: InputSize) -> Tensor:
    """Images f32 [N,C,H,W], resized bilinearly if they have another size."""
    if tuple(images.shape[-2:]) == (size.height, size.width):
        return images
    return functional.interpolate(images, (size.height, size.width), mode="bilinear", align_corners=False)


def example(options: ExportOptions, size: InputSize, pixels: PixelFormat = RGB_PIXELS) -> Tensor:
    """Images for tracing: two of them if the batch is dynamic, as a size of 1 would be traced as a constant."""
    count = 2 if options.dynamic_batch else options.batch
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(count, pixels.channels, size.height, size.width, generator=generator)
    return fed(images, options, pixels)


def examples(
    inputs: Sequence[GraphInput], options: ExportOptions, size: InputSize, pixels: PixelFormat = RGB_PIXELS
) -> tuple[Tensor, ...]:
    """All inputs for tracing, images first."""
    images = example(options, size, pixels)
    return (images, *(entry.example(len(images)) for entry in inputs))


def dynamic(axes: Mapping[int, str], options: ExportOptions) -> dict[int, str]:
    """Those of the named axes that are dynamic with these options: axes of an input's own always are."""
    static = {"batch"} if not options.dynamic_batch else set()
    static |= {"height", "width"} if not options.dynamic_size else set()
    return {axis: name for axis, name in axes.items() if name not in static}


def output_axes(output: GraphOutput, options: ExportOptions) -> dict[int, str]:
    """Names of the dynamic axes of an output by index; classes have no axis of channels."""
    gone = output.logits and options.output == "argmax"
    return {axis - (gone and axis > 1): name for axis, name in dynamic(output.axes, options).items()}


def axes(options: ExportOptions) -> dict[int, str]:
    """Names of the dynamic axes of images by index."""
    names = {0: "batch"} if options.dynamic_batch else {}
    if options.dynamic_size:
        first = 1 if options.input == "uint8" else 2
        names |= {first: "height", first + 1: "width"}
    return names
