"""A contact sheet: pictures of a data set beside the same pictures with their labels in the colours of the classes."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from io import BytesIO
from typing import Any

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from kdtui.engine.data import IGNORE_INDEX, SegmentationDataset
from kdtui.engine.data.images import displayed
from kdtui.engine.data_report import SplitRecords
from kdtui.engine.evaluate import palette
from kdtui.errors import KdtuiError
from kdtui.palette import RGB, class_colours, contrast
from kdtui.text import clean

_MOST = 24
_FOR_CLASSES = 8
"""Further samples, for classes that the others do not show."""
_COLUMNS = 3
_WIDTH, _TALLEST = 240, 320
_GAP, _LINE, _SWATCH = 8, 18, 12
_OPACITY = 0.55
_GROUND, _TEXT, _DIM = (24, 24, 27), (235, 235, 235), (160, 160, 165)
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def contact_sheet(splits: Sequence[SplitRecords]) -> bytes | None:
    """The sheet as PNG; None if no sample is usable.

    Args:
        splits: The splits with the records of their samples, from which the shown ones are chosen: evenly spread, and
            the largest area of each class that these do not show.
    """
    read = [split for split in splits if split.dataset is not None and split.usable]
    if not read:
        return None
    first = read[0].dataset
    assert first is not None
    colours = class_colours(first.own_colours)
    cells = []
    for split in read:
        assert split.dataset is not None
        for index in chosen(split, max(1, _MOST // len(read))):
            cell = _cell(split.dataset, index, colours)
            if cell is not None:
                cells.append(cell)
    if not cells:
        return None
    legend = _legend(read, colours, _COLUMNS * (2 * _WIDTH + 2 * _GAP) + _GAP)
    buffer = BytesIO()
    _assembled(legend, cells).save(buffer, format="PNG", compress_level=3)
    return buffer.getvalue()


def chosen(split: SplitRecords, most: int) -> list[int]:
    """Indices of the shown samples of a split, in order."""
    usable = [index for index, record in enumerate(split.records) if record.error is None]
    count = min(most, len(usable))
    indices = {usable[position * len(usable) // count] for position in range(count)}
    areas = np.stack([split.records[index].counts for index in usable])
    shown = areas[[usable.index(index) for index in indices]].sum(axis=0)
    hidden = np.flatnonzero((areas.sum(axis=0) > 0) & (shown == 0) & (np.arange(256) != IGNORE_INDEX))
    indices |= {usable[int(areas[:, label].argmax())] for label in hidden[:_FOR_CLASSES]}
    return sorted(indices)


def _font(size: int) -> Font:
    return ImageFont.load_default(size)


def _cell(dataset: SegmentationDataset, index: int, colours: Sequence[RGB]) -> Image.Image | None:
    """A picture, the same with labels, and its name; None if it cannot be read any more."""
    try:
        image, labels = dataset.read(index)
    except KdtuiError:
        return None
    height, width = labels.shape
    scale = min(_WIDTH / width, _TALLEST / height)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    picture = cv2.resize(displayed(image), size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_NEAREST)
    small: Any = cv2.resize(labels, size, interpolation=cv2.INTER_NEAREST)
    table = palette(colours)
    mixed = ((1 - _OPACITY) * picture + _OPACITY * table[small]).round().astype(np.uint8)
    labelled = Image.fromarray(mixed)
    for box in dataset.boxes(index):
        ImageDraw.Draw(labelled).rectangle([edge * scale for edge in box], outline=_TEXT)
    cell = Image.new("RGB", (2 * _WIDTH + _GAP, size[1] + _LINE), _GROUND)
    cell.paste(Image.fromarray(picture), ((_WIDTH - size[0]) // 2, 0))
    cell.paste(labelled, (_WIDTH + _GAP + (_WIDTH - size[0]) // 2, 0))
    draw, font = ImageDraw.Draw(cell), _font(12)
    name = _cut(f"{dataset.split}  {clean(dataset.name(index))}  {width}x{height}", cell.width, draw, font)
    draw.text((0, size[1] + 2), name, fill=_DIM, font=font)
    return cell


def _cut(text: str, room: float, draw: ImageDraw.ImageDraw, font: Font) -> str:
    while text and draw.textlength(text, font=font) > room:
        text = text[:-2].rstrip("…") + "…" if len(text) > 2 else ""
    return text


def _legend(splits: Sequence[SplitRecords], colours: Sequence[RGB], width: int) -> Image.Image:
    """The classes with their colours and their shares of the pixels of all splits."""
    dataset = splits[0].dataset
    assert dataset is not None
    counts = np.sum([split.counts for split in splits], axis=0)
    valid = max(1, int(counts.sum() - counts[IGNORE_INDEX]))
    entries = [
        (colour, f"{clean(name)} {counts[label] / valid:.1%}")
        for label, (name, colour) in enumerate(zip(dataset.classes, colours, strict=True))
    ]
    if counts[IGNORE_INDEX]:
        ignored: RGB = tuple(palette(colours)[IGNORE_INDEX].tolist())
        entries.append((ignored, f"ignored {counts[IGNORE_INDEX] / max(1, int(counts.sum())):.1%} of all"))
    draw, font = ImageDraw.Draw(Image.new("RGB", (1, 1))), _font(13)
    lines: list[list[tuple[int, RGB, str]]] = [[]]
    x = _GAP
    for colour, words in entries:
        text = _cut(words, width - 2 * _GAP - _SWATCH - 6, draw, font)
        needed = _SWATCH + 6 + int(draw.textlength(text, font=font)) + 2 * _GAP
        if x + needed > width and lines[-1]:
            lines.append([])
            x = _GAP
        lines[-1].append((x, colour, text))
        x += needed
    legend = Image.new("RGB", (width, len(lines) * (_LINE + 2) + _GAP), _GROUND)
    draw = ImageDraw.Draw(legend)
    for row, entry in itertools.chain.from_iterable(((row, entry) for entry in line) for row, line in enumerate(lines)):
        x, colour, text = entry
        y = _GAP + row * (_LINE + 2)
        edge = _DIM if contrast(colour, _GROUND) < 1.5 else colour
        draw.rectangle((x, y, x + _SWATCH, y + _SWATCH), fill=colour, outline=edge)
        draw.text((x + _SWATCH + 6, y - 2), text, fill=_TEXT, font=font)
    return legend


def _assembled(legend: Image.Image, cells: Sequence[Image.Image]) -> Image.Image:
    """The legend above rows of cells, each row as tall as its tallest cell."""
    rows = [cells[start : start + _COLUMNS] for start in range(0, len(cells), _COLUMNS)]
    heights = [max(cell.height for cell in row) + _GAP for row in rows]
    sheet = Image.new("RGB", (legend.width, legend.height + sum(heights)), _GROUND)
    sheet.paste(legend, (0, 0))
    for row, y in zip(rows, itertools.accumulate([legend.height, *heights]), strict=False):
        for column, cell in enumerate(row):
            sheet.paste(cell, (_GAP + column * (2 * _WIDTH + 2 * _GAP), y))
    return sheet
