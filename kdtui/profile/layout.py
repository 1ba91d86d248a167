"""Find the pairs of image and mask of a split in a folder, without torch.

The files are described by patterns (:mod:`kdtui.profile.patterns`), by list files, or both.
"""

from __future__ import annotations

import csv
import difflib
import hashlib
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from kdtui.errors import DataError, NoSplit
from kdtui.profile.patterns import MASK_ENDINGS, PICTURE_ENDINGS, Listing, Match, Pattern, normalised
from kdtui.text import clean

_SHOWN = 5
_MOST_BYTES = 2**28
"""Largest list file."""
_MOST_COMPARED = 2000
"""Largest number of names among which a similar one is looked for."""
_HEADER = frozenset({"image", "images", "image_path", "img", "file", "filename", "mask", "masks", "mask_path", "label"})


class Pair(NamedTuple):
    """An image with its mask."""

    image: Path
    mask: Path


class LayoutNote(NamedTuple):
    """A warning about the files of a split."""

    code: str
    message: str
    hint: str


class SplitFiles(NamedTuple):
    """The pairs of a split in the order of their images' paths, and warnings about its folders."""

    pairs: list[Pair]
    notes: list[LayoutNote]


def names(values: Sequence[object], shown: int = _SHOWN) -> str:
    """The first values, each shortened to 60 characters, and the number of the others."""
    texts = [text if len(text := clean(str(value))) <= 60 else text[:59] + "…" for value in values[:shown]]
    return ", ".join(texts) + (f" and {len(values) - len(texts)} more" if len(values) > len(texts) else "")


