"""Facts about one stored sample, as ``kdtui data`` records them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kdtui.engine.data.protocol import Extent, SegmentationDataset
from kdtui.engine.data.similar import perceptual_hash
from kdtui.errors import KdtuiError
from kdtui.store.values import fits

_DIGEST_BYTES = 16
_LONGEST = 2000


@dataclass(frozen=True)
class SampleRecord:
    """What was read of a sample, or why it cannot be used.

    Attributes:
        key: Identifies settings and files, see :func:`sample_keys`.
        name: Its name in the dataset.
        error: ``what``, ``where``, ``found``, ``allowed`` and ``hint`` if it cannot be used; the rest is then empty.
        height: Height of image and labels in pixels.
        width: Their width.
        channels: Number of channels in the image file.
        stored: :class:`kdtui.engine.data.protocol.Extent` of the image.
        seen: Minimum and maximum of the image in 8 bits.
        pixels: Number of pixels by label; 255 is that of ignored ones.
        image: Digest of the image's values and size.
        labels: Digest of the labels.
        looks: Perceptual hash; None for an image without structure.
    """

    key: str
    name: str
    error: Mapping[str, str | None] | None = None
    height: int = 0
    width: int = 0
    channels: int = 0
    stored: tuple[float | bool, ...] = ()
    seen: tuple[int, ...] = (0, 0)
    pixels: Mapping[str, int] | None = None
    image: str = ""
    labels: str = ""
    looks: str | None = None

    @property
    def extent(self) -> Extent:
        """Range of the values in the image file."""
        return Extent(*self.stored)

    @property
    def counts(self) -> NDArray[np.int64]:
        """Number of pixels of each label, i64 [256]."""
        counts = np.zeros(256, dtype=np.int64)
        for label, count in (self.pixels or {}).items():
            counts[int(label)] = count
        return counts

    def to_line(self) -> bytes:
        """A line of JSON; keys with their default are left out."""
        values = {name: value for name, value in asdict(self).items() if value not in (None, 0, "", ())}
        return json.dumps(values, separators=(",", ":")).encode() + b"\n"

    @classmethod
    def of_json(cls, values: Any) -> SampleRecord | None:
        """The record of a parsed line; None if it is not one."""
        if not (isinstance(values, dict) and {"key", "name"} <= values.keys() and fits(cls, values)):
            return None
        whole: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in values.items()}
        record = cls(**whole)
        if record.error is not None:
            return record if isinstance(record.error.get("what"), str) else None
        labelled = record.pixels is not None and all(label.isdecimal() and int(label) < 256 for label in record.pixels)
        sized = len(record.stored) == len(Extent._fields) and len(record.seen) == 2
        return record if labelled and sized and min(record.height, record.width) > 0 else None


def examine(dataset: SegmentationDataset, index: int, key: str) -> SampleRecord:
    """Read sample ``index``; a sample that cannot be used gives a record with its error."""
    name = dataset.name(index)
    try:
        (image, labels), stored, seen, channels = dataset.stored(index)
    except KdtuiError as error:
        parts = ("what", "where", "found", "allowed", "hint")
        facts = {part: getattr(error, part) for part in parts}
        return SampleRecord(key, name, {part: fact and str(fact)[:_LONGEST] for part, fact in facts.items()})
    counts = np.bincount(labels.ravel(), minlength=256)
    looks = perceptual_hash(image)
    return SampleRecord(
        key,
        name,
        height=image.shape[0],
        width=image.shape[1],
        channels=channels,
        stored=tuple(stored),
        seen=seen,
        pixels={str(label): int(counts[label]) for label in np.flatnonzero(counts)},
        image=_digest(image),
        labels=_digest(labels),
        looks=None if looks is None else f"{looks:016x}",
    )


def sample_keys(dataset: SegmentationDataset, settings: str, others: Sequence[Path]) -> list[str]:
    """A key for each sample, which changes when one of its files does.

    Args:
        dataset: The split.
        settings: Text that changes with the settings of the data; where samples have no files of their own
            (:meth:`SegmentationDataset.sample_files`), also with all files of the split.
        others: Further files that determine how samples are read, such as a class list.
    """
    common = _sha(json.dumps([settings, dataset.classes, [stamp(path) for path in others]]))
    keys = []
    for index in range(len(dataset)):
        files = dataset.sample_files(index)
        own: list[Any] = [stamp(path) for path in files] if files else [dataset.split, index]
        keys.append(_sha(json.dumps([common, own]))[:32])
    return keys


def stamp(path: Path) -> tuple[str, int, int]:
    """Path, size and modification time of a file; -1 if it cannot be examined, which reading it reports."""
    try:
        status = path.stat()
    except OSError:
        return str(path), -1, -1
    return str(path), status.st_size, status.st_mtime_ns


def _sha(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def _digest(values: NDArray[Any]) -> str:
    digest = hashlib.blake2b(f"{values.shape} {values.dtype}".encode(), digest_size=_DIGEST_BYTES)
    digest.update(np.ascontiguousarray(values).data)
    return digest.hexdigest()
