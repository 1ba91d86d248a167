"""What the records of all samples say: facts of each split, duplicates, and findings."""

from __future__ import annotations

import itertools
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from kdtui.engine.data import SegmentationDataset, Survey
from kdtui.engine.data.examine import SampleRecord
from kdtui.engine.data.protocol import named
from kdtui.engine.data.similar import near_pairs
from kdtui.engine.data.source import IGNORE_INDEX
from kdtui.engine.data.survey import Tally
from kdtui.engine.sanity import class_warnings, split_warnings
from kdtui.errors import KdtuiError
from kdtui.events import Warned
from kdtui.profile import DataTable
from kdtui.store.data_checks import NEEDED
from kdtui.text import counted

_MOST_NAMES = 1000
"""Names of samples in one finding."""
_SHORT = 20
_OTHER_AREA = 4.0
"""An image whose number of pixels differs from the median by more than this factor is an outlier."""
_OTHER_ASPECT = 2.0
_FEW = 0.1
"""Largest share of outliers: with more, the sizes of a data set are simply different."""


@dataclass(frozen=True)
class Finding:
    """Something about the data that a user should know.

    Attributes:
        level: ``error`` makes a training impossible.
        code: Stable identifier of the kind of finding.
        split: The split, or empty for the whole data set.
        message: What it is, with numbers.
        hint: A suggested remedy.
        count: Number of samples.
        names: The first thousand of them.
    """

    level: Literal["error", "warning"]
    code: str
    split: str
    message: str
    hint: str | None = None
    count: int = 0
    names: tuple[str, ...] = ()

    @classmethod
    def of(cls, warning: Warned, split: str = "") -> Finding:
        """A warning of :mod:`kdtui.engine.sanity`."""
        return cls("warning", warning.code, split, warning.message, warning.hint)


@dataclass
class SplitRecords:
    """One split and the records of its samples, in their order.

    Attributes:
        error: Why the split cannot be read at all.
    """

    name: str
    dataset: SegmentationDataset | None = None
    records: list[SampleRecord] = field(default_factory=list)
    error: KdtuiError | None = None

    @property
    def usable(self) -> list[SampleRecord]:
        """The records without an error."""
        return [record for record in self.records if record.error is None]

    @property
    def counts(self) -> NDArray[np.int64]:
        """Number of pixels of each label in all usable samples, i64 [256]."""
        return sum((record.counts for record in self.usable), np.zeros(256, dtype=np.int64))

    def survey(self) -> Survey | None:
        """The survey of all usable samples; None without one."""
        tally = Tally()
        for record in self.usable:
            low, high = record.seen
            tally.add(record.name, record.extent, (low, high), record.counts)
        assert self.dataset is not None
        return tally.survey(self.name, tally.checked, self.dataset.classes) if tally.checked else None


def findings_of(splits: Sequence[SplitRecords], data: DataTable, alike: Alike) -> list[Finding]:
    """All findings, errors first."""
    findings: list[Finding] = []
    surveys: dict[str, Survey] = {}
    for split in splits:
        findings += _unusable(split)
        if split.dataset is None:
            continue
        findings += [Finding.of(Warned(*note), split.name) for note in split.dataset.notes()]
        survey = split.survey()
        if survey is None:
            continue
        surveys[split.name] = survey
        findings += [Finding.of(warning, split.name) for warning in split_warnings(survey, data)]
        findings += _outliers(split)
    if {"train", "val"} <= surveys.keys():
        findings += [Finding.of(warning) for warning in class_warnings(surveys["train"], surveys["val"], data)]
    findings += alike.findings("group" in type(data).model_fields)
    distinct = {(finding.level, finding.code, finding.message): finding for finding in findings}
    return sorted(distinct.values(), key=lambda finding: finding.level)


