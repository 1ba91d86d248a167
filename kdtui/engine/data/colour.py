"""Colours of a view: brightness, contrast and saturation as one table or one matrix, blur, JPEG and noise."""

from __future__ import annotations

from statistics import NormalDist
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from kdtui.engine.data.pixel_format import PixelFormat
from kdtui.engine.data.source import Values
from kdtui.engine.data.warp import by_channels


class Line(NamedTuple):
    """What brightness and contrast make of a value: ``value * factor + offset``."""

    factor: float
    offset: float


SAME = Line(1.0, 0.0)
_STEPS = np.arange(256, dtype=np.float64)
_LUMA = np.array([0.299, 0.587, 0.114])  # of red, green and blue (ITU-R BT.601)
_QUANTILES = np.array([NormalDist().inv_cdf((step + 0.5) / 256) for step in range(256)])
_JPEG_CHANNELS = (1, 3)


def grey_of(image: Values) -> float:
    """Mean grey of an image [h,w,C]."""
    channels = image.shape[2]
    means = image.reshape(-1, channels).mean(axis=0) if channels > 4 else np.array(cv2.mean(image)[:channels])
    return float(means @ _LUMA) if channels == 3 else float(means.mean())


def line_of(image: Values, *, brightness: float, contrast: float) -> Line:
    """Brightness and contrast as one line.

    Args:
        image: [h,w,C].
        brightness: Factor of all values.
        contrast: Factor of the difference to the mean grey of the image.
    """
    return Line(brightness * contrast, (1 - contrast) * brightness * grey_of(image))


def saturated(image: Values, line: Line, saturation: float) -> Values:
    """The image with other colours, clipped to 0..255.

    Args:
        image: [h,w,C].
        line: Applied to all values.
        saturation: Factor of the difference to the grey of each pixel; only for three channels.
    """
    if image.shape[2] == 3:
        mixed = line.factor * (saturation * np.eye(3) + (1 - saturation) * _LUMA)
        changed = cv2.transform(image, np.column_stack([mixed, np.full(3, line.offset)]))
        return changed if image.dtype == np.uint8 else changed.clip(0, 255)  # type: ignore[return-value]
    if image.dtype == np.uint8:
        table = np.rint(_STEPS * line.factor + line.offset).clip(0, 255).astype(np.uint8)
        return cv2.LUT(np.ascontiguousarray(image), table).reshape(image.shape)  # type: ignore[return-value]
    return (image * np.float32(line.factor) + np.float32(line.offset)).clip(0, 255)


def normalised(image: Values, pixels: PixelFormat, line: Line = SAME) -> NDArray[np.float32]:
    """Planes f32 [C,h,w] as the network takes them, after ``line`` and clipping to 0..255.

    Args:
        image: [h,w,C] on the scale 0 to 255, in the channel order of the file.
        pixels: Channel order and normalisation.
        line: Brightness and contrast.
    """
    scale, shift = pixels.line
    planes = np.empty((image.shape[2], *image.shape[:2]), np.float32)
    if image.dtype == np.uint8:
        steps = np.minimum(np.maximum(_STEPS * line.factor + line.offset, 0), 255)
        tables = (scale * steps + shift).astype(np.float32)
        channels = cv2.split(image)
        for plane, table, place in zip(planes, tables, pixels.order, strict=True):
            cv2.LUT(channels[place], table, plane)
    else:
        values = (image * np.float32(line.factor) + np.float32(line.offset)).clip(0, 255)
        planes[:] = values[..., pixels.order].transpose(2, 0, 1) * scale[..., None] + shift[..., None]
    return planes


def blurred(image: Values, sigma: float) -> Values:
    """The image after a Gaussian filter of 3x3 pixels.

    Args:
        image: [h,w,C].
        sigma: Standard deviation in pixels.
    """
    return by_channels(image, lambda values, _: cv2.GaussianBlur(values, (3, 3), sigma))


def compressed(image: Values, quality: int) -> Values:
    """The image after JPEG of this quality (1 to 100); unchanged if JPEG cannot hold it (other channels, fractions)."""
    if image.dtype != np.uint8 or image.shape[2] not in _JPEG_CHANNELS:
        return image
    colour = image.shape[2] == 3
    swapped = cv2.cvtColor(image, cv2.COLOR_RGB2BGR) if colour else image
    _, data = cv2.imencode(".jpg", swapped, [cv2.IMWRITE_JPEG_QUALITY, quality])
    decoded = cv2.imdecode(data, cv2.IMREAD_COLOR if colour else cv2.IMREAD_GRAYSCALE)
    return cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB) if colour else decoded.reshape(image.shape)  # type: ignore


def noisy(image: Values, deviation: float, rng: np.random.Generator) -> Values:
    """The image with Gaussian noise, clipped to 0..255.

    Args:
        image: [h,w,C].
        deviation: Standard deviation of the noise on the scale 0 to 255.
        rng: Source of the noise.
    """
    # 256 quantiles of the normal distribution: a random byte selects one, which takes a tenth of the time of normals.
    steps = np.frombuffer(rng.bytes(image.size), np.uint8).reshape(image.shape[0], -1)
    flat = image.reshape(image.shape[0], -1)
    if image.dtype == np.uint8:
        table = np.rint(_QUANTILES * deviation).astype(np.int16)
        return cv2.add(flat, cv2.LUT(steps, table), dtype=cv2.CV_8U).reshape(image.shape)  # type: ignore[return-value]
    return (image + (_QUANTILES * deviation).astype(np.float32)[steps].reshape(image.shape)).clip(0, 255)