@dataclass(frozen=True)
class Layout:
    """Where the images and masks of each split are.

    Attributes:
        root: The folder to which all patterns are relative.
        images: Pattern of the images.
        masks: Pattern of the masks.
        list_file: Pattern of the list files, with ``{split}``; empty without lists.
        folders: The text for ``{split}`` of each split, where it is not the split's name.
        holdout: Share of the training images that are the validation split; None if it has files of its own.
        group: Regular expression on the path of an image: images with the same first group (or match) are held out
            together.
    """

    root: Path
    images: str
    masks: str
    list_file: str = ""
    folders: Mapping[str, str] = field(default_factory=dict)
    holdout: float | None = None
    group: str | None = None

    def files(self, split: str) -> Iterable[Path]:
        """The list file, images and masks of a split; where they do not belong together, all that match."""
        folder = self._folder(self._stored(split))
        if self.list_file:
            yield self.root / self.list_file.replace("{split}", folder)
        try:
            pairs = self.pairs(split).pairs
        except DataError:  # reported when the data are read
            for text, endings in ((self.images, PICTURE_ENDINGS), (self.masks, MASK_ENDINGS)):
                yield from (match.path for match in Pattern(text, folder, endings).listing(self.root).matches)
        else:
            yield from [pair.image for pair in pairs]
            yield from [pair.mask for pair in pairs]

    def pairs(self, split: str) -> SplitFiles:
        """The images and masks of a split.

        Raises:
            DataError: There are none, or images and masks do not match.
        """
        if not self.root.is_dir():
            raise DataError("the data folder does not exist", where=self.root, hint="--set data.root=FOLDER")
        self._check_split(split)
        found = self._all_pairs(self._stored(split))
        if self.holdout is None or split == "test":
            return found
        held_out = self._held_out(found.pairs)
        chosen = [pair for pair in found.pairs if (pair.image in held_out) == (split == "val")]
        return SplitFiles(chosen, [*found.notes, *self._unused_split(split)])

    def shown(self, path: Path) -> str:
        """The name of an image: with its folders, if images of one name may be in several of them."""
        nested = "*" in self.images.rpartition("/")[0]
        base = self.root / Pattern(self.images, "*" if "{split}" in self.images else "").folder()
        return path.relative_to(base).as_posix() if nested and path.is_relative_to(base) else path.name

    def group_of(self, image: Path) -> str | None:
        """The group of an image; None without ``data.group``, or if it does not match."""
        fitting = re.search(self.group, self._below_root(image)) if self.group is not None else None
        return None if fitting is None else fitting[1 if fitting.re.groups else 0] or ""

    def _below_root(self, image: Path) -> str:
        return normalised(image.relative_to(self.root).as_posix() if image.is_relative_to(self.root) else image.name)

    @property
    def _has_splits(self) -> bool:
        return "{split}" in (self.list_file or self.images)

    def _stored(self, split: str) -> str:
        """The split whose files a split is made from."""
        return "train" if split == "val" and self.holdout is not None else split

    def _folder(self, split: str) -> str:
        return self.folders.get(split, split)

    def _check_split(self, split: str) -> None:
        if self._has_splits or split == "train" or (split == "val" and self.holdout is not None):
            return
        raise NoSplit(
            f"the data have no {split} split",
            where="data.list" if self.list_file else "data.images",
            found=f"{self.list_file or self.images}, without {{split}}: all images are training images",
            hint="--set data.holdout=0.15 holds out training images for validation"
            if split == "val"
            else "`kdtui evaluate RUN --split val`",
        )

    def _all_pairs(self, split: str) -> SplitFiles:
        folder = self._folder(split)
        images = Pattern(self.images, folder, PICTURE_ENDINGS)
        masks = Pattern(self.masks, folder, MASK_ENDINGS)
        if self.list_file:
            return _Listed(self, split, images, masks).pairs()
        pictures = images.listing(self.root)
        if not pictures.matches:
            raise self._nothing(images, "images", split, pictures)
        labels = masks.listing(self.root)
        if not labels.matches:
            raise self._nothing(masks, "masks", split, labels)
        _separate(pictures, labels)
        return self._paired(pictures, labels, split, images, masks)

    def _paired(self, pictures: Listing, labels: Listing, split: str, images: Pattern, masks: Pattern) -> SplitFiles:
        by_name = images.wildcards != masks.wildcards
        by_key = _keyed(labels.matches, by_name=by_name, pattern=masks, key="masks")
        pictures_by_key = _keyed(pictures.matches, by_name=by_name, pattern=images, key="images")
        lonely = [match for key, match in pictures_by_key.items() if key not in by_key]
        spare = [match for key, match in by_key.items() if key not in pictures_by_key]
        if lonely:
            raise self._lonely(lonely, spare, len(pictures.matches), labels, masks)
        notes = [
            LayoutNote(
                "skipped-files",
                f"{len(listing.skipped)} entries of {pattern.folder()} are skipped: {listing.skipped_kinds()}",
                f"only files ending in {', '.join(PICTURE_ENDINGS)}, directly in that folder, are read",
            )
            for listing, pattern in ((pictures, images), (labels, masks))
            if listing.skipped
        ]
        if spare:
            notes.append(
                LayoutNote(
                    "masks-without-image",
                    f"{len(spare)} of {len(labels.matches)} masks of the {split} split have no image: "
                    f"{names([match.path.name for match in spare])}",
                    f"an image has its mask's name, in {self.root / images.folder()}",
                )
            )
        return SplitFiles([Pair(match.path, by_key[key].path) for key, match in pictures_by_key.items()], notes)

    def _nothing(self, pattern: Pattern, key: str, split: str, listing: Listing) -> DataError:
        """The error for a pattern that matches no file."""
        folder, missing = pattern.deepest(self.root)
        parts = PurePosixPath(getattr(self, key)).parts
        of_split = "{split}" in parts[len(folder.relative_to(self.root).parts)]
        entries = sorted(p.name + "/" * p.is_dir() for p in folder.iterdir() if not p.name.startswith("."))
        if missing and "*" not in missing and "{name}" not in missing:
            return NoSplit(
                f"the folder of the {split} {key} is missing",
                where=folder / missing,
                found=f"in {folder.name}: {names([entry.rstrip('/') for entry in entries]) or 'nothing'}",
                hint=self._hint_for_folder(split, [entry[:-1] for entry in entries if entry.endswith("/")])
                if of_split
                else f'--set data.{key}=PATTERN, such as "{key}/{{split}}/{{name}}"',
            )
        return DataError(
            f"the {split} split {'is empty' if key == 'images' else 'has no masks'}: no file matches data.{key}",
            where=folder,
            found=f"no image among {listing.skipped_kinds()}" if listing.skipped else names(entries) or "nothing",
            allowed=f"{pattern.text}, with one of {', '.join(PICTURE_ENDINGS)}",
        )

    def _hint_for_folder(self, split: str, folders: list[str]) -> str | None:
        start = split[:3]
        similar = [name for name in folders if name.lower().startswith(start) and name != self._folder(split)]
        hints = [f"--set data.splits.{split}={similar[0]}"] if similar and self._has_splits else []
        if split == "val" and self.holdout is None:
            hints.append("--set data.holdout=0.15, which holds out training images")
        if split == "test":
            hints.append("`kdtui evaluate RUN --split val`")
        return "; or ".join(hints) or None

    def _lonely(
        self, lonely: list[Match], spare: list[Match], total: int, labels: Listing, masks: Pattern
    ) -> DataError:
        """The error for images without a mask."""
        facts = [names([match.path.name for match in lonely])]
        if spare:
            facts.append(f"masks without image: {names([match.path.name for match in spare])}")
        if labels.skipped:
            facts.append(f"skipped: {labels.skipped_kinds()}")
        hint = "a mask has its image's name, with any of the endings " + ", ".join(MASK_ENDINGS)
        nearest = _nearest(lonely[0].name, [match.path.name for match in spare] or [])
        if nearest:
            facts.append(f"the most similar mask of {lonely[0].path.name} is {clean(nearest)}")
            stem = Path(normalised(nearest)).stem
            if lonely[0].name in stem and "*" not in self.masks:
                pattern = f"{self.masks.rpartition('/')[0]}/{stem.replace(lonely[0].name, '{name}', 1)}"
                hint = f"--set data.masks={clean(pattern)}"
        return DataError(
            f"{len(lonely)} of {total} images have no mask",
            where=self.root / masks.folder(),
            found="; ".join(facts),
            allowed=None if masks.text.endswith("/{name}") else f"{masks.text} with the image's name",
            hint=hint,
        )

    def _unused_split(self, split: str) -> list[LayoutNote]:
        """A note where a validation split exists that ``holdout`` leaves unused."""
        if not self._has_splits or split != "val":
            return []
        if self.list_file:
            exists = (self.root / self.list_file.replace("{split}", self._folder("val"))).is_file()
        else:
            exists = bool(Pattern(self.images, self._folder("val")).listing(self.root).matches)
        if not exists:
            return []
        return [
            LayoutNote(
                "unused-split",
                f"data.holdout = {self.holdout:g} takes validation images from the training split, "
                f"although there is a split '{self._folder('val')}'",
                "remove data.holdout to validate on it",
            )
        ]

    def _held_out(self, pairs: list[Pair]) -> set[Path]:
        """The images held out for validation: whole groups in an order that depends on their names alone."""
        groups: dict[str, list[Path]] = defaultdict(list)
        unmatched = []
        for image, _ in pairs:
            group = self.group_of(image)
            if self.group is not None and group is None:
                unmatched.append(self._below_root(image))
            groups[self._below_root(image) if group is None else group].append(image)
        if unmatched:
            raise DataError(
                f"{len(unmatched)} of {len(pairs)} images do not match data.group",
                where="data.group",
                found=names(unmatched),
                allowed=self.group,
            )
        if len(groups) < 2:
            raise DataError(
                "no images can be held out for validation",
                where="data.group" if self.group is not None else "data.holdout",
                found=f"{len(pairs)} images in one group, '{next(iter(groups))}'" if self.group else "1 image",
                allowed="at least two groups" if self.group is not None else "at least two images",
            )
        order = sorted(groups, key=lambda name: hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest())
        goal, held_out = (self.holdout or 0.0) * len(pairs), set[Path]()
        for name in order[:-1]:
            if held_out and len(held_out) + len(groups[name]) / 2 > goal:
                break
            held_out |= {*groups[name]}
        return held_out