def _unusable(split: SplitRecords) -> Iterator[Finding]:
    """Findings for a split that cannot be read, and for samples that cannot be used, grouped by their mistake."""
    level: Literal["error", "warning"] = "error" if split.name in NEEDED else "warning"
    if split.error is not None:
        error = split.error
        yield Finding(level, "split-not-read", split.name, f"{split.name} split: {error.message}", error.hint)
    groups: dict[str, list[SampleRecord]] = defaultdict(list)
    for record in split.records:
        if record.error is not None:
            groups[str(record.error["what"])].append(record)
    for what, records in groups.items():
        names = tuple(_with_found(record) for record in records)
        error_of_first = records[0].error or {}
        facts = "".join(
            f"\n  {part}: {error_of_first[part]}" for part in ("where", "found", "allowed") if error_of_first.get(part)
        )
        of = f"{len(records)} of {counted(len(split.records), f'{split.name} sample')}"
        message = f"{what} ({of}): {named(names)}{facts}"
        hint = error_of_first.get("hint")
        yield Finding(level, "unusable-samples", split.name, message, hint, len(records), names[:_MOST_NAMES])


def _with_found(record: SampleRecord) -> str:
    """The name of a sample that cannot be used, with what was found in it if that is short."""
    found = (record.error or {}).get("found")
    return record.name if found is None or len(found) > _SHORT else f"{record.name} ({found})"


def _outliers(split: SplitRecords) -> Iterator[Finding]:
    """A finding for images of very different size or shape, where these are few."""
    records = split.usable
    area = statistics.median(record.height * record.width for record in records)
    aspect = statistics.median(record.width / record.height for record in records)

    def far(record: SampleRecord) -> bool:
        areas = record.height * record.width / area
        aspects = record.width / record.height / aspect
        return max(areas, 1 / areas) > _OTHER_AREA or max(aspects, 1 / aspects) > _OTHER_ASPECT

    outliers = [f"{record.name} ({record.width}x{record.height})" for record in records if far(record)]
    if outliers and len(outliers) <= _FEW * len(records):
        sizes = Counter((record.width, record.height) for record in records)
        (width, height), _ = sizes.most_common(1)[0]
        yield Finding(
            "warning",
            "size-outliers",
            split.name,
            f"{counted(len(outliers), f'{split.name} image')} of very different size or shape "
            f"(most common {width}x{height}): {named(outliers)}",
            None,
            len(outliers),
            tuple(outliers[:_MOST_NAMES]),
        )


