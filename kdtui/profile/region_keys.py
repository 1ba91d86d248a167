"""Keys of data whose samples may be whole pictures with the boxes of instances, each with a label map."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from kdtui.profile.base import Float, Int, ProfileTable

MaskSide = Annotated[int, Field(strict=True, ge=8, le=1024)]


class RegionKeys(ProfileTable):
    """Keys of such data.

    Attributes:
        sample: What a sample is: `crop`, the part of a picture around one instance; `image`, a whole picture with the
            boxes of its instances, for networks with a mask per box: its aspect ratio is kept, and it is padded at the
            right and the bottom. There, `geometry = "crop"` shows parts of pictures in training, and `scale` is
            relative to the whole picture at `height` x `width`.
        mask_size: Height and width of the label map of each box, as the network's masks.
        max_instances: Largest number of boxes of a picture in training; where there are more, each view has other ones.
            Evaluations have all.
        roi_padding: Share of a box by which it is enlarged on each side.
        roi_jitter: Largest share of a box by which its edges are moved at random in training.
        min_box: Boxes with a side below this many pixels of the network's input are left out.
    """

    unwritten = frozenset({"sample", "mask_size", "max_instances", "roi_padding", "roi_jitter", "min_box"})

    sample: Literal["crop", "image"] = "crop"
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

    @property
    def regions(self) -> bool:
        """Whether samples are whole pictures."""
        return self.sample == "image"
