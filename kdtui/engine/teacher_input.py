"""Convert the student's images to those that a teacher was trained with: normalisation, channel order, grey, size."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from kdtui.engine.data import PixelFormat

_LUMINANCE = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in grey (ITU-R BT.601), as in Pillow and OpenCV."""
_RGB = 3
_CLOSE = 1e-6


def convertible(channels: int, target_channels: int) -> bool:
    """Whether images with ``channels`` channels can be converted to ``target_channels`` channels."""
    return channels == target_channels or {channels, target_channels} == {1, _RGB}


def default_format(source: PixelFormat, channels: int) -> PixelFormat:
    """The format of a network with ``channels`` input channels that is not known: as close to the source as possible.

    Args:
        source: Format of the data.
        channels: :func:`convertible` from the source.
    """
    if channels == source.channels:
        return source
    if channels == 1:
        return PixelFormat(_grey(source.mean), _grey(source.std))
    return PixelFormat(source.mean * channels, source.std * channels)


class Conversion(nn.Module):
    """Convert normalised images from one format to another, as one multiplication and one addition per channel.

    Rows and columns at the border in which every value is 0 are padding with the mean colour and stay 0, unless the
    target's mean is 0, which is no colour that it was trained with: the padding is then converted like the image.

    Args:
        source: The images' format.
        target: The format to convert to.
    """

    def __init__(self, source: PixelFormat, target: PixelFormat) -> None:
        super().__init__()
        self._keeps_padding = any(target.mean)
        self._grey = target.channels == 1 and source.channels == _RGB
        order = list(range(source.channels))
        if source.channels == 1:
            order = [0] * target.channels
        elif source.bgr != target.bgr and target.channels == _RGB:
            order = order[::-1]
        self._order = None if order == list(range(source.channels)) else order
        mean, std = (torch.tensor([values[place] for place in order]) for values in (source.mean, source.std))
        target_mean, target_std = torch.tensor(target.mean), torch.tensor(target.std)
        if self._grey:
            weights = torch.tensor(_LUMINANCE)
            self._add_constants(std * weights / target_std, ((mean * weights).sum() - target_mean) / target_std)
        else:
            self._add_constants(std / target_std, (mean - target_mean) / target_std)

    def _add_constants(self, scale: Tensor, shift: Tensor) -> None:
        self.scale: Tensor
        self.shift: Tensor
        self.register_buffer("scale", scale.view(1, -1, 1, 1), persistent=False)
        self.register_buffer("shift", shift.view(1, -1, 1, 1), persistent=False)

    @property
    def is_identity(self) -> bool:
        """Whether it leaves images unchanged."""
        same = (self.scale - 1).abs().max() < _CLOSE and self.shift.abs().max() < _CLOSE
        return bool(same) and not self._grey and self._order is None

    def forward(self, images: Tensor) -> Tensor:
        """Images f32 [B,C,H,W] in the target format."""
        ordered = images if self._order is None else images[:, self._order]
        scaled = ordered * self.scale
        converted = (scaled.sum(dim=1, keepdim=True) if self._grey else scaled) + self.shift
        return converted * _inside(images) if self._keeps_padding else converted


def _inside(images: Tensor) -> Tensor:
    """Mask [B,1,H,W] of the images without border rows and columns that are 0."""
    nonzero = (images != 0).any(dim=1)
    rows, columns = nonzero.any(dim=2).to(images.dtype), nonzero.any(dim=1).to(images.dtype)
    return _filled(rows)[:, None, :, None] * _filled(columns)[:, None, None, :]


def _filled(marks: Tensor) -> Tensor:
    """1 from the first to the last 1 of each row of [B,N], otherwise 0."""
    from_left = marks.cumsum(dim=1) > 0
    from_right = marks.flip(1).cumsum(dim=1).flip(1) > 0
    return (from_left & from_right).to(marks.dtype)


def _grey(values: Sequence[float]) -> tuple[float, ...]:
    return (sum(weight * value for weight, value in zip(_LUMINANCE, values, strict=True)),)