def facts_of(split: SplitRecords) -> dict[str, Any]:
    """The JSON object of a split."""
    facts: dict[str, Any] = {
        "samples": len(split.records),
        "usable": len(split.usable),
        "error": None if split.error is None else split.error.message,
    }
    records = split.usable
    if split.dataset is None or not records:
        return facts
    sizes = Counter((record.width, record.height) for record in records)
    by_area = sorted(sizes.elements(), key=lambda size: (size[0] * size[1], size))
    counts = split.counts
    images = sum(((record.counts > 0).astype(np.int64) for record in records), np.zeros(256, dtype=np.int64))
    total, valid = int(counts.sum()), int(counts.sum() - counts[IGNORE_INDEX])
    classes = split.dataset.classes
    return facts | {
        "sizes": {
            "min": list(by_area[0]),
            "median": list(by_area[len(by_area) // 2]),
            "max": list(by_area[-1]),
            "different": len(sizes),
        },
        "channels": _counts(record.channels for record in records),
        "bits": _counts(16 if record.extent.full > 255 else 8 for record in records),
        "values": [min(record.extent.low for record in records), max(record.extent.high for record in records)],
        "labels": [
            {
                "class": name,
                "pixels": int(counts[label]),
                "share": int(counts[label]) / max(1, valid),
                "images": int(images[label]),
            }
            for label, name in enumerate(classes)
        ],
        "ignored": {"pixels": int(counts[IGNORE_INDEX]), "share": int(counts[IGNORE_INDEX]) / max(1, total)},
        "absent": [name for label, name in enumerate(classes) if not counts[label]],
    }


def _counts(values: Iterator[int]) -> dict[str, int]:
    return {str(value): count for value, count in sorted(Counter(values).items())}


@dataclass(frozen=True)
class _Picture:
    """All samples with the same image."""

    samples: tuple[tuple[str, str], ...]  # split and name
    labels: int

    @property
    def splits(self) -> set[str]:
        return {split for split, _ in self.samples}


class Alike:
    """Images that occur more than once, exactly or nearly, within and across splits.

    Args:
        splits: All splits that were read.
    """

    def __init__(self, splits: Sequence[SplitRecords]) -> None:
        groups: dict[str, list[tuple[str, SampleRecord]]] = defaultdict(list)
        for split in splits:
            for record in split.usable:
                groups[record.image].append((split.name, record))
        self._names = [split.name for split in splits]
        self._pictures = [
            _Picture(
                tuple((split, record.name) for split, record in group), len({record.labels for _, record in group})
            )
            for group in groups.values()
        ]
        hashed = [(at, group[0][1].looks) for at, group in enumerate(groups.values())]
        known = [(at, int(looks, 16)) for at, looks in hashed if looks is not None]
        self._near = [(known[one][0], known[other][0]) for one, other in near_pairs([looks for _, looks in known])]

    def to_json(self) -> dict[str, Any]:
        """The first thousand groups and pairs, and how many there are."""
        exact = [picture.samples for picture in self._pictures if len(picture.samples) > 1]
        near = [(self._pictures[one].samples[0], self._pictures[other].samples[0]) for one, other in self._near]
        return {
            "exact": {"count": len(exact), "groups": exact[:_MOST_NAMES]},
            "near": {"count": len(near), "pairs": near[:_MOST_NAMES]},
        }

    def findings(self, groups: bool) -> Iterator[Finding]:
        """Findings.

        Args:
            groups: Whether the data have the keys ``holdout`` and ``group``.
        """
        for first, second in itertools.combinations(self._names, 2):
            yield from self._across(first, second, groups)
        for split in self._names:
            yield from self._within(split)
        different = [picture for picture in self._pictures if picture.labels > 1]
        if different:
            names = tuple(" and ".join(name for _, name in picture.samples[:3]) for picture in different)
            yield Finding(
                "warning",
                "same-image-different-labels",
                "",
                f"{counted(len(different), 'image')} with several different label maps: {named(names)}",
                "keep the correct one of them",
                len(different),
                names[:_MOST_NAMES],
            )

    def _across(self, first: str, second: str, groups: bool) -> Iterator[Finding]:
        same = _counterparts(((picture, picture) for picture in self._pictures), first, second)
        both = [(self._pictures[one], self._pictures[other]) for one, other in self._near]
        near = _counterparts([*both, *((other, one) for one, other in both)], first, second)
        similar = {name: other for name, other in near.items() if name not in same}
        for code, pairs, words in (
            ("duplicates-across-splits", same, "also"),
            ("near-duplicates-across-splits", similar, "nearly equal to one"),
        ):
            if pairs:
                names = tuple(name if name == other else f"{name} = {other}" for name, other in pairs.items())
                yield Finding(
                    "warning",
                    code,
                    second,
                    f"{counted(len(pairs), f'{second} image')} {words} in {first}: {named(names)}",
                    "scores on them do not hold for new images: separate the splits"
                    + ("; data.holdout with data.group keeps images of one film together" if groups else ""),
                    len(pairs),
                    names[:_MOST_NAMES],
                )

    def _within(self, split: str) -> Iterator[Finding]:
        repeated = []
        for picture in self._pictures:
            own = [name for where, name in picture.samples if where == split]
            if len(own) > 1:
                repeated.append(" = ".join(own[:3]))
        if repeated:
            yield Finding(
                "warning",
                "duplicates-within-split",
                split,
                f"{counted(len(repeated), 'image')} more than once in {split}: {named(repeated)}",
                "each counts several times in training and scores",
                len(repeated),
                tuple(repeated[:_MOST_NAMES]),
            )

    def near_within(self, split: str) -> int:
        """How many images of a split nearly equal another one of it."""
        positions = {at for pair in self._near if all(split in self._pictures[at].splits for at in pair) for at in pair}
        return len(positions)


def _counterparts(pairs: Iterable[tuple[_Picture, _Picture]], first: str, second: str) -> dict[str, str]:
    """Samples of the split ``second`` by name, each with one of ``first`` that is its partner in a pair."""
    partners = {}
    for one, other in pairs:
        partner = next((name for split, name in one.samples if split == first), None)
        if partner is not None:
            partners.update({name: partner for split, name in other.samples if split == second})
    return partners


def to_json(findings: Sequence[Finding]) -> list[Mapping[str, Any]]:
    """The findings as JSON objects."""
    return [asdict(finding) | {"names": list(finding.names)} for finding in findings]
