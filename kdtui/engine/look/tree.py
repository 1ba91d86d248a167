"""The picture files below a folder, grouped by the folders that play one role, and the pairs of such groups."""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from kdtui.profile.patterns import MASK_ENDINGS, SPLITS

_WORDS: Mapping[str, tuple[str, ...]] = {
    "train": ("training", "train"),
    "val": ("validation", "valid", "val", "dev"),
    "test": ("testing", "test"),
}
_AFTER_SPLIT = re.compile(r"[_\-. ].+|\d+|annot\w*|masks?|labels?|images?|imgs?|gt|seg\w*", re.IGNORECASE)
MASK_WORDS = re.compile(
    r"mask|label|annot|(?<![a-z])(ann|gt|gts|seg|segs)(?![a-z])|segment|gtfine|truth", re.IGNORECASE
)
IMAGE_WORDS = re.compile(r"image|(?<![a-z])(img|imgs|rgb|photos?|frames?|input)(?![a-z])|jpeg|leftimg", re.IGNORECASE)
_BAD_WORDS = re.compile(r"instance|object|colou?r|edge|depth|disparity|overlay|preview|thumb", re.IGNORECASE)
_GOOD_WORDS = re.compile(r"label_?ids|label|mask|class", re.IGNORECASE)
_CUT = re.compile(r"[_\-. ]")
_MOST_FILES = 200_000
_DEEPEST = 8
_MOST_GROUPS = 40
_SAMPLED = 40
_COVERED = 0.6
"""Smallest share of images whose masks an affix must give."""
_MOST_WILDCARDS = 2


class File(NamedTuple):
    """A picture: the names of folders that stand for ``*``, its name and its path."""

    wildcards: tuple[str, ...]
    stem: str
    path: Path


@dataclass
class Group:
    """Pictures of one role.

    Attributes:
        template: Their folder below the root, with ``{split}`` and ``*``.
        files: By the text for ``{split}`` of each split; an empty split if the template has none.
    """

    template: str
    files: dict[tuple[str, str], list[File]] = field(default_factory=lambda: defaultdict(list))

    @property
    def endings(self) -> set[str]:
        """Endings of the files."""
        return {file.path.suffix.lower() for files in self.files.values() for file in files}

    @property
    def texts(self) -> dict[str, str]:
        """The text for ``{split}`` of each split that it has."""
        return {split: text for split, text in self.files if split}

    def of(self, split: str) -> list[File]:
        """The files of a split; those of all splits for a group without them."""
        return next((files for (name, _), files in self.files.items() if name in (split, "")), [])

    @property
    def first(self) -> list[File]:
        """The files of the training split, or of whichever there is."""
        return self.of("train") or next(iter(self.files.values()), [])


class Relation(NamedTuple):
    """How images and masks of two groups are named: prefix and suffix of each around what they have in common."""

    images: Group
    masks: Group
    image_affixes: tuple[str, str]
    mask_affixes: tuple[str, str]
    share: float

    def pattern(self, *, mask: bool) -> str:
        """The pattern of the images or the masks."""
        group, (before, after) = (self.masks, self.mask_affixes) if mask else (self.images, self.image_affixes)
        one_folder = self.images.template == self.masks.template
        files = self.fitting(mask=mask)
        endings = {file.path.suffix for file in files}
        ending = endings.pop() if one_folder and len(endings) == 1 else ""
        return "/".join(part for part in (group.template, f"{before}{{name}}{after}{ending}") if part)

    def fitting(self, *, mask: bool) -> list[File]:
        """The files of the first split with the affixes of the images or the masks."""
        group, (before, after) = (self.masks, self.mask_affixes) if mask else (self.images, self.image_affixes)
        split = next(iter(self.images.texts), "") if "train" not in self.images.texts else "train"
        files = group.of(split)
        own = [file for file in files if _has(file, (before, after))]
        return own if mask or self.images is not self.masks else [f for f in own if not _has(f, self.mask_affixes)]

    @property
    def words(self) -> tuple[str, str]:
        """What the names say about the role of images and of masks."""
        return (
            f"{self.images.template} {' '.join(self.image_affixes)}",
            f"{self.masks.template} {' '.join(self.mask_affixes)}",
        )

    @property
    def preference(self) -> int:
        """How much the name of the masks says that they hold classes, rather than instances or colours."""
        words = self.words[1]
        return bool(_GOOD_WORDS.search(words)) - 2 * bool(_BAD_WORDS.search(words))


def files_below(root: Path, endings: Sequence[str] = MASK_ENDINGS) -> Iterator[tuple[tuple[str, ...], str]]:
    """Folders and names of the files with these endings, sorted, without hidden ones; the first 200,000."""
    count = 0
    for folder, below, names in os.walk(root):
        parts = Path(folder).relative_to(root).parts
        below[:] = sorted(name for name in below if not name.startswith(".")) if len(parts) < _DEEPEST else []
        for name in sorted(names):
            if not name.startswith(".") and name.lower().endswith(tuple(endings)):
                count += 1
                if count > _MOST_FILES:
                    return
                yield parts, name