def _separate(pictures: Listing, labels: Listing) -> None:
    """Remove files that both patterns match from the one whose ``{name}`` is longer."""
    lengths = {match.path: len(match.name) for match in labels.matches}
    masks = {match.path for match in pictures.matches if lengths.get(match.path, len(match.name)) < len(match.name)}
    images = {match.path for match in pictures.matches if match.path in lengths} - masks
    if masks or images:
        pictures.matches = [match for match in pictures.matches if match.path not in masks]
        labels.matches = [match for match in labels.matches if match.path not in images]


def _keyed(matches: list[Match], *, by_name: bool, pattern: Pattern, key: str) -> dict[tuple[str, ...], Match]:
    """Matches by what image and mask have in common."""
    keyed: dict[tuple[str, ...], Match] = {}
    for match in matches:
        common = (match.name,) if by_name else (*match.wildcards, match.name)
        other = keyed.setdefault(common, match)
        if other is not match:
            same = other.path.parent == match.path.parent
            raise DataError(
                "two files share a name" if same else f"two {key} in different folders have one name",
                where=match.path.parent if same else f"data.{key}",
                found=", ".join([other.path.name, match.path.name] if same else [str(other.path), str(match.path)]),
                allowed=None if same or not by_name else "the same number of * in data.images and data.masks",
                hint=None if same else f"{pattern.text} matches both: describe their folders with * in both patterns",
            )
    return keyed


