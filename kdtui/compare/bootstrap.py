"""The paired bootstrap over images: how far a difference of two runs depends on the images of the split.

Runs and evaluations keep the pixels of each class and image that are correct, predicted and true. From their sums
follows the mIoU of any selection of images, and from those of each label map the mean IoU of instances. Both runs are
scored on the same selections, drawn with replacement; images of one clip, crops of one image, or instances of one
image are drawn together (cluster bootstrap; Davison and Hinkley 1997, 2.4, 3.8).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from zipfile import BadZipFile
from zlib import error as ZlibError

from kdtui.compare.statistics import COVERAGE, Interval
from kdtui.errors import StoreError
from kdtui.store.files import read_file
from kdtui.store.values import MOST_BYTES
from kdtui.text import one_line, score_title

if TYPE_CHECKING:  # numpy takes a tenth of a second to import
    import numpy as np
    from numpy.typing import NDArray

    from kdtui.store.run import Run

VERSION = 1
RESAMPLES = 2000
SCORES = ("miou", "target_iou")
"""Scores that follow from the counts: the mIoU, and the mean IoU of the target over label maps that have it."""
_TARGET = 1  # its class in hierarchical data, which alone have instances
_SEED = 0
_BLOCK = 2**22  # weights in memory at once


@dataclass(frozen=True)
class Counts:
    """Pixel counts of one run on one split.

    Attributes:
        samples: Name of each label map.
        units: What is drawn together: the clip, the image, or the sample itself.
        over: What the units are.
        classes: Names of the K classes.
        pixels: i64 [N,3,K]: correct, predicted and true pixels.
    """

    samples: NDArray[np.str_]
    units: NDArray[np.str_]
    over: Literal["images", "clips"]
    classes: tuple[str, ...]
    pixels: NDArray[np.int64]

    @property
    def miou(self) -> float:
        """The mIoU over all images."""
        return float(_mean(_iou(self.pixels.sum(axis=0))))

    @property
    def instances(self) -> NDArray[np.float64]:
        """Of each label map the IoU of the target and 1, or 0 and 0 where the map has no target [N,2]."""
        import numpy as np

        occurs = self.pixels[:, 2, _TARGET] > 0
        return np.stack([np.where(occurs, _iou(self.pixels)[:, _TARGET], 0.0), occurs.astype(float)], axis=1)

    def score(self, name: str) -> float:
        """One of :data:`SCORES` over all images."""
        return self.miou if name == "miou" else float(_share(self.instances.sum(axis=0)))


@dataclass(frozen=True)
class Difference:
    """A run's score and IoU per class minus those of its baseline; classes that only one of them has are left out.

    Attributes:
        score: Of the mIoU, or of another one of :data:`SCORES`.
        scores: Those of run and baseline.
    """

    score: Interval
    classes: Mapping[str, Interval]
    scores: tuple[float, float]


def difference(run: Run, baseline: Run, split: str = "val", score: str = "miou") -> Difference:
    """The difference of the best checkpoints of two runs on a split, from the counts kept with them.

    Raises:
        StoreError: A run has no usable counts, those of other images, labels or classes, or the score does not follow
            from counts.
    """
    return _difference(run, baseline, split, score, _stamp(run.counts(split)), _stamp(baseline.counts(split)))


@lru_cache(maxsize=512)
def _difference(run: Run, baseline: Run, split: str, score: str, *stamps: tuple[int, int] | None) -> Difference:
    return bootstrap(read_counts(run, split), read_counts(baseline, split), score)


def _stamp(path: Path) -> tuple[int, int] | None:
    """Changes with the content of a file; None without one."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size


def read_counts(run: Run, split: str = "val") -> Counts:
    """The counts per image of a run's best checkpoint on a split.

    Raises:
        StoreError: There are none, or they are damaged or of another version.
    """
    path, hint = run.counts(split), f"`kdtui evaluate {one_line(run.id)} --split {split}` makes them"
    try:
        return _parsed(read_file(path, most=MOST_BYTES))
    except FileNotFoundError as error:
        raise StoreError("no counts per image", where=path, hint=hint) from error
    except (OSError, ValueError, KeyError, EOFError, BadZipFile, ZlibError) as error:
        found = one_line(error.strerror if isinstance(error, OSError) and error.strerror else error)
        raise StoreError("the counts per image are damaged", where=path, found=found, hint=hint) from error


def _parsed(data: bytes) -> Counts:
    import numpy as np

    with np.load(BytesIO(data), allow_pickle=False) as file:
        if int(file["version"]) != VERSION:
            raise ValueError(f"version {int(file['version'])}, which this kdtui does not know")
        samples, classes, pixels = file["samples"], file["classes"], file["counts"]
        units, over = (file["units"], str(file["over"])) if "units" in file else (samples, "images")
    if pixels.shape != (len(samples), 3, len(classes)) or units.shape != samples.shape or over not in _OVER:
        raise ValueError(f"counts of shape {pixels.shape} for {len(samples)} samples and {len(classes)} classes")
    if pixels.dtype.kind not in "iu" or (pixels < 0).any() or (pixels[:, 0] > pixels[:, 1:].min(axis=1)).any():
        raise ValueError("more correct than predicted or true pixels")
    return Counts(samples, units, _OVER[over], tuple(map(str, classes)), pixels.astype(np.int64))


_OVER: Mapping[str, Literal["images", "clips"]] = {"images": "images", "clips": "clips"}