def with_split(part: str) -> tuple[str, str, str] | None:
    """A name with ``{split}`` instead of a word for a split, the split, and the word; None without such a word."""
    lower = part.lower()
    for split, words in _WORDS.items():
        for word in words:
            rest = part[len(word) :]
            if lower.startswith(word) and (not rest or _AFTER_SPLIT.fullmatch(rest)):
                return "{split}" + rest, split, part[: len(word)]
            if lower.endswith(word) and _CUT.fullmatch(lower[-len(word) - 1 : -len(word)]):
                return part[: -len(word)] + "{split}", split, part[-len(word) :]
    return None


def groups(root: Path) -> list[Group]:
    """Groups of the pictures below a folder: by their folders, and by these with the last parts replaced by ``*``."""
    found: dict[str, Group] = {}
    folders: dict[str, set[tuple[str, ...]]] = defaultdict(set)
    for parts, name in files_below(root):
        template, split = list(parts), ("", "")
        for at, part in enumerate(parts):
            replaced = with_split(part)
            if replaced is not None:
                template[at], split = replaced[0], replaced[1:]
                break
        fixed = max([at + 1 for at, part in enumerate(template) if "{split}" in part], default=min(1, len(parts)))
        for stars in range(min(_MOST_WILDCARDS, len(parts) - fixed) + 1):
            kept = len(parts) - stars
            key = "/".join([*template[:kept], *["*"] * stars])
            path = root.joinpath(*parts, name)
            found.setdefault(key, Group(key)).files[split].append(File(parts[kept:], path.stem, path))
            folders[key].add(parts)
    several = [group for group in found.values() if "*" not in group.template or len(folders[group.template]) > 1]
    several += [part for group in several for part in _by_ending(group)]
    return sorted(several, key=lambda group: -sum(map(len, group.files.values())))[:_MOST_GROUPS]


def _by_ending(group: Group) -> list[Group]:
    """The files of a group with each ending, if there are several: images may be JPEG and their masks PNG files."""
    endings = group.endings
    parts = {ending: Group(group.template) for ending in endings} if len(endings) > 1 else {}
    for split, files in group.files.items():
        for file in files:
            if parts:
                parts[file.path.suffix.lower()].files[split].append(file)
    return list(parts.values())


def relations(found: Sequence[Group]) -> list[Relation]:
    """All pairs of groups whose names correspond."""
    pairs = []
    for images in found:
        for masks in found:
            if images.template.count("*") == masks.template.count("*") and _same_splits(images, masks):
                pairs += _relations_of(images, masks)
    return pairs


def _same_splits(images: Group, masks: Group) -> bool:
    texts = masks.texts
    return not texts or any(texts.get(split) == text for split, text in images.texts.items())


def _relations_of(images: Group, masks: Group) -> list[Relation]:
    """The best relation, and others whose masks have another suffix."""
    split = next((split for split in SPLITS if split in images.texts), "")
    own = images.of(split)
    chosen = own[:: max(1, len(own) // _SAMPLED)][:_SAMPLED]
    by_core: dict[tuple[tuple[str, ...], str], set[tuple[str, str]]] = defaultdict(set)
    for file in masks.of(split):
        for core, affixes in _cores(file.stem, 1, 3):
            by_core[file.wildcards, core].add(affixes)
    shared = images.template == masks.template and bool(images.endings & masks.endings)
    counts: Counter[tuple[tuple[str, str], tuple[str, str]]] = Counter()
    for file in chosen:
        for core, affixes in _cores(file.stem, 1, 1):
            for others in by_core.get((file.wildcards, core), ()):
                if not shared or affixes != others:
                    counts[affixes, others] += 1
    fitting: dict[tuple[str, str], tuple[tuple[str, str], float]] = {}
    for (affixes, others), count in counts.items():
        alike = sum(_has(file, affixes) and not (images is masks and _has(file, others)) for file in chosen)
        if count >= _COVERED * max(1, alike) and (images is masks or count >= _COVERED * len(chosen)):
            best = fitting.get(others)
            if best is None or len("".join(affixes)) < len("".join(best[0])):
                fitting[others] = affixes, count / max(1, alike)
    return [Relation(images, masks, affixes, others, share) for others, (affixes, share) in fitting.items()]


def _has(file: File, affixes: tuple[str, str]) -> bool:
    return file.stem.startswith(affixes[0]) and file.stem.endswith(affixes[1])


def _cores(stem: str, front: int, back: int) -> Iterator[tuple[str, tuple[str, str]]]:
    """Parts of a name without up to ``front`` and ``back`` words, with what was cut off."""
    cuts = [match.start() for match in _CUT.finditer(stem)]
    starts = [0, *(cut + 1 for cut in cuts[:front])]
    ends = [len(stem), *reversed(cuts[-back:])]
    for start in starts:
        for end in ends:
            if start < end:
                yield stem[start:end], (stem[:start], stem[end:])
