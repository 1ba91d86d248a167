"""Tables of the kinds of data: keys, paths and classes, without torch.

A new kind needs a subclass of :class:`DataTable` here or in another package (entry-point group ``kdtui.data``), and a
dataset in the engine (or the package) that ``implementation`` names: CONTRIBUTING.md, "Add a kind of data".
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    Field,
    SerializerFunctionWrapHandler,
    ValidationInfo,
    field_validator,
    model_serializer,
    model_validator,
)

from kdtui import plugins
from kdtui.errors import DataError
from kdtui.palette import COLOUR
from kdtui.profile.base import Bool, FilePath, Float, FolderPath, Int, PathKey, PathTo, ProfileTable, TaskName, paths_of
from kdtui.profile.class_list import BINARY, FILE, MOST_CLASSES, Classes, inline_classes, name_mistake, parse_classes
from kdtui.profile.find import expanded, read_bounded
from kdtui.profile.layout import Layout
from kdtui.profile.patterns import mistake
from kdtui.profile.region_keys import HIERARCHICAL_CLASSES, RegionKeys
from kdtui.text import counted

# Upper bounds catch typing errors: far above useful values, and far below values that fill a disk, overflow or never
# end.
_MOST_SAMPLES = 100_000_000
_MOST_VIEWS = 1_000_000
Mean = Annotated[float, Field(strict=True, allow_inf_nan=False, ge=-1000.0, le=1000.0)]
Deviation = Annotated[float, Field(strict=True, allow_inf_nan=False, gt=0.0, le=1000.0)]
PixelValue = Annotated[float, Field(strict=True, allow_inf_nan=False, ge=-1e9, le=1e9)]
Scale = Annotated[float, Field(strict=True, allow_inf_nan=False, ge=0.1, le=10.0)]
Level = Literal["none", "light", "heavy"]
Evaluation = Literal["resize", "whole", "slide"]
Count = Annotated[int, Field(strict=True, ge=1, le=_MOST_SAMPLES)]
Share = Annotated[float, Field(strict=True, allow_inf_nan=False, gt=0.0, lt=1.0)]
Side = Annotated[int, Field(strict=True, ge=16, le=4096)]


class Unlabelled(ProfileTable):
    """Images without labels, of which every step adds some to the distillation alone.

    The teacher sees an image as its geometry leaves it, the student the same crop in other colours.

    Attributes:
        images: A folder, all images below it; a pattern such as `more/*/{name}.jpg`; or a list, a `.txt` file with one
            path per line. Default: the training samples that `train_limit` leaves out, without their labels.
        target: What the student learns: `soft`, the terms of the distillation that need no labels (cross entropy with
            the teacher's probabilities if all need them); `hard`, the teacher's class where the teacher is confident.
        threshold: Probability of the teacher's class from which a pixel is confident; `soft` learns from all pixels.
        share: Share of the images of a step that have no labels; 0.5 adds as many as `training.batch_size`.
        weight: Weight of these images in the distillation loss.
        colours: How much the colours of the student's view differ; `none` shows both networks the same view.
    """

    images: Annotated[str, Field(min_length=1), PathTo("FOLDER")] | None = None
    target: Literal["soft", "hard"] = "soft"
    threshold: Float = Field(0.9, gt=0.0, le=1.0)
    share: Float = Field(0.5, gt=0.0, lt=1.0)
    weight: Float = Field(1.0, gt=0.0, le=1_000_000.0)
    colours: Level = "heavy"

    def per_step(self, batch_size: int, devices: int) -> int:
        """Number of images in an optimizer step, at least one for each device."""
        return max(devices, round(batch_size * self.share / (1 - self.share)))


class DataTable(ProfileTable):
    """Keys of every kind of data. A kind adds ``kind``, its keys, and ``implementation``.

    Attributes:
        height: Height of the network's input in pixels, before padding to its stride.
        width: Width of the network's input in pixels.
        pipeline: Version of the code that makes the network's input from images and labels; 1 is that of runs that
            have no such key.
        geometry: `resize` shows whole images at `height` x `width`; `crop` shows parts of that size at the resolution
            of the files.
        scale: Smallest and largest magnification of crops for training.
        keep_aspect: `resize` keeps the aspect ratio: the mean colour and ignored pixels fill the rest.
        sampling: Where crops for training are: `uniform` anywhere, `rare` half of them around a pixel of a class drawn
            inversely to its frequency in the image.
        image_sampling: How often an epoch has each training image: `uniform` once, `rare` in proportion to 1/√(share of
            images with its rarest class), in as many steps.
        crop_class_max: Largest share of one class in a crop for training; another crop is drawn up to 9 times.
        cache_gib: Memory for decoded images of a split in GiB; further images are decoded every time.
        augmentation: Strength of the augmentation of training images.
        views: Number of different augmented views per sample; 0 draws a new one in every epoch.
        view_seed: Seed of the augmented views; runs of several seeds with the same one see the same views, in different
            orders. Default: the run's seed.
        train_limit: Use only this many training samples, or this share of them, chosen with the seed of the data
            (few-label settings).
        mean: Mean of each channel on the scale 0 to 1, which normalisation subtracts; `dataset` computes it once from
            training images. Default: for 3 channels that of the encoder's published weights, or ImageNet's; otherwise
            0.5.
        std: Standard deviation of each channel, by which normalisation divides, likewise. Default: for 3
            channels as `mean`, otherwise 0.25.
        evaluation: How evaluated samples are given to the network: `resize` to its input, `whole` at their own size, or
            `slide`: in windows at their own size whose logits are averaged; default: as `geometry`, `whole` for `crop`.
            Images in folders are scored at the size of their masks.
        window: Height and width of the windows of `slide`; default: the network's input.
        overlap: Share of a window that it has at least in common with its neighbour.
        val_limit: Evaluate each epoch on this many validation samples only, evenly spread; `kdtui evaluate` uses all.
        unlabelled: Images without labels for the distillation.
    """

    implementation: ClassVar[str]
    """``package.module:attribute`` of the dataset: a subclass of ``kdtui.engine.data.SegmentationDataset``."""
    training_keys: ClassVar[frozenset[str]] = frozenset(
        {"augmentation", "views", "view_seed", "train_limit", "scale", "sampling", "image_sampling", "crop_class_max"}
        | {"cache_gib"}
        | {"unlabelled"}
    )
    """Keys that only affect the training split; runs that differ in them are validated on the same data."""
    unwritten: ClassVar[frozenset[str]] = frozenset(
        {"geometry", "scale", "keep_aspect", "sampling", "image_sampling", "crop_class_max", "cache_gib"}
        | {"mean", "std"}
        | {"evaluation", "window", "overlap", "val_limit", "unlabelled"}
    )
    """Keys that are not written while they have their default, so that runs with and without them are comparable."""
    evaluation_keys: ClassVar[frozenset[str]] = frozenset()
    """Keys that `kdtui evaluate RUN --set` accepts for one evaluation: they do not change what is trained."""
    crop_keys: ClassVar[tuple[str, ...]] = ()
    """Keys without effect on samples that are whole pictures."""

    height: Int = Field(96, ge=16, le=4096)
    width: Int = Field(64, ge=16, le=4096)
    pipeline: Literal[1, 2] = 2
    geometry: Literal["resize", "crop"] = "resize"
    scale: tuple[Scale, ...] = (0.5, 2.0)
    keep_aspect: Bool = False
    sampling: Literal["uniform", "rare"] = "uniform"
    image_sampling: Literal["uniform", "rare"] = "uniform"
    crop_class_max: Float = Field(1.0, gt=0.0, le=1.0)
    cache_gib: Float = Field(2.0, ge=0.0, le=65_536.0)
    augmentation: Level = "light"
    views: Int = Field(0, ge=0, le=_MOST_VIEWS)
    view_seed: Int | None = Field(None, ge=0, lt=2**32)
    train_limit: Count | Share | None = None
    mean: Annotated[tuple[Mean, ...], Field(min_length=1)] | Literal["dataset"] | None = None
    std: Annotated[tuple[Deviation, ...], Field(min_length=1)] | Literal["dataset"] | None = None
    evaluation: Evaluation | None = None
    window: tuple[Side, ...] | None = Field(None, min_length=2, max_length=2)
    overlap: Float = Field(0.25, ge=0.0, le=0.9)
    val_limit: Int | None = Field(None, ge=1, le=_MOST_SAMPLES)
    unlabelled: Unlabelled | None = None

    @model_validator(mode="after")
    def _one_value_per_channel(self) -> Self:
        for key in ("mean", "std"):
            values = getattr(self, key)
            if isinstance(values, tuple) and len(values) != self.image_channels:
                raise ValueError(
                    f"found {len(values)} values in {key} and {counted(self.image_channels, 'channel')}; "
                    "allowed: one value per channel"
                )
        return self

    @model_validator(mode="after")
    def _evaluation_fits(self) -> Self:
        if self.evaluation not in (None, "resize") and self.pipeline == 1:
            raise ValueError(f'found evaluation "{self.evaluation}" and pipeline 1; allowed: "resize"')
        if self.evaluation == "resize" and self.geometry == "crop" and not self.whole_pictures:
            raise ValueError('found evaluation "resize" and geometry "crop"; allowed: "whole", "slide"')
        unused = [key for key in ("window", "overlap") if getattr(self, key) != type(self).model_fields[key].default]
        if unused and self.evaluation != "slide":
            raise ValueError(f'found {", ".join(unused)}; allowed: with evaluation = "slide"')
        return self

    @field_validator("scale")
    @classmethod
    def _two_scales(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if not (len(value) == 2 and value[0] <= value[1]):
            raise ValueError(f"found {_listed(value)}; allowed: [SMALLEST, LARGEST], as in [0.5, 2.0]")
        return value

    @model_validator(mode="after")
    def _geometry_fits(self) -> Self:
        default = type(self).model_fields
        cropping = ("scale", "sampling", "crop_class_max")
        if self.pipeline == 1:
            second = [
                key for key in ("geometry", "keep_aspect", *cropping) if getattr(self, key) != default[key].default
            ]
            if second:
                raise ValueError(f"found pipeline 1 and {', '.join(second)}; allowed: these keys with pipeline = 2")
        if self.geometry == "crop" and self.task == "hierarchical" and not self.whole_pictures:
            raise ValueError(
                'found geometry "crop"; allowed: "resize", as each sample is already a crop around its target'
            )
        if self.geometry == "crop" and self.keep_aspect:
            raise ValueError('found geometry "crop" and keep_aspect; allowed: keep_aspect with geometry = "resize"')
        unused = [key for key in cropping if getattr(self, key) != default[key].default]
        if self.geometry == "resize" and unused:
            raise ValueError(f'found {", ".join(unused)}; allowed: with geometry = "crop"')
        return self

    @model_validator(mode="after")
    def _unlabelled_fits(self) -> Self:
        if self.unlabelled is None:
            return self
        if self.pipeline == 1:
            raise ValueError("found unlabelled and pipeline 1; allowed: unlabelled with pipeline = 2")
        if self.unlabelled.images is None and self.train_limit is None:
            raise ValueError(
                "found unlabelled without images and without train_limit; allowed: one of both: "
                "train_limit leaves training samples without labels"
            )
        if self.unlabelled.images is not None and self.task == "hierarchical":
            raise ValueError(
                "found unlabelled.images and a hierarchical task, whose samples are crops around a target; "
                "allowed: train_limit, which leaves crops without labels"
            )
        return self

    @model_validator(mode="after")
    def _whole_pictures_fit(self) -> Self:
        if not self.whole_pictures:
            return self
        fields = type(self).model_fields
        unusable = ["unlabelled", "sampling", "crop_class_max", *self.crop_keys]
        set_keys = [key for key in unusable if getattr(self, key) != fields[key].default]
        if self.evaluation not in (None, "resize"):
            set_keys.append(f'evaluation "{self.evaluation}"')
        if self.pipeline == 1:
            set_keys.append("pipeline 1")
        if set_keys:
            raise ValueError(f'found {", ".join(set_keys)} and whole pictures; allowed: with sample = "crop"')
        return self

    @property
    def whole_pictures(self) -> bool:
        """Whether samples are whole pictures at the upper left of the network's input, with their aspect ratio."""
        return False

    @property
    def regions(self) -> bool:
        """Whether samples have boxes, each with a label map."""
        return False

    @property
    def builder(self) -> str:
        """``package.module:attribute`` of the dataset for these settings; by default ``implementation``."""
        return self.implementation

    @property
    def limit_seed(self) -> int:
        """Seed of the choice of ``train_limit``."""
        return 0

    @property
    def evaluation_mode(self) -> Evaluation:
        """``evaluation``, or its default."""
        return self.evaluation or ("whole" if self.geometry == "crop" and not self.whole_pictures else "resize")

    @model_serializer(mode="wrap")
    def _without_defaults(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        table: dict[str, Any] = serialize(self)
        fields = type(self).model_fields
        same = {key for key in self.unwritten if getattr(self, key) == fields[key].default}
        return {key: value for key, value in table.items() if key not in same}

    @property
    def task(self) -> TaskName:
        """The meaning of the labels: classes of pixels, or background, target and others in a crop."""
        return "semantic"

    @property
    def image_channels(self) -> int:
        """Number of channels of the images."""
        return 3

    @property
    def image_bgr(self) -> bool:
        """Whether the network gets blue, green, red instead of red, green, blue."""
        return False

    @property
    def class_list(self) -> str:
        """The file that lists the classes, for messages; empty if there is none."""
        return ""

    @property
    def label_hint(self) -> str:
        """What to check if a class has no pixel; empty if there is nothing to set."""
        return ""

    def class_names(self) -> tuple[str, ...] | None:
        """Names of the labels 0, 1, ...; None if only the dataset determines them."""
        return HIERARCHICAL_CLASSES if self.task == "hierarchical" else None

    def places(self, splits: Collection[str]) -> Iterator[PathKey]:
        """The paths from which these splits are read, with their keys in the profile; by default all of the table."""
        del splits
        yield from (place for place in paths_of(self, "data") if not place.key.startswith("data.unlabelled."))

    def files(self, split: str) -> Iterator[Path]:
        """The files whose change invalidates cached evaluations of a split; by default all files of its paths."""
        for place in self.places([split]):
            path = Path(place.path)
            yield from sorted(below for below in path.rglob("*") if below.is_file()) if path.is_dir() else [path]

    def as_stored(self) -> Self:
        """The table with defaults for the keys that do not change what is read from files, such as the size.

        The size stays if samples have boxes, as it decides which of them are too small.
        """
        fields = type(self).model_fields
        changing = DataTable.model_fields.keys() - ({"height", "width"} if self.regions else set())
        return self.model_copy(update={key: fields[key].default for key in changing})

    def fingerprint(self, split: str) -> str:
        """A text that changes with the settings or files of a split: by name, size and time (contents are not read).

        Raises:
            OSError: A file cannot be examined.
        """
        stamps = [(path.name, *size_and_time(path)) for path in self.files(split)]
        return json.dumps([self._validation_settings(), split, stamps], sort_keys=True)

    def _validation_settings(self) -> dict[str, Any]:
        settings = self.model_dump(mode="json", exclude=set(self.training_keys))
        if self.pipeline == 1:  # equal to cached evaluations of versions without this key
            del settings["pipeline"]
        return settings


def _listed(numbers: tuple[float, ...]) -> str:
    return f"[{', '.join(f'{number:g}' for number in numbers[:4])}{', …' * (len(numbers) > 4)}]"


def size_and_time(path: Path) -> tuple[int, int]:
    """What changes when the contents of a file do: its size in bytes, and its time of modification in ns."""
    status = path.stat()
    return status.st_size, status.st_mtime_ns


class SyntheticData(RegionKeys, DataTable):
    """Synthetic people, drawn procedurally; always hierarchical; no download.

    Attributes:
        seed: Seed of the scenes (not of the training), so that runs with other seeds use the same images.
        label_coarseness: Side in pixels of the blocks to which *training* labels are reduced; 1 is exact. With coarse
            annotations, a teacher knows more than the labels.
        label_noise: Share of the *training* crops in which the labels of target and other people are swapped, in [0,
        1].
    """

    implementation = "kdtui.engine.data.synthetic:SyntheticPeople"
    picture_implementation = "kdtui.engine.data.synthetic_scenes:synthetic_scenes"
    training_keys = DataTable.training_keys | {"train_samples", "label_coarseness", "label_noise"}
    training_keys |= {"max_instances", "roi_jitter"}
    unwritten = DataTable.unwritten | RegionKeys.unwritten

    kind: Literal["synthetic"] = "synthetic"
    train_samples: Int = Field(1000, ge=1, le=_MOST_SAMPLES)
    val_samples: Int = Field(200, ge=1, le=_MOST_SAMPLES)
    test_samples: Int = Field(200, ge=1, le=_MOST_SAMPLES)
    seed: Int = Field(0, ge=0, lt=2**32)
    label_coarseness: Int = Field(1, ge=1, le=64)
    label_noise: Float = Field(0.0, ge=0.0, le=1.0)

    @property
    def limit_seed(self) -> int:
        """Seed of the scenes."""
        return self.seed


class ImageData(DataTable):
    """Keys of data in image files.

    Attributes:
        channels: Number of channels of the images: 1 (colours become grey), 3 (grey becomes colours), or those of the
            files, which may be TIFFs of any number.
        bgr: Whether the network gets blue, green, red, as one trained with OpenCV; `mean` and `std` have this order
            too.
        value_range: The values in the image files for black and white (a list of two), such as [0, 4095] for 12 bits in
            16-bit files; an exported network expects images scaled in the same way. Default: 8-bit values unchanged,
            and the upper byte of 16-bit ones.
    """

    unwritten = DataTable.unwritten | {"channels", "bgr"}

    channels: Int = Field(3, ge=1, le=64)
    bgr: Bool = False
    value_range: tuple[PixelValue, ...] | None = None

    @property
    def image_channels(self) -> int:
        """See the key."""
        return self.channels

    @property
    def image_bgr(self) -> bool:
        """See the key."""
        return self.bgr

    @model_validator(mode="after")
    def _usable_channels(self) -> Self:
        if self.bgr and self.channels < 3:
            raise ValueError(f"found bgr and {counted(self.channels, 'channel')}; allowed: bgr with 3 or more channels")
        if self.pipeline == 1 and (self.channels != 3 or self.bgr):
            raise ValueError("found pipeline = 1 with channels or bgr; allowed: pipeline = 2 with these keys")
        return self

    @field_validator("value_range")
    @classmethod
    def _two_that_rise(cls, value: tuple[float, ...] | None) -> tuple[float, ...] | None:
        if value is not None and not (len(value) == 2 and value[0] < value[1]):
            raise ValueError(f"found {_listed(value)}; allowed: two increasing numbers, [LOWEST, HIGHEST]")
        return value

    def _validation_settings(self) -> dict[str, Any]:
        settings = super()._validation_settings()
        if self.value_range is None:  # equal to cached evaluations of versions without this key
            del settings["value_range"]
        return settings


class CocoSplit(ProfileTable):
    """One split: the folder of images and the instance JSON."""

    images: FolderPath
    annotations: FilePath


class CocoData(RegionKeys, ImageData):
    """COCO instances of one category: crops around them, or whole pictures.

    Attributes:
        category: The category of the instances.
        padding: Fraction of the box that is added on each side of a crop.
        minimum_size: Crops are not made of boxes with a side shorter than this many pixels.
        holdout: Share of the training *images* held out for validation if there is no ``val`` split.
        boxes: Boxes of evaluated pictures with `sample = "image"`: those of the annotations, `truth` (the default), or
            those of a detector, a file of COCO results. They are matched to the annotations at an IoU of 0.5.
    """

    implementation = "kdtui.engine.data.coco:PersonCrops"
    picture_implementation = "kdtui.engine.data.coco_pictures:coco_pictures"
    training_keys = ImageData.training_keys | {"max_instances", "roi_jitter"}
    region_keys = RegionKeys.region_keys | {"boxes"}
    unwritten = ImageData.unwritten | RegionKeys.unwritten | {"boxes"}
    crop_keys = ("padding", "minimum_size")
    evaluation_keys = frozenset({"boxes"})

    kind: Literal["coco"] = "coco"
    train: CocoSplit
    val: CocoSplit | None = None
    test: CocoSplit | None = None
    category: str = "person"
    padding: Float = Field(0.25, ge=0.0, le=4.0)
    minimum_size: Int = Field(10, ge=1, le=100_000)
    holdout: Float = Field(0.15, gt=0.0, lt=1.0)
    boxes: FilePath | None = None

    @field_validator("boxes")
    @classmethod
    def _truth_is_the_default(cls, value: str | None) -> str | None:
        return None if value == "truth" else value

    @property
    def instance_name(self) -> str:
        """See the key."""
        return self.category

    def places(self, splits: Collection[str]) -> Iterator[PathKey]:
        """Annotations and images of these splits."""
        for name in splits:
            key, split = self._split(name)
            yield PathKey(f"data.{key}.annotations", split.annotations, "FILE")
            yield PathKey(f"data.{key}.images", split.images, "FOLDER")
        if self.boxes is not None:
            yield PathKey("data.boxes", self.boxes, "FILE")

    def files(self, split: str) -> Iterator[Path]:
        """The annotation file and, of an evaluated split, that of boxes; there are too many images to check each."""
        yield Path(self._split(split)[1].annotations)
        if self.boxes is not None and split != "train":
            yield Path(self.boxes)

    def _split(self, name: str) -> tuple[str, CocoSplit]:
        own: CocoSplit | None = getattr(self, name)
        return ("train", self.train) if own is None else (name, own)  # a missing split is held out from train


_LARGEST_VALUE = 2**31 - 1
FileValue = (
    Annotated[int, Field(strict=True, ge=-_LARGEST_VALUE, le=_LARGEST_VALUE)]
    | Annotated[str, Field(pattern=r"^#[0-9a-fA-F]{6}$")]
)
"""A value in a mask: a number, or a colour ``#rrggbb``."""
MapEntry = (
    Annotated[int, Field(strict=True, ge=-_LARGEST_VALUE, le=_LARGEST_VALUE)]
    | Annotated[str, Field(min_length=1)]
    | Annotated[tuple[FileValue, ...], Field(min_length=1)]
)


class FolderData(ImageData):
    """Images with masks in folders below ``root``; always semantic.

    Attributes:
        images: Pattern of the images below `root`: `{split}` is the folder name of the split, `{name}` what image and
            mask have in common, `*` any text, `**` any folders; without a file ending, all formats match.
        masks: Pattern of the masks; image and mask also have the texts of `*` in common.
        list: List files below `root`, such as `lists/{split}.txt`: one line per image, a name or a path, or image and
            mask separated by a comma, a tab or a space.
        splits: Folder names of the splits, `{train = …, val = …, test = …}`, where they have other names.
        holdout: Share of the training images that is the validation split; default: it has files of its own.
        group: Regular expression on the path of an image; images with the same first group, or the same match, are one
            clip: they are held out together, and drawn together for the intervals of `kdtui compare`.
        classes: Class names, each with an optional colour, `"road #804080"`; default: those of `classes.txt`.
        labels: What masks contain: class numbers, the colours of the classes, or foreground where the grey value is
            above `threshold`.
        threshold: Largest grey value of the background in `binary` masks.
        label_map: Classes of the values in masks: `{ "7" = "road" }`, or `{ road = [7, 8] }`; every value must be in it
            or in `ignore`. Values are numbers, or colours `#rrggbb` if `labels` is `colour`.
        ignore: Values in masks that do not count, numbers or colours.
    """

    implementation = "kdtui.engine.data.folder:LabelFolder"
    unwritten = ImageData.unwritten | {"images", "masks", "list", "splits", "holdout", "group"}
    unwritten |= {"classes", "labels", "threshold", "label_map", "ignore"}

    kind: Literal["folder"] = "folder"
    root: FolderPath
    images: str = "images/{split}/{name}"
    masks: str = "masks/{split}/{name}"
    list: str | None = None
    splits: dict[Literal["train", "val", "test"], Annotated[str, Field(min_length=1)]] | None = None
    holdout: Float | None = Field(None, gt=0.0, lt=1.0)
    group: str | None = None
    classes: tuple[str, ...] | None = Field(None, min_length=2, max_length=MOST_CLASSES)
    labels: Literal["index", "colour", "binary"] = "index"
    threshold: Int = Field(127, ge=0, le=254)
    label_map: dict[str, MapEntry] | None = Field(None, min_length=1)
    ignore: tuple[FileValue, ...] = ()

    @field_validator("images", "masks", "list")
    @classmethod
    def _sound_pattern(cls, value: str | None, info: ValidationInfo) -> str | None:
        allowed = None if value is None else mistake(value, named=info.field_name != "list")
        if allowed:
            raise ValueError(f"found '{value}'; allowed: {allowed}")
        return value

    @field_validator("group")
    @classmethod
    def _sound_expression(cls, value: str | None) -> str | None:
        try:
            re.compile(value or "")
        except re.error as error:
            raise ValueError(f"found '{value}'; allowed: a regular expression ({error})") from None
        return value

    @field_validator("classes")
    @classmethod
    def _sound_names(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        names = inline_classes(value or ()).names
        for name in names:
            allowed = name_mistake(name)
            if allowed:
                raise ValueError(f"found a class named {name!r}; allowed: {allowed}")
        twice = [name for name, count in Counter(names).items() if count > 1]
        if twice:
            raise ValueError(f"found two classes named '{twice[0]}'; allowed: distinct names")
        return value

    @model_validator(mode="after")
    def _consistent(self) -> FolderData:
        if self.labels == "binary":
            for key in ("label_map", "ignore"):
                if getattr(self, key):
                    raise ValueError(f'found {key} and labels = "binary"; allowed: {key} with "index" or "colour"')
            if self.classes is not None and len(self.classes) != 2:
                raise ValueError(f'found {len(self.classes)} classes and labels = "binary"; allowed: two classes')
        elif "threshold" in self.model_fields_set and self.threshold != 127:
            raise ValueError(f'found threshold and labels = "{self.labels}"; allowed: threshold with labels = "binary"')
        if self.images == self.masks:
            raise ValueError(f"found the same pattern for images and masks, '{self.images}'; allowed: two patterns")
        self._check_values()
        return self

    def _check_values(self) -> None:
        """Check that values have the type that ``labels`` needs, and that each is mapped once."""
        mapped = [value for values in (self.mapped_values() or {}).values() for value in values]
        for value in [*mapped, *self.ignore]:
            if isinstance(value, str) != (self.labels == "colour"):
                allowed = "colours '#rrggbb'" if self.labels == "colour" else "numbers"
                raise ValueError(f'found the value {value!r} and labels = "{self.labels}"; allowed: {allowed}')
        twice = [value for value, count in Counter([*mapped, *dict.fromkeys(self.ignore)]).items() if count > 1]
        if twice:
            raise ValueError(
                f"found the value {twice[0]!r} twice in label_map and ignore; allowed: one class for a value"
            )
        unknown = {*(self.mapped_values() or {})} - {*inline_classes(self.classes or ()).names}
        if self.classes is not None and unknown:
            raise ValueError(f"found the class '{min(unknown)}' in label_map; allowed: the names in classes")

    def mapped_values(self) -> dict[str, tuple[int | str, ...]] | None:
        """The values in masks of each class of ``label_map``, from either of its notations."""
        if self.label_map is None:
            return None
        values: dict[str, tuple[int | str, ...]] = {}
        for key, entry in self.label_map.items():
            if isinstance(entry, str) and not COLOUR.fullmatch(entry):
                value: int | str = int(key) if re.fullmatch(r"-?\d{1,10}", key) else key.lower()
                values[entry] = (*values.get(entry, ()), value)
            else:
                entries = entry if isinstance(entry, tuple) else (entry,)
                own = tuple(value.lower() if isinstance(value, str) else value for value in entries)
                values[key] = (*values.get(key, ()), *own)
        return values

    @property
    def class_list(self) -> str:
        """``classes.txt``, unless the profile lists the classes."""
        return FILE if self.listed_classes() is None else ""

    @property
    def label_hint(self) -> str:
        """What determines the class of a value."""
        if self.labels == "binary":
            return f"compare data.threshold ({self.threshold}) with the values in the masks"
        what = "colours" if self.labels == "colour" else "values"
        keys = [key for key in ("label_map", "classes") if getattr(self, key) is not None]
        return f"compare {f'data.{keys[0]}' if keys else FILE} with the {what} in the masks"

    def layout(self) -> Layout:
        """Where images and masks are."""
        folders = {str(split): folder for split, folder in (self.splits or {}).items()}
        return Layout(expanded(self.root), self.images, self.masks, self.list or "", folders, self.holdout, self.group)

    def listed_classes(self) -> Classes | None:
        """The classes, if the profile determines them; otherwise they are those of ``classes.txt``."""
        if self.classes is not None:
            return inline_classes(self.classes)
        entries = (self.label_map or {}).values()
        if not entries or any(isinstance(entry, str) and not COLOUR.fullmatch(entry) for entry in entries):
            return None
        return inline_classes(tuple(self.mapped_values() or ()))

    def class_names(self) -> tuple[str, ...] | None:
        """The names in the profile or in ``classes.txt``; None if it cannot be read, which a check reports."""
        listed = self.listed_classes()
        if listed is None:
            path = expanded(self.root) / FILE
            try:
                # Reading a pipe could block.
                text = read_bounded(path).removeprefix("\ufeff") if path.is_file() else None
                listed = None if text is None else parse_classes(text, path)
            except (OSError, ValueError, DataError):  # ValueError: too large or not UTF-8
                return None
        if listed is None and self.labels == "binary":
            listed = BINARY
        return None if listed is None else listed.names

    def files(self, split: str) -> Iterator[Path]:
        """Images and masks of the split, its list, and ``classes.txt``."""
        yield from self.layout().files(split)
        if self.listed_classes() is None:
            path = expanded(self.root) / FILE
            if self.labels != "binary" or path.exists():
                yield path


BUILT_IN: tuple[type[DataTable], ...] = (SyntheticData, CocoData, FolderData)
"""The built-in kinds of data; the first is the default of ``data.kind``."""


def data_kinds() -> tuple[type[DataTable], ...]:
    """The tables of all kinds of data, built-in ones first."""
    return (*BUILT_IN, *plugins.tables(plugins.DATA, DataTable, "kind", built_in=BUILT_IN))


def training_keys(kind: Any) -> frozenset[str]:
    """Keys of a kind of data that only affect the training split.

    Args:
        kind: Name of the kind; if it is not installed, the keys of every kind are used.
    """
    table = next((table for table in data_kinds() if table.model_fields["kind"].default == kind), DataTable)
    return table.training_keys
