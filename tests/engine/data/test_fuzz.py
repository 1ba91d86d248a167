"""Whatever the bytes of a data file are: it is read, or refused in one message with its name. Nothing else happens."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from kdtui.engine.data import build_dataset
from kdtui.engine.data.folder import read_classes
from kdtui.engine.data.images import ImageFormat, extent, read_values
from kdtui.engine.data.pictures import as_labels, open_picture, upright
from kdtui.errors import DataError
from tests.engine.data.makers import HEIGHT, WIDTH, annotation, coco, counts, instances, tiff_file

fuzz = settings(
    max_examples=settings().max_examples // 3,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

CONTENT = instances(
    annotation(1, (10, 5, 20, 30)),
    annotation(2, (25, 5, 20, 30), segmentation=[{"size": [HEIGHT, WIDTH], "counts": counts(25, 5, 20, 30)}]),
    annotation(3, (20, 0, 30, 10), iscrowd=1, segmentation={"size": [HEIGHT, WIDTH], "counts": "0" * 20}),
)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([10**4000, -1, 2**63, 1e308, float("inf"), float("nan"), "7", "1e400", "\ud800", "\x00", "../x"])
    | st.floats()
    | st.text(max_size=8),
    lambda part: st.lists(part, max_size=6) | st.dictionaries(st.text(max_size=8), part, max_size=4),
    max_leaves=12,
)
PLACES = [
    ("images", 0),
    *(("images", 0, key) for key in ("id", "file_name", "width", "height")),
    ("annotations", 0),
    *(
        ("annotations", entry, key)
        for entry in range(3)
        for key in ("id", "image_id", "category_id", "bbox", "segmentation", "iscrowd")
    ),
    ("annotations", 0, "segmentation", 0),
    ("annotations", 0, "segmentation", 0, 3),
    ("annotations", 1, "segmentation", 0, "counts"),
    ("annotations", 1, "segmentation", 0, "size"),
    ("annotations", 2, "segmentation", "counts"),
    ("categories", 0),
    ("categories", 0, "id"),
    ("categories", 0, "name"),
    ("images",),
    ("annotations",),
    ("categories",),
]


@fuzz
@given(st.lists(st.tuples(st.sampled_from(PLACES), JSON), min_size=1, max_size=3))
def test_any_value_anywhere_in_annotations(tmp_path: Path, changes: list[tuple[tuple[Any, ...], Any]]) -> None:
    content = copy.deepcopy(CONTENT)
    for place, value in changes:
        part: Any = content
        with contextlib.suppress(KeyError, IndexError, TypeError):  # an earlier change may have taken the place away
            for step in place[:-1]:
                part = part[step]
            part[place[-1]] = value
    data = coco(tmp_path, content)
    try:
        dataset = build_dataset(data, "val")
        for index in range(len(dataset)):
            dataset.look(index)
    except DataError as error:
        assert len(error.message) < 3000


@fuzz
@given(st.binary(max_size=200) | st.text(alphabet='[]{}:,"0123456789.eE+-NaIfinty ', max_size=200).map(str.encode))
def test_any_bytes_as_annotations(tmp_path: Path, content: bytes) -> None:
    data = coco(tmp_path, CONTENT)
    (tmp_path / "instances.json").write_bytes(content)
    with pytest.raises(DataError, match=r"instances\.json"):
        build_dataset(data, "val")


def pictures() -> list[bytes]:
    """Small files of each format, and in some of their modes and compressions."""
    exif = Image.Exif()
    exif[0x0112] = 6
    image = Image.radial_gradient("L").resize((24, 16))
    files = []
    for kind, mode, options in (
        ("PNG", "RGB", {"exif": exif}),
        ("PNG", "P", {}),
        ("PNG", "I;16", {}),
        ("JPEG", "RGB", {"exif": exif}),
        ("JPEG", "CMYK", {}),
        ("BMP", "RGB", {}),
        ("TIFF", "L", {"exif": exif}),
        ("TIFF", "RGB", {"compression": "tiff_lzw"}),
        ("TIFF", "F", {}),
        ("WEBP", "RGBA", {"exif": exif}),
        ("WEBP", "RGB", {"save_all": True, "append_images": [image.convert("RGB").rotate(90)]}),
    ):
        written = BytesIO()
        image.convert(mode).save(written, kind, **options)
        files.append(written.getvalue())
    values = np.random.default_rng(0).integers(0, 4096, (16, 24, 5), dtype=np.uint16)
    files += [tiff_file(values), tiff_file(values, planar=True, deflated=True)]
    return files


PICTURES = pictures()
EDITS = st.lists(st.tuples(st.integers(0, 2000), st.binary(max_size=4), st.integers(0, 4)), min_size=1, max_size=4)


@fuzz
@given(st.sampled_from(PICTURES), EDITS, st.none() | st.integers(0, 2000))
def test_any_damage_to_a_picture(
    tmp_path: Path, content: bytes, edits: list[tuple[int, bytes, int]], cut: int | None
) -> None:
    damaged = bytearray(content)
    for place, new, old in edits:
        place %= len(content)
        damaged[place : place + old] = new
    path = tmp_path / "a.png"
    path.write_bytes(damaged[:cut])
    uses: tuple[Callable[[], object], ...] = (
        lambda: ImageFormat().image(read_values(path), path),
        lambda: ImageFormat(channels=4, value_range=(0, 4095)).image(read_values(path), path),
        lambda: extent(read_values(path)),
        lambda: as_labels(upright(open_picture(path, mask=True)), path),
    )
    for use in uses:
        try:
            use()
        except DataError as error:
            assert "a.png" in error.message and len(error.message) < 1000


@fuzz
@given(st.binary(max_size=120) | st.text(alphabet="0123456789 \nignore_index\tsky²١", max_size=80).map(str.encode))
def test_any_bytes_as_a_class_list(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "classes.txt"
    path.write_bytes(content)
    try:
        classes = read_classes(path)
    except DataError as error:
        assert "classes.txt" in error.message
    else:
        assert 2 <= len(classes.names) == len(classes.values) <= 255
