"""Keys of data whose samples may be whole pictures with the boxes of instances, each with a label map."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from kdtui.profile.base import Float, Int, ProfileTable, TaskName

HIERARCHICAL_CLASSES = ("background", "target", "other")
MaskSide = Annotated[int, Field(strict=True, ge=8, le=1024)]


class RegionKeys(ProfileTable):
    """Keys of such data.

    Attributes:
        sample: What a sample is: `crop`, the part of a picture around one instance; `image`, a whole picture with the
            boxes of its instances, for networks with a mask per box; `foreground`, a whole picture with one mask of all
            instances. Whole pictures keep their aspect ratio, and are padded at the right and the bottom; with
            `geometry = "crop"`, training shows parts of them, and `scale` is relative to the whole picture.
        mask_size: Height and width of the label map of each box, as the network's masks.
        max_instances: Largest number of boxes of a picture in training; where there are more, each view has other ones.
            Evaluations have all.
        roi_padding: Share of a box by which it is enlarged on each side.
        roi_jitter: Largest share of a box by which its edges are moved at random in training.
        min_box: Boxes with a side below this many pixels of the network's input are left out.
    """

    implementation: ClassVar[str]
    picture_implementation: ClassVar[str]
    """As ``implementation``, of the dataset of whole pictures."""
    region_keys: ClassVar[frozenset[str]] = frozenset(
        {"mask_size", "max_instances", "roi_padding", "roi_jitter", "min_box"}
    )
    """Keys that only affect samples with boxes."""
    unwritten = region_keys | {"sample"}

    sample: Literal["crop", "image", "foreground"] = "crop"
    mask_size: tuple[MaskSide, ...] = (160, 120)
    max_instances: Int = Field(16, ge=1, le=1000)
    roi_padding: Float = Field(0.1, ge=0.0, le=2.0)
    roi_jitter: Float = Field(0.05, ge=0.0, le=0.4)
    min_box: Int = Field(8, ge=1, le=4096)

    @field_validator("mask_size")
    @classmethod
    def _two_sides(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if len(value) != 2:
            raise ValueError(f"found {list(value)}; allowed: [HEIGHT, WIDTH], as in [160, 120]")
        return value

    @model_validator(mode="after")
    def _only_with_boxes(self) -> Self:
        keys = sorted(self.region_keys)
        fields = type(self).model_fields
        unused = [key for key in keys if getattr(self, key) != fields[key].default]
        if unused and not self.regions:
            raise ValueError(f'found {", ".join(unused)} and sample "{self.sample}"; allowed: with sample = "image"')
        return self

    @property
    def task(self) -> TaskName:
        """A label map is that of one instance, or of all."""
        return "semantic" if self.sample == "foreground" else "hierarchical"

    @property
    def whole_pictures(self) -> bool:
        """Whether samples are whole pictures."""
        return self.sample != "crop"

    @property
    def regions(self) -> bool:
        """Whether samples have boxes, each with a label map."""
        return self.sample == "image"

    @property
    def builder(self) -> str:
        """``package.module:attribute`` of the dataset for these settings."""
        return self.picture_implementation if self.whole_pictures else self.implementation

    @property
    def instance_name(self) -> str:
        """What an instance is."""
        return "person"

    def class_names(self) -> tuple[str, ...]:
        """Names of the labels 0, 1, ..."""
        return ("background", self.instance_name) if self.sample == "foreground" else HIERARCHICAL_CLASSES