def _nearest(name: str, candidates: list[str]) -> str:
    containing = [candidate for candidate in candidates if name in normalised(candidate)]
    close = containing or difflib.get_close_matches(name, candidates[:_MOST_COMPARED], n=1, cutoff=0.5)
    return min(close, key=len) if close else ""


class _Listed:
    """The pairs that a list file names."""

    def __init__(self, layout: Layout, split: str, images: Pattern, masks: Pattern) -> None:
        self._layout, self._split, self._images, self._masks = layout, split, images, masks
        self._root = layout.root
        self._path = self._root / layout.list_file.replace("{split}", layout.folders.get(split, split))

    def pairs(self) -> SplitFiles:
        """See :class:`Layout`."""
        rows = self._rows()
        pictures = labels = None
        pairs: list[Pair] = []
        missing: list[str] = []
        for line, entries in rows:
            image = self._below_root(entries[0])
            if image is None:
                pictures = pictures or _Index(self._images.listing(self._root).matches, self._root)
                match = pictures.find(entries[0])
            else:
                match = self._images.matched(self._root, image) or Match(image, (), normalised(image.stem))
            if match is None:
                missing.append(f"{entries[0]} (line {line})")
                continue
            if len(entries) > 1:
                mask = self._below_root(entries[1])
                if mask is None:
                    missing.append(f"{entries[1]} (line {line})")
                    continue
            else:
                labels = labels or _Index(self._masks.listing(self._root).matches, self._root)
                found = labels.of(match, by_name=self._images.wildcards != self._masks.wildcards)
                if found is None:
                    missing.append(f"the mask of {match.path.name} (line {line})")
                    continue
                mask = found.path
            pairs.append(Pair(match.path, mask))
        if missing:
            raise self._missing(missing, len(rows))
        return SplitFiles(list(dict.fromkeys(pairs)), [])

    def _missing(self, missing: list[str], total: int) -> DataError:
        folder, part = self._images.deepest(self._root)
        return DataError(
            f"{len(missing)} of {total} entries of a list have no file",
            where=self._path,
            found=names(missing),
            allowed=f"a path below {self._root}, or a name of {self._images.text} and {self._masks.text}",
            hint=None
            if "{name}" in part or not part
            else f"there is no {folder / part}: --set data.images=PATTERN describes where the images are",
        )

    def _below_root(self, entry: str) -> Path | None:
        """The file with this path, relative to the root or absolute."""
        for text in (entry, entry.lstrip("/")):
            path = self._root / text
            if Path(text).suffix and path.is_file():
                return path
        return None

    def _rows(self) -> list[tuple[int, list[str]]]:
        """Lines with one or two entries: image, or image and mask."""
        text = self._text()
        lines = [(number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
        rows = [(number, self._entries(line)) for number, line in lines]
        if rows and rows[0][1][0].lower() in _HEADER:
            rows = rows[1:]
        if not rows:
            raise DataError(f"the list of the {self._split} split is empty", where=self._path)
        return rows

    def _entries(self, line: str) -> list[str]:
        line = line.strip()
        if self._path.suffix.lower() == ".csv" or "," in line:
            entries = next(csv.reader([line], skipinitialspace=True), [])
        elif "\t" in line:
            entries = line.split("\t")
        else:
            words = line.split()
            both = len(words) == 2 and all(Path(word).suffix for word in words)
            entries = words if both else [line]
        return [entry.strip() for entry in entries[:2] if entry.strip()] or [line]

    def _text(self) -> str:
        try:
            if not self._path.is_file():
                raise FileNotFoundError
            with self._path.open("rb") as stream:
                data = stream.read(_MOST_BYTES + 1)
            if len(data) > _MOST_BYTES:
                raise DataError("a list is too large", where=self._path, allowed=f"at most {_MOST_BYTES >> 20} MiB")
            return data.decode("utf-8-sig")
        except FileNotFoundError:
            raise self._no_list() from None
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
            raise DataError("a list cannot be read", where=self._path, found=reason) from None

    def _no_list(self) -> DataError:
        folder = next((parent for parent in self._path.parents if parent.is_dir()), self._root)
        entries = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
        hints = ["--set data.list=PATTERN"]
        if self._split == "val" and self._layout.holdout is None:
            hints.append("--set data.holdout=0.15, which holds out training images")
        if self._split == "test":
            hints.append("`kdtui evaluate RUN --split val`")
        return NoSplit(
            f"the list of the {self._split} split is missing",
            where=self._path,
            found=f"in {folder}: {names(entries) or 'nothing'}",
            hint="; or ".join(hints),
        )


class _Index:
    """Matches by their names and by the ends of their paths."""

    def __init__(self, matches: list[Match], root: Path) -> None:
        self._root = root
        self._by_name: dict[str, list[Match]] = defaultdict(list)
        self._by_key = {(*match.wildcards, match.name): match for match in matches}
        for match in matches:
            for name in {match.name, normalised(match.path.name), normalised(match.path.stem)}:
                self._by_name[name].append(match)

    def find(self, entry: str) -> Match | None:
        """The match with this name or path (from any folder on, with or without ending).

        Raises:
            DataError: There are several.
        """
        parts = [part for part in normalised(entry).split("/") if part not in ("", ".")]
        candidates = self._by_name.get(parts[-1], []) if parts else []
        if len(parts) > 1:
            above = parts[:-1]
            candidates = [
                match
                for match in candidates
                if [normalised(part) for part in match.path.relative_to(self._root).parts[:-1]][-len(above) :] == above
            ]
        return self._only(candidates, entry)

    def of(self, image: Match, *, by_name: bool) -> Match | None:
        """The mask of an image."""
        if not by_name:
            return self._by_key.get((*image.wildcards, image.name))
        named = [match for match in self._by_name.get(image.name, []) if match.name == image.name]
        return self._only(named, image.path.name)

    def _only(self, candidates: list[Match], entry: str) -> Match | None:
        if len(candidates) > 1:
            raise DataError(
                "an entry of a list matches several files",
                where=entry,
                found=names([match.path.relative_to(self._root) for match in candidates], 3),
                allowed="a path that only one file has",
            )
        return candidates[0] if candidates else None
