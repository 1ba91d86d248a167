"""Turn the masks of a folder into class labels: by numbers, by colours, or by a threshold."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from kdtui.engine.data.pictures import as_labels, as_rgb, open_picture, upright
from kdtui.engine.data.protocol import named
from kdtui.engine.data.source import IGNORE_INDEX, Pixels
from kdtui.errors import DataError
from kdtui.palette import hexadecimal, parse
from kdtui.profile import FolderData
from kdtui.profile.class_list import Classes

_SHOWN = 5
_TABLE = 2**16
"""Values below are looked up in a table."""
JPEG_NOISE = 48
"""Largest difference in a channel that JPEG is expected to make; class colours must differ by twice as much."""
_JPEG = ("JPEG", "MPO")


class LabelReader:
    """Reads masks as labels 0, 1, ... and IGNORE_INDEX.

    Args:
        data: Determines what masks contain.
        classes: The classes; ``label_map`` refers to their names.

    Raises:
        DataError: The classes do not determine a value, or a colour, for each of them.
    """

    def __init__(self, data: FolderData, classes: Classes) -> None:
        self._kind = data.labels
        self._threshold = data.threshold
        self._classes = classes
        self._mapped = data.mapped_values()
        self._inline = data.listed_classes() is not None
        values = self._values(data)
        self._known = np.array(sorted(values), dtype=np.int64)
        self._labels = np.array([values[value] for value in sorted(values)], dtype=np.uint8)
        # -1: no class has this value.
        self._table = np.full(_TABLE, -1, dtype=np.int16)
        low = (self._known >= 0) & (self._known < _TABLE)
        self._table[self._known[low]] = self._labels[low]

    def __call__(self, path: Path) -> Pixels:
        """Labels uint8 [h,w] of a mask.

        Raises:
            DataError: It cannot be read, or has values that are no class.
        """
        picture = upright(open_picture(path, mask=True))
        if self._kind == "binary":
            return (_grey(picture, path) > self._threshold).astype(np.uint8)
        if self._kind == "colour":
            return self._of_colours(picture, path)
        return self._of_numbers(picture, path)

    def _values(self, data: FolderData) -> dict[int, int]:
        """The label of each value; colours as numbers of 24 bits."""
        if self._kind == "binary":
            return {}
        classes = self._classes
        own: dict[str, tuple[int | str, ...]]
        if self._mapped is not None:
            own = self._mapped
            self._check_names(own)
        elif self._kind == "colour":
            without = [name for name, colour in zip(classes.names, classes.colours, strict=True) if not colour]
            if without:
                raise DataError(
                    f"{len(without)} of {len(classes.names)} classes have no colour, but data.labels is 'colour'",
                    where="data.classes" if self._inline else data.class_list,
                    found=named(without, shown=_SHOWN),
                    allowed="NAME #RRGGBB for each class",
                )
            own = {name: (colour,) for name, colour in zip(classes.names, classes.colours, strict=True)}
        else:
            own = {name: (value,) for name, value in zip(classes.names, classes.values, strict=True)}
        labels = {_number(value): classes.names.index(name) for name, values in own.items() for value in values}
        if self._mapped is None and len(labels) < len(own):
            raise DataError(
                "two classes have one colour",
                where="data.classes" if self._inline else data.class_list,
                found=named(sorted(classes.colours), shown=_SHOWN),
                allowed="different colours, or data.label_map",
            )
        ignored: list[int | str] = list(data.ignore)
        if self._mapped is None:
            void = classes.ignored_colour if self._kind == "colour" else classes.ignored
            ignored += [] if void in (None, "") else [void]
        return labels | {_number(value): IGNORE_INDEX for value in ignored}

    def _check_names(self, mapped: dict[str, tuple[int | str, ...]]) -> None:
        names = self._classes.names
        unknown, without = sorted({*mapped} - {*names}), [name for name in names if name not in mapped]
        if unknown or without:
            raise DataError(
                "data.label_map has classes that do not exist" if unknown else "data.label_map leaves classes out",
                where="data.label_map",
                found=named(unknown or without, shown=_SHOWN),
                allowed=named(names, shown=10),
            )

    def _of_numbers(self, picture: Image.Image, path: Path) -> Pixels:
        try:
            values = as_labels(picture, path)
        except DataError as error:
            if len(self._classes.colours) and all(self._classes.colours) and "colours" in error.what:
                error.hint = "--set data.labels=colour reads the colours of the class list"
            raise
        labels, unknown = self._looked_up(values)
        if unknown is None:
            return labels
        present = np.unique(values)
        strange = present[~np.isin(present, self._known)]
        mapped = self._mapped is not None
        raise DataError(
            "a mask holds values that data.label_map leaves out" if mapped else "a mask holds values that are no class",
            where=path,
            found=named(strange.tolist(), shown=_SHOWN),
            allowed=self._allowed(),
            hint="add them to data.label_map, or to data.ignore"
            if mapped
            else self._hint(present, strange, lossy=picture.format in _JPEG),
        )

    def _hint(self, present: NDArray[np.integer], strange: NDArray[np.integer], *, lossy: bool) -> str:
        """Hint for values that are not a class."""
        classes = self._classes
        if lossy:
            return "save masks as PNG: JPEG changes the values"
        if len(classes.names) == 2 and len(present) <= 2 and classes.ignored not in present:
            # Two values for two classes: ignoring one of them would leave a single class.
            values = sorted({*present.tolist(), *classes.values[: 2 - len(present)]})
            lines = ", ".join(f"'{value} {name}'" for value, name in zip(values, classes.names, strict=True))
            return f"if these are the two classes: --set data.labels=binary, or write {lines} in classes.txt"
        if self._inline:
            return f"--set data.ignore={strange[:_SHOWN].tolist()}, or give them classes in data.label_map"
        if strange.tolist() == [IGNORE_INDEX] and classes.ignored is None:
            return f"if pixels of {IGNORE_INDEX} do not count, add 'ignore_index {IGNORE_INDEX} void' to classes.txt"
        if classes.ignored is not None:
            return "correct the masks, or name these values in classes.txt"
        return "name them in classes.txt, or add 'ignore_index N NAME'"

    def _looked_up(self, values: NDArray[np.integer]) -> tuple[Pixels, NDArray[np.bool_] | None]:
        """Labels, and where the values are none (None if nowhere)."""
        if values.dtype.itemsize <= 2 and values.dtype.kind == "u":
            found = self._table[values]
            unknown = found < 0
            labels = found.astype(np.uint8)
        else:
            position = np.searchsorted(self._known, values).clip(max=len(self._known) - 1)
            unknown = self._known[position] != values
            labels = self._labels[position]
        return labels, unknown if unknown.any() else None

    def _of_colours(self, picture: Image.Image, path: Path) -> Pixels:
        colours = np.asarray(as_rgb(picture, path)).astype(np.int64)
        if picture.format in _JPEG:
            return self._of_nearest(colours, path)
        codes = (colours[..., 0] << 16) | (colours[..., 1] << 8) | colours[..., 2]
        labels, unknown = self._looked_up(codes)
        if unknown is None:
            return labels
        strange, counts = np.unique(codes[unknown], return_counts=True)
        order = np.argsort(-counts)
        listed = [f"{_colour(int(strange[at]))} ({counts[at]:,} pixels)" for at in order[:_SHOWN]]
        raise DataError(
            "a mask holds colours that are no class" if self._mapped is None else "data.label_map leaves colours out",
            where=path,
            found=named(listed, len(strange), shown=_SHOWN),
            allowed=self._allowed(),
            hint="correct the mask, or add the colours to data.ignore",
        )

    def _of_nearest(self, colours: NDArray[np.int64], path: Path) -> Pixels:
        """Labels by the nearest colour, for masks whose colours JPEG changed."""
        known = np.array([parse(_colour(int(value))) for value in self._known])
        for (first, one), (second, other) in itertools.combinations(enumerate(known), 2):
            distance = int(np.abs(one - other).max())
            if distance < 2 * JPEG_NOISE and self._labels[first] != self._labels[second]:
                raise DataError(
                    "a mask is a JPEG file, and two colours of the classes differ by less than its noise",
                    where=path,
                    found=f"{hexadecimal(tuple(one))} and {hexadecimal(tuple(other))} differ by {distance}",
                    allowed=f"colours that differ by {2 * JPEG_NOISE} in a channel, or masks in PNG",
                    hint="save masks as PNG: JPEG changes the values",
                )
        best = np.zeros(colours.shape[:2], dtype=np.int64)
        least = np.full(colours.shape[:2], np.iinfo(np.int64).max)
        for index, colour in enumerate(known):
            distances = ((colours - colour) ** 2).sum(axis=-1)
            nearer = distances < least
            best[nearer], least[nearer] = index, distances[nearer]
        return self._labels[best]

    def _allowed(self) -> str:
        values: dict[int, list[str]] = {}
        for value, label in zip(self._known.tolist(), self._labels.tolist(), strict=True):
            values.setdefault(label, []).append(_colour(value) if self._kind == "colour" else str(value))
        labels = sorted(values, key=lambda label: (label == IGNORE_INDEX, label))
        shown = [
            f"ignored {', '.join(values[label][:8])}"
            if label == IGNORE_INDEX
            else f"{', '.join(values[label][:8])} {self._classes.names[label]}"
            for label in labels
        ]
        return ", ".join(shown)


def _number(value: int | str) -> int:
    return int(value[1:], 16) if isinstance(value, str) else value


def _colour(number: int) -> str:
    return f"#{number:06x}"


def _grey(picture: Image.Image, path: Path) -> NDArray[np.integer]:
    """Grey values of a mask; its alpha channel, if only that varies."""
    if picture.mode in ("RGBA", "LA", "PA"):
        bands = np.asarray(picture.convert("RGBA"))
        if (bands[..., :3] == bands[:1, :1, :3]).all() and (bands[..., 3] != bands[0, 0, 3]).any():
            return np.ascontiguousarray(bands[..., 3])
    if picture.mode.startswith("I;16") or picture.mode == "I":
        return np.asarray(picture)
    return np.asarray(as_rgb(picture, path).convert("L"))
