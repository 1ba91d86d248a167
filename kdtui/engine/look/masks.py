"""What the masks of a folder contain: numbers, colours or one foreground, from the values in them."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from kdtui.engine.data.pictures import as_rgb, open_picture, upright
from kdtui.engine.look.class_files import ClassFile, NamedClass
from kdtui.errors import DataError
from kdtui.palette import hexadecimal
from kdtui.profile.class_list import MOST_CLASSES

_MOST_READ = 2000
_MOST_VALUES = 300
_FEW = 64
"""Different values above which a picture is not a mask, unless they are nearly black and nearly white."""
_FLAT = 0.7
"""Share of neighbouring pixels that are equal, above which a picture can be a mask."""
_THREADS = 8
_IGNORED = 255


@dataclass
class MaskValues:
    """Values in masks, summed over files.

    Attributes:
        files: Number of files.
        grey: Pixels of each value in masks with one channel; palette masks count by their index.
        colours: Pixels of each ``#rrggbb`` in masks with three channels.
        palette: Colour of each index, where masks have a palette.
        jpeg: Whether a mask is a JPEG file, which changes values.
        unread: Number of files that could not be read.
    """

    files: int = 0
    grey: Counter[int] = field(default_factory=Counter)
    colours: Counter[str] = field(default_factory=Counter)
    palette: dict[int, str] = field(default_factory=dict)
    jpeg: bool = False
    unread: int = 0

    def add(self, other: MaskValues) -> None:
        """Add the values of other masks."""
        self.files += other.files
        self.grey.update(other.grey)
        self.colours.update(other.colours)
        self.palette.update(other.palette)
        self.jpeg |= other.jpeg
        self.unread += other.unread


def values_of(paths: Sequence[Path]) -> MaskValues:
    """The values in masks; of more than 2000, evenly spread ones are read."""
    total = MaskValues()
    step = max(1, -(-len(paths) // _MOST_READ))
    with ThreadPoolExecutor(min(_THREADS, os.cpu_count() or 1)) as pool:
        for one in pool.map(_read, paths[::step]):
            total.add(one)
    return total


def _read(path: Path) -> MaskValues:
    try:
        picture = upright(open_picture(path, mask=True))
        jpeg = picture.format in ("JPEG", "MPO")
        bands = picture.getbands()
        if len(bands) > 2:
            rgb = np.asarray(as_rgb(picture, path)).astype(np.int64)
            if not (rgb == rgb[..., :1]).all():
                codes, counts = np.unique(rgb[..., 0] << 16 | rgb[..., 1] << 8 | rgb[..., 2], return_counts=True)
                most = np.argsort(-counts)[:_MOST_VALUES]
                colours = Counter({f"#{codes[at]:06x}": int(counts[at]) for at in most})
                return MaskValues(1, colours=colours, jpeg=jpeg)
            values: Any = rgb[..., 0]
        else:
            array = np.asarray(picture)
            values = array[..., 0] if array.ndim == 3 else array
        if values.dtype.kind == "f":
            return MaskValues(1, unread=1)
        numbers, counts = np.unique(values.astype(np.int64), return_counts=True)
        grey = Counter(dict(zip(numbers.tolist(), counts.tolist(), strict=True)))
        if (black_and_white := _black_and_white(picture, grey)) is not None:
            grey = black_and_white
        return MaskValues(1, grey, palette=_palette(picture, grey), jpeg=jpeg)
    except DataError:
        return MaskValues(1, unread=1)


def _palette(picture: Any, grey: Counter[int]) -> dict[int, str]:
    """The colours of the indices that occur; empty for masks without a palette, or with a grey one."""
    entries = picture.getpalette("RGB") if picture.mode == "P" else None
    if not entries:
        return {}
    colours = {
        at: (entries[3 * at], entries[3 * at + 1], entries[3 * at + 2]) for at in grey if 3 * at + 2 < len(entries)
    }
    if all(len({*colour}) == 1 for colour in colours.values()):
        return {}
    return {at: hexadecimal(colour) for at, colour in colours.items()}


def _black_and_white(picture: Any, grey: Counter[int]) -> Counter[int] | None:
    """The values 0 and 255 of a mask whose palette has black and white only, as GIF files have; otherwise None."""
    entries = picture.getpalette("RGB") if picture.mode == "P" else None
    shown = {at: tuple(entries[3 * at : 3 * at + 3]) for at in grey} if entries else {}
    if not shown or not {*shown.values()} <= {(0, 0, 0), (255, 255, 255)}:
        return None
    values: Counter[int] = Counter()
    for at, count in grey.items():
        values[shown[at][0]] += count
    return values


def is_mask(path: Path) -> bool | None:
    """Whether a picture looks like a mask: few values, in areas; None if it cannot be read."""
    try:
        picture = upright(open_picture(path, mask=True))
        if picture.mode in ("P", "1") and picture.format != "GIF":
            return True
        values = np.asarray(as_rgb(picture, path) if len(picture.getbands()) > 2 else picture)
    except DataError:
        return None
    codes = (
        values
        if values.ndim == 2
        else (values[..., :3].astype(np.int64) << np.array([16, 8, 0])[: values.shape[2]]).sum(-1)
    )
    flat = (codes[:, 1:] == codes[:, :-1]).mean() if codes.shape[1] > 1 else 1.0
    different = len(np.unique(codes))
    if different <= _FEW:
        return bool(flat > _FLAT or different <= 2)
    return values.ndim == 2 and bool(
        _two_valued(Counter(dict(zip(*np.unique(values, return_counts=True), strict=True))))
    )


def _two_valued(grey: Counter[int]) -> bool:
    """Whether nearly all values are near black or near white."""
    if not grey or max(grey) > 255 or min(grey) < 0:
        return False
    middle = sum(count for value, count in grey.items() if 32 <= value <= 223)
    both = any(value < 32 for value in grey) and any(value > 223 for value in grey)
    return both and middle <= 0.05 * grey.total()


@dataclass(frozen=True)
class LabelGuess:
    """Keys of ``[data]`` for the labels, with the ground of the guess.

    Attributes:
        keys: ``labels``, ``classes``, ``label_map`` and ``ignore``, as far as they are needed.
        names: The names of the classes.
        named: Whether the names are from a file, so that a user need not enter them.
        ground: What was seen.
        ignored: The entries of a class list that are ignored, with their values or colours; empty for none.
    """

    keys: dict[str, Any]
    names: tuple[str, ...]
    named: bool
    ground: str
    ignored: str = ""


def guess_labels(values: MaskValues, listed: ClassFile | None) -> LabelGuess:
    """What the labels mean.

    Raises:
        DataError: The masks do not hold classes.
    """
    if values.colours and values.colours.total() > values.grey.total():
        return _of_colours(values, listed)
    grey = values.grey
    if not grey:
        raise DataError(
            "no mask can be read",
            found=f"{values.unread} of {values.files} cannot",
            hint="`kdtui data PROFILE` names the files of a profile",
        )
    noise = values.jpeg or any(223 < value < 255 for value in grey)
    void = set() if listed is None else {entry.value for entry in listed.void}
    if ({*grey} <= {0, 255} and not void & {*grey}) or (
        noise and _two_valued(grey) and not (listed and len(listed.classes) > 2)
    ):
        names, named = _binary_names(listed)
        words = "0 and 255" if {*grey} <= {0, 255} else "nearly black and nearly white"
        return LabelGuess({"labels": "binary", "classes": list(names)}, names, named, f"two values, {words}")
    return _of_numbers(values, listed)


def _binary_names(listed: ClassFile | None) -> tuple[tuple[str, ...], bool]:
    if listed is not None and len(listed.classes) == 2:
        return tuple(entry.name for entry in listed.classes), True
    return ("background", "foreground"), False


def _of_numbers(values: MaskValues, listed: ClassFile | None) -> LabelGuess:
    present = sorted(values.grey)
    if len(present) > MOST_CLASSES + 1:
        raise DataError(
            "the masks hold too many different values for classes",
            found=f"{len(present)}, from {present[0]} to {present[-1]}",
            allowed=f"at most {MOST_CLASSES} classes",
            hint="save masks as PNG: JPEG changes the values" if values.jpeg else None,
        )
    ground = f"numbers {_ranges(present)}"
    if listed is not None and listed.own_format:
        return LabelGuess({}, tuple(entry.name for entry in listed.classes), True, f"{ground}; {listed.path.name}")
    ignored = [value for value in present if value == _IGNORED and value - 1 not in present] if len(present) > 2 else []
    if listed is not None and listed.ignored in present:
        ignored = [listed.ignored]
    void = () if listed is None else listed.void
    ignored += [entry.value for entry in void if entry.value is not None and entry.value not in ignored]
    used = [value for value in present if value not in ignored]
    by_value = {} if listed is None else _by_value(listed.classes)
    if not used:
        raise DataError("the masks hold no class", found=f"only ignored values: {_ranges(present)}")
    if used[0] < 0:
        raise DataError("the masks hold negative values", found=_ranges(present), allowed="numbers from 0 up")
    named = listed is not None and all(value in by_value for value in used)
    # A list may have classes that no mask of this folder shows.
    numbers = sorted({*by_value, *used}) if named else list(range(max(used) + 1)) if _dense(used) else used
    entries = [by_value.get(value, f"class {value}") + _colour_of(value, values, listed) for value in numbers]
    keys: dict[str, Any] = {"classes": entries}
    if numbers != list(range(len(numbers))):
        keys["label_map"] = {str(value): by_value.get(value, f"class {value}") for value in numbers}
    if ignored:
        keys["ignore"] = ignored
        ground += "".join(f"; {value} is ignored" for value in ignored if value not in {entry.value for entry in void})
    names = tuple(by_value.get(value, f"class {value}") for value in numbers)
    ground += f"; names from {listed.path.name}" if named and listed else ""
    return LabelGuess(keys, names, named, ground, ", ".join(f"{entry.name} ({entry.value})" for entry in void))


def _dense(used: Sequence[int]) -> bool:
    """Whether values are mostly those of classes numbered from 0, of which some do not occur."""
    return used[-1] < 2 * len(used) + 1


def _by_value(classes: Sequence[NamedClass]) -> dict[int, str]:
    return {number if entry.value is None else entry.value: entry.name for number, entry in enumerate(classes)}


def _colour_of(value: int, values: MaskValues, listed: ClassFile | None) -> str:
    colours = {} if listed is None else {
        number if entry.value is None else entry.value: entry.colour for number, entry in enumerate(listed.classes)
    }  # fmt: skip
    colour = colours.get(value) or values.palette.get(value, "")
    return f" {colour}" if colour else ""


def _of_colours(values: MaskValues, listed: ClassFile | None) -> LabelGuess:
    known = [] if listed is None else [entry for entry in listed.classes if entry.colour]
    present = [colour for colour, _ in values.colours.most_common()]
    if known and len(known) == len(listed.classes if listed else ()):
        assert listed is not None
        keys: dict[str, Any] = {"labels": "colour"}
        void = [entry for entry in listed.void if entry.colour]
        listed_colours = {entry.colour for entry in (*known, *void)}
        others = [colour for colour in present if colour not in listed_colours]
        if not listed.own_format:
            keys["classes"] = [f"{entry.name} {entry.colour}" for entry in known]
            if ignored := [entry.colour for entry in void] + ([] if values.jpeg else others[:_FEW]):
                keys["ignore"] = ignored
        ground = f"{len(present)} colours; names and colours from {listed.path.name}"
        if others and keys.get("ignore"):
            ground += f"; {len(others)} others are ignored"
        shown = ", ".join(f"{entry.name} ({entry.colour})" for entry in void)
        return LabelGuess(keys, tuple(entry.name for entry in known), True, ground, shown)
    if len(present) > _FEW or values.jpeg:
        raise DataError(
            "the masks hold many colours, and no file lists the colours of the classes",
            found=f"{len(present)} colours or more",
            allowed=f"up to {_FEW} colours, or a file such as class_dict.csv with lines NAME,R,G,B",
            hint="save masks as PNG: JPEG changes the values" if values.jpeg else None,
        )
    order = sorted(present, key=lambda colour: (colour != "#000000", present.index(colour)))
    names = tuple(f"class {number}" for number in range(len(order)))
    if listed is not None and len(listed.classes) == len(order):
        names = tuple(entry.name for entry in listed.classes)
    keys = {"labels": "colour", "classes": [f"{name} {colour}" for name, colour in zip(names, order, strict=True)]}
    return LabelGuess(keys, names, False, f"{len(present)} colours")


def _ranges(numbers: Sequence[int]) -> str:
    """Numbers in short, such as ``0 to 11, 255``."""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and number == parts[-1][1] + 1:
            parts[-1][1] = number
        else:
            parts.append([number, number])
    texts = [str(low) if low == high else f"{low}{' to ' if high > low + 1 else ', '}{high}" for low, high in parts]
    return ", ".join(texts[:8]) + (f" and {len(texts) - 8} more" if len(texts) > 8 else "")
