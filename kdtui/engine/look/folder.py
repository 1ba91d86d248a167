"""Guess the table ``[data]`` of a folder: its layout, its labels and the size of its images."""

from __future__ import annotations

import re
import statistics
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from kdtui.engine.data.images import read_values
from kdtui.engine.look.class_files import class_file
from kdtui.engine.look.coco import coco_guess
from kdtui.engine.look.guess import Guess
from kdtui.engine.look.masks import guess_labels, is_mask, values_of
from kdtui.engine.look.tree import IMAGE_WORDS, MASK_WORDS, Relation, files_below, groups, relations, with_split
from kdtui.errors import DataError
from kdtui.profile import FolderData
from kdtui.profile.find import SHIPPED
from kdtui.profile.layout import Pair
from kdtui.profile.loading import resolve
from kdtui.profile.patterns import PICTURE_ENDINGS, SPLITS

HOLDOUT = 0.15
_KNOWN = {"cityscapes": r".*_leftImg8bit", "voc": r"\d{4}_\d{6}", "ade20k": r"ADE_.*"}
"""Shipped profiles that describe a layout and its classes, with the names of their images; others use the layouts."""
_LAYOUT_KEYS = ("images", "masks", "list", "splits", "holdout")
_LOOKED_AT = 3
_MEASURED = 64
_MOST_GUESSES = 3
_ALSO = 0.8
"""Share of the pairs of the best layout from which on another one is offered."""


def look(root: Path) -> dict[str, Any]:
    """The guesses for a folder, the best first.

    Returns:
        ``{"root", "guesses"}``, each guess with the attributes of :class:`Guess`.

    Raises:
        DataError: No layout is recognised, or its masks do not hold classes.
    """
    if not root.is_dir():
        raise DataError("there is no such folder", where=root)
    guesses: list[Guess] = [*_known(root)]
    error: DataError | None = None
    if not guesses:
        for guess in _layouts(root):
            try:
                guesses.append(_with_labels(root, guess))
            except DataError as reason:
                error = error or reason
            if len(guesses) == _MOST_GUESSES:
                break
    guesses += coco_guess(root) if not guesses else []
    if not guesses:
        raise error or _nothing(root)
    return {"root": str(root), "guesses": [vars(guess) for guess in guesses]}


def _nothing(root: Path) -> DataError:
    pictures = sum(1 for _ in files_below(root, PICTURE_ENDINGS))
    return DataError(
        "no images with masks are recognised in this folder",
        where=root,
        found=f"{pictures:,} pictures" if pictures else "no picture",
        allowed="images and masks of corresponding names, in folders of their own or with a suffix such as _mask",
        hint="write a profile with data.images and data.masks: `kdtui profiles voc` shows one",
    )


def _table(root: Path, keys: Mapping[str, Any]) -> FolderData:
    return FolderData.model_validate({"kind": "folder", "root": str(root), **keys})


def _counts(root: Path, keys: Mapping[str, Any]) -> dict[str, int]:
    """Pairs of each split that can be read."""
    layout = _table(root, {"classes": ("a", "b"), **{key: keys[key] for key in _LAYOUT_KEYS if key in keys}}).layout()
    counts = {}
    for split in SPLITS:
        try:
            counts[split] = len(layout.pairs(split).pairs)
        except DataError:
            continue
    return counts


def _pairs(root: Path, keys: Mapping[str, Any]) -> list[Pair]:
    return _table(root, {"classes": ("a", "b"), **keys}).layout().pairs("train").pairs


def _known(root: Path) -> Iterator[Guess]:
    """The guess of a shipped profile whose files are there and whose masks have its values."""
    from kdtui.engine.data.labels import LabelReader

    for name, stem in _KNOWN.items():
        keys = {key: value for key, value in resolve(SHIPPED / f"{name}.toml").table["data"].items() if key != "root"}
        counts = _counts(root, keys)
        if not {"train", "val"} <= counts.keys():
            continue
        table = _table(root, keys)
        classes = table.listed_classes()
        assert classes is not None
        pairs = table.layout().pairs("train").pairs
        if not all(re.fullmatch(stem, pair.image.stem) for pair in pairs):
            continue
        try:
            reader = LabelReader(table, classes)
            for pair in pairs[:_LOOKED_AT]:
                reader(pair.mask)
        except DataError:
            continue
        keys = {key: value for key, value in keys.items() if key in FolderData.model_fields}
        ground = {"layout": f"that of the shipped profile '{name}'", "labels": f"those of '{name}'"}
        guess = Guess(keys, counts, ground, name, classes.names, True)
        yield _with_size(guess, pairs)


def _layouts(root: Path) -> Iterator[Guess]:
    """Layouts by the number of their pairs, then by how much the names say that masks hold classes."""
    roles: dict[Path, bool | None] = {}
    candidates = []
    for template in _lists(root, pairs=True):
        counts = _counts(root, {"list": template})
        if counts.get("train"):
            candidates.append((sum(counts.values()), 1, 1, 0, Guess({"list": template}, counts), template))
    for relation in relations(groups(root)):
        certainty = _certainty(relation, roles)
        if certainty <= 0:
            continue
        for keys in _keys_of(root, relation):
            counts = _counts(root, keys)
            unpaired = 0 if counts.get("train") else round(relation.share * len(relation.fitting(mask=False)))
            total = sum(counts.values()) or unpaired
            if total:
                masks = str(relation.fitting(mask=True)[0].path)
                candidates.append((total, relation.preference, certainty, -len(str(keys)), Guess(keys, counts), masks))
    # First those that can be read, not those with images without a mask.
    candidates.sort(key=lambda candidate: (bool(candidate[4].counts), *candidate[:4]), reverse=True)
    best = candidates[0][0] if candidates else 0
    seen: set[str] = set()
    for total, *_, guess, masks in candidates:
        if total < _ALSO * best or masks in seen:
            continue
        seen.add(masks)
        _with_holdout(root, guess)
        parts = (("images", "images"), ("masks", "masks"), ("list", "lists"))
        guess.ground["layout"] = ", ".join(f"{words} {guess.keys[key]}" for key, words in parts if key in guess.keys)
        yield guess


