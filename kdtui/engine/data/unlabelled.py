"""Images without labels, which only the distillation uses: ``[data.unlabelled]`` of a profile.

Their masks are 0 where there is a picture and ignored elsewhere. Optimizer step ``s`` takes the images
``s * n .. (s + 1) * n`` of an endless sequence of permutations, so that resuming needs only the step number.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from torch.utils.data import Dataset

from kdtui.engine.data.images import ImageFormat, read_reduced_values
from kdtui.engine.data.protocol import Sample, SegmentationDataset, limited, named
from kdtui.engine.data.second_pipeline import SecondPipeline
from kdtui.engine.data.source import IGNORE_INDEX, Needed, Source, Values, seed_of
from kdtui.engine.data.survey import copies, sample
from kdtui.errors import DataError
from kdtui.profile import DataTable
from kdtui.profile.data_tables import Unlabelled
from kdtui.profile.find import expanded
from kdtui.profile.patterns import PICTURE_ENDINGS, Pattern
from kdtui.store.files import read_file
from kdtui.text import counted, mebibytes

_MOST_LIST = 2**28  # bytes
_BROKEN = 0.1
"""Largest share of the looked-at files that may be unreadable."""
_MOST_SKIPPED = 16
"""Unreadable files in a row after which a training ends."""


class UnlabelledImages(Dataset[Sample]):
    """The images without labels of a run, as a network and its teacher see them.

    Args:
        data: The profile's data table, with ``unlabelled``.
        train_set: The labelled training samples, for stride, seed and views.
        whole: Builds the training split with other settings of the data.

    Attributes:
        settings: ``data.unlabelled``.
        files: The image files; empty for samples that ``train_limit`` leaves out.

    Raises:
        DataError: There are no images.
    """

    def __init__(
        self, data: DataTable, train_set: SegmentationDataset, whole: Callable[[DataTable], SegmentationDataset]
    ) -> None:
        assert data.unlabelled is not None
        self.settings: Unlabelled = data.unlabelled
        self.files = files_of(self.settings.images) if self.settings.images is not None else []
        self._format = ImageFormat(data.image_channels, getattr(data, "value_range", None))
        self._set = train_set
        if not self.files:
            self._all = whole(data.model_copy(update={"train_limit": None}))
            labelled = {*limited(len(self._all), data.train_limit, data.limit_seed)}
            self._rest = [index for index in range(len(self._all)) if index not in labelled]
            if not self._rest:
                raise DataError(
                    "no training sample is left without labels",
                    where="data.train_limit",
                    found=f"{data.train_limit} of {counted(len(self._all), 'sample')}",
                    allowed=f"less than {len(self._all)}, or images in data.unlabelled.images",
                )
        # Where crops are must not depend on labels.
        plain = data.model_copy(update={"sampling": "uniform", "crop_class_max": 1.0})
        self._pipeline = SecondPipeline(
            plain, self._read, count=len(self), level=data.augmentation, training=True, pixels=train_set.pixels
        )

    def __len__(self) -> int:
        return len(self.files) or len(self._rest)

    def _read(self, index: int, needed: Needed) -> Source:
        image = self.image(index, needed)
        return Source(image, np.zeros(image.shape[:2], np.uint8))

    def image(self, index: int, needed: Needed | None = None) -> Values:
        """Image [h,w,C] of a file, perhaps smaller than it.

        Raises:
            DataError: It cannot be read.
        """
        if not self.files:
            return self._all.read_reduced(self._rest[index], needed or (lambda size: size)).image
        path = self.files[index]
        return self._format.image(read_reduced_values(path, needed)[0], path)

    def __getitem__(self, key: tuple[int, int]) -> Sample:
        """A view of an image; in place of one that cannot be read, of the next that can."""
        index, view = key
        skipped: list[str] = []
        while True:
            try:
                weak, strong, labels = self._pipeline.two_views(
                    index, seed_of(self._set.seed, index, view), self.settings.colours
                )
                break
            except DataError as error:
                skipped.append(_reason(error))
                if len(skipped) >= min(_MOST_SKIPPED, len(self)):
                    raise _unreadable(len(skipped), len(skipped), error) from error
                index = (index + 1) % len(self)
        image, mask = self._set.padded(strong, 0.0), self._set.padded(labels, IGNORE_INDEX)
        extras = self._set.extras(image, mask)
        return Sample(image, mask, extras, weak=self._set.padded(weak, 0.0), skipped=tuple(skipped))

    def keys(self, step: int, count: int) -> list[tuple[int, int]]:
        """The image numbers and views of an optimizer step.

        Args:
            step: Number of optimizer steps before it, over all epochs.
            count: Images per step.
        """
        keys: list[tuple[int, int]] = []
        place = step * count
        while len(keys) < count:
            turn, first = divmod(place + len(keys), len(self))
            order = np.random.default_rng(seed_of(self._set.seed, "unlabelled", turn)).permutation(len(self))
            view = self._set.view_of(turn)
            keys += [(int(index), view) for index in order[first : first + count - len(keys)]]
        return keys

    def checked(self, evaluated: Sequence[SegmentationDataset], *, most: int) -> list[str]:
        """Look at some of the files, if there are any; return the messages on those that cannot be read.

        Args:
            evaluated: Splits none of whose images may be among these.
            most: How many files are read.

        Raises:
            DataError: Too many cannot be read, or one of them is an image of an evaluated split.
        """
        if not self.files:
            return []
        errors: list[DataError] = []
        looked_at = sample(len(self), most)
        for index in looked_at:
            try:
                self.image(index)
            except DataError as error:
                errors.append(error)
        if len(errors) > _BROKEN * len(looked_at):
            raise _unreadable(len(errors), len(looked_at), errors[0])
        for split in evaluated:
            twice = copies(self.files, split.files())
            if twice:
                raise DataError(
                    f"images of the {split.split} split are among those without labels",
                    where="data.unlabelled.images",
                    found=f"{len(twice)} with equal content: {named([path.name for path in twice])}",
                    allowed="images on which no score is computed",
                    hint="move them out of the folder, or list the others in a .txt file",
                )
        return [_reason(error) for error in errors]

    def _is_readable(self, index: int) -> bool:
        try:
            self._pipeline.source(index)
        except DataError:
            return False
        return True

    def described(self, batch_size: int, devices: int) -> str:
        """How many images there are, how they are used, and what they cost.

        Args:
            batch_size: Labelled images in a step.
            devices: Number of ranks.
        """
        count = self.settings.per_step(batch_size, devices)
        source = next(self._pipeline.source(index) for index in range(len(self)) if self._is_readable(index))
        where = self.settings.images if self.files else "training samples beyond data.train_limit"
        return (
            f"{counted(len(self), 'image')} ({where}), {self.settings.target} targets; {count} in a step with "
            f"{batch_size} labelled ones: a step takes about {1 + count / batch_size:.1f} times as long; "
            f"about {mebibytes(len(self) * (source.image.nbytes + source.labels.nbytes))} of decoded images"
        )


def _reason(error: DataError) -> str:
    return f"{error.where}: {error.what}" + (f" ({error.found})" if error.found else "")


def _unreadable(count: int, total: int, first: DataError) -> DataError:
    return DataError(
        f"{count} of {total} looked-at images without labels cannot be read; {first.what}",
        where=first.where,
        found=first.found,
        allowed=first.allowed,
        hint="remove the damaged files from data.unlabelled.images",
    )


def files_of(text: str) -> list[Path]:
    """The image files of ``data.unlabelled.images``, sorted by path.

    Raises:
        DataError: There are none.
    """
    path = expanded(text.replace("{name}", "*"))
    if path.suffix.lower() == ".txt" and path.is_file():
        found = _listed(path)
    else:
        root = next(folder for folder in path.parents if "*" not in str(folder))
        places = [path] if path.exists() else root.glob(path.relative_to(root).as_posix())
        found = sorted({file for place in places for file in _pictures(place)})
    if not found:
        raise DataError(
            "there are no images without labels",
            where="data.unlabelled.images",
            found=f"{path}, which {'has no image' if path.exists() else 'does not exist or matches no image'}",
            allowed=f"a folder, a pattern or a list of images ending in {', '.join(PICTURE_ENDINGS)}",
            hint="--set data.unlabelled.images=FOLDER",
        )
    return found


def _listed(path: Path) -> list[Path]:
    try:
        lines = read_file(path, most=_MOST_LIST).decode("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError("a list of images cannot be read", where=path, found=str(error)) from None
    return [path.parent / line.strip() for line in dict.fromkeys(lines) if line.strip()]


def _pictures(path: Path) -> list[Path]:
    """A picture, or all below a folder."""
    if path.is_dir():
        return [match.path for match in Pattern("**/{name}", "").listing(path).matches]
    return [path] if path.suffix.lower() in PICTURE_ENDINGS else []