def bootstrap(run: Counts, baseline: Counts, score: str = "miou", resamples: int = RESAMPLES) -> Difference:
    """The difference of two runs with percentile intervals of the paired bootstrap; the same for the same counts.

    Raises:
        StoreError: The counts are not those of the same images, labels and classes, all images are one unit, or the
            score does not follow from counts.
    """
    import numpy as np

    if score not in SCORES:
        raise StoreError(f"{score_title(score)} does not follow from the counts per image")
    _check_same(run, baseline)
    places = np.unique(run.units, return_inverse=True)[1]
    n = int(places.max(initial=-1)) + 1
    if n < 2:
        raise StoreError("too few images for an interval", found=f"{n} of {run.over}")
    pixels = np.stack([_sums(counts.pixels, places, n) for counts in (run, baseline)])
    whole = _iou(pixels.sum(axis=1))
    iou = np.concatenate([_iou(np.tensordot(weights, pixels, (1, 1))) for weights in _weights(n, resamples)])
    if score == "miou":
        drawn = _mean(iou)
    else:
        instances = np.stack([_sums(counts.instances, places, n) for counts in (run, baseline)])
        drawn = _share(np.concatenate([np.tensordot(each, instances, (1, 1)) for each in _weights(n, resamples)]))
    scores = run.score(score), baseline.score(score)
    classes = {
        name: _interval(delta, values, n, run.over)
        for name, delta, values in zip(run.classes, whole[0] - whole[1], (iou[:, 0] - iou[:, 1]).T, strict=True)
        if not np.isnan(delta)
    }
    return Difference(_interval(scores[0] - scores[1], drawn[:, 0] - drawn[:, 1], n, run.over), classes, scores)


def score_interval(run: Run, split: str = "val", score: str = "miou") -> Interval:
    """The score of the best checkpoint of a run with the percentile interval of the bootstrap over its images.

    Raises:
        StoreError: The run has no usable counts, too few images, or the score does not follow from counts.
    """
    return _score_interval(run, split, score, _stamp(run.counts(split)))


@lru_cache(maxsize=512)
def _score_interval(run: Run, split: str, score: str, stamp: tuple[int, int] | None) -> Interval:
    counts = read_counts(run, split)
    return bootstrap(counts, replace(counts, pixels=_nothing_correct(counts.pixels)), score).score


def _nothing_correct(pixels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Counts [N,3,K] of predictions that are wrong at each pixel, whose scores are 0."""
    wrong = pixels.copy()
    wrong[:, 0] = 0
    return wrong


def _sums(values: NDArray[Any], places: NDArray[Any], n: int) -> NDArray[np.float64]:
    """The sum [n,...] of the values [N,...] of each unit."""
    import numpy as np

    sums = np.zeros((n, *values.shape[1:]))
    np.add.at(sums, places, values)
    return sums


def _weights(n: int, resamples: int) -> Iterator[NDArray[np.float64]]:
    """How often each unit is drawn [R,n], in blocks; the same for each call."""
    import numpy as np

    generator, rows = np.random.default_rng(_SEED), max(1, _BLOCK // n)
    for first in range(0, resamples, rows):
        yield generator.multinomial(n, np.full(n, 1 / n), size=min(rows, resamples - first)).astype(float)


def _check_same(run: Counts, baseline: Counts) -> None:
    import numpy as np

    if run.classes != baseline.classes:
        raise StoreError("the runs have different classes")
    if not np.array_equal(run.samples, baseline.samples):
        both = len(set(run.samples) & set(baseline.samples))
        found = f"{len(run.samples)} and {len(baseline.samples)} images, {both} in both"
        raise StoreError("the runs were evaluated on different images", found=found)
    if not np.array_equal(run.pixels[:, 2], baseline.pixels[:, 2]):
        raise StoreError("the labels of the two evaluations differ in size or content")


def _iou(sums: NDArray[Any]) -> NDArray[Any]:
    """IoU [...,K] of counts [...,3,K]; NaN for a class that occurs in neither truth nor prediction."""
    import numpy as np

    correct, predicted, true = np.moveaxis(sums.astype(float), -2, 0)
    union = predicted + true - correct
    iou: NDArray[Any] = np.divide(correct, union, out=np.full_like(union, np.nan), where=union > 0)
    return iou


def _mean(iou: NDArray[Any]) -> NDArray[Any]:
    """The mean [...] of IoU [...,K] over the classes that occur, as in the engine."""
    import numpy as np

    occurs = ~np.isnan(iou)
    mean: NDArray[Any] = np.where(occurs, iou, 0.0).sum(axis=-1) / np.maximum(1, occurs.sum(axis=-1))
    return mean


def _share(sums: NDArray[Any]) -> NDArray[Any]:
    """The quotient [...] of two sums [...,2]; NaN where the second is zero."""
    import numpy as np

    part, whole = np.moveaxis(sums, -1, 0)
    share: NDArray[Any] = np.divide(part, whole, out=np.full_like(whole, np.nan), where=whole > 0)
    return share


def _interval(delta: Any, drawn: NDArray[Any], n: int, over: Literal["images", "clips"]) -> Interval:
    import numpy as np

    drawn = drawn[~np.isnan(drawn)]
    low, high = np.quantile(drawn, [(1 - COVERAGE) / 2, (1 + COVERAGE) / 2])
    return Interval(float(delta), float(low), float(high), n, over)