def _certainty(relation: Relation, roles: dict[Path, bool | None]) -> int:
    """How much speaks for one group being the images and the other the masks, rather than the reverse."""
    images, masks = relation.words
    score = 0
    for words, sign in ((masks, 1), (images, -1)):
        score += sign * (bool(MASK_WORDS.search(words)) - bool(IMAGE_WORDS.search(words)))
    for mask, sign in ((True, 2), (False, -2)):
        for file in relation.fitting(mask=mask)[:: max(1, len(relation.fitting(mask=mask)) // _LOOKED_AT)][:_LOOKED_AT]:
            if file.path not in roles:
                roles[file.path] = is_mask(file.path)
            score += 0 if roles[file.path] is None else sign if roles[file.path] else -sign
    return score


def _keys_of(root: Path, relation: Relation) -> Iterator[dict[str, Any]]:
    """The keys of a relation: with the splits of its folders, with list files, or with held-out images."""
    keys: dict[str, Any] = {"images": relation.pattern(mask=False), "masks": relation.pattern(mask=True)}
    texts = relation.images.texts
    if texts:
        if any(text != split for split, text in texts.items()):
            keys["splits"] = dict(texts)
        if "train" in texts:
            yield keys
        return
    yield keys
    for template in _lists(root):
        yield {**keys, "list": template}


def _lists(root: Path, *, pairs: bool = False) -> list[str]:
    """Patterns of list files below a folder: those with one for the training split; with ``pairs`` also other files."""
    found: dict[str, None] = {}
    for parts, name in files_below(root, (".txt", ".csv", ".lst")):
        stem, dot, ending = name.rpartition(".")
        replaced = with_split(stem)
        if replaced is not None and replaced[1:] == ("train", "train"):
            found["/".join([*parts, replaced[0] + dot + ending])] = None
        elif pairs and replaced is None:
            found["/".join([*parts, name])] = None
    return list(found)[:20]


def _with_holdout(root: Path, guess: Guess) -> None:
    """Hold out training images where there is no validation split."""
    if guess.counts.get("val"):
        return
    with_holdout = _counts(root, {**guess.keys, "holdout": HOLDOUT})
    guess.keys["holdout"] = HOLDOUT
    guess.counts = with_holdout or guess.counts
    guess.ground["holdout"] = f"there is no validation split: {HOLDOUT:.0%} of the training images are held out"


def _with_labels(root: Path, guess: Guess) -> Guess:
    """The guess with keys for the labels, and with the size of the images."""
    try:
        pairs = _pairs(root, {**guess.keys})
    except DataError:
        pairs = _spread_pairs(root, guess.keys)
    masks = [pair.mask for pair in pairs]
    for split in ("val", "test"):
        if guess.counts.get(split):
            masks += [
                pair.mask for pair in _table(root, {"classes": ("a", "b"), **guess.keys}).layout().pairs(split).pairs
            ]
    labels = guess_labels(values_of(list(dict.fromkeys(masks))), class_file(root))
    guess.keys |= labels.keys
    guess.ground["labels"] = labels.ground
    if labels.ignored:
        guess.ground["ignored"] = labels.ignored
    guess.names, guess.named = labels.names, labels.named
    return _with_size(guess, pairs)


def _spread_pairs(root: Path, keys: Mapping[str, Any]) -> list[Pair]:
    """Pairs of a layout some of whose images have no mask."""
    from kdtui.profile.patterns import MASK_ENDINGS, Pattern

    text = (keys.get("splits") or {}).get("train", "train")
    images = Pattern(keys["images"], text, PICTURE_ENDINGS).listing(root).matches
    masks = {
        (*match.wildcards, match.name): match.path
        for match in Pattern(keys["masks"], text, MASK_ENDINGS).listing(root).matches
    }
    keyed = ((match.path, masks.get((*match.wildcards, match.name))) for match in images)
    return [Pair(image, mask) for image, mask in keyed if mask is not None]


def _with_size(guess: Guess, pairs: Sequence[Pair]) -> Guess:
    """The guess with the median size and the channels of some images."""
    shapes = []
    for pair in pairs[:: max(1, len(pairs) // _MEASURED)][:_MEASURED]:
        try:
            shapes.append(read_values(pair.image).shape)
        except DataError:  # reported by the check of all files
            continue
    if shapes:
        guess.size = (
            round(statistics.median(shape[1] for shape in shapes)),
            round(statistics.median(shape[0] for shape in shapes)),
        )
        channels = statistics.mode(1 if len(shape) == 2 else shape[2] for shape in shapes)
        guess.channels = channels if channels in (1, 3) or channels > 4 else 3  # four: RGB with transparency
        if guess.channels != 3:
            guess.keys["channels"] = guess.channels
    return guess
