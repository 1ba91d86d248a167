"""Every layout of a folder: all samples are read, with the right labels."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import numpy as np
import pytest

from kdtui.engine.data import build_dataset, survey
from kdtui.profile import FolderData
from kdtui.profile.find import SHIPPED
from kdtui.profile.loading import resolve
from tests.docs import DOCS
from tests.engine.data.miniatures import MINIATURES, Miniature, image, saved, stripes


def table_of(miniature: Miniature, root: Path) -> FolderData:
    """The table of a miniature: that of its profile with the place of the files, or its own."""
    table = resolve(SHIPPED / f"{miniature.profile}.toml").table["data"] if miniature.profile else {"kind": "folder"}
    size = {"height": 32, "width": 32, "augmentation": "none"}
    return FolderData.model_validate({**table, **miniature.keys, **size, "root": str(root)})


@pytest.mark.parametrize("name", MINIATURES)
def test_every_sample_of_a_layout_is_read(tmp_path: Path, name: str) -> None:
    miniature = MINIATURES[name](tmp_path)
    data = table_of(miniature, tmp_path)
    splits = {split: build_dataset(data, split) for split in ("train", "val")}
    assert len(splits["train"]) >= 3 and len(splits["val"]) >= 1
    for dataset in splits.values():
        assert dataset.classes == data.class_names() and len(dataset.classes) == miniature.classes
        assert survey(dataset).checked == len(dataset) and not dataset.notes()
        for index in range(len(dataset)):
            sample = dataset[index, 0]
            assert sample.image.shape == (data.channels, 32, 32) and sample.mask.shape == (32, 32)
            assert np.array_equal(dataset.look(index).labels, miniature.labels)
    assert not {*splits["train"].files()} & {*splits["val"].files()}
    assert {*splits["val"].files()} <= {*data.files("val")}
    assert data.fingerprint("val") == data.fingerprint("val")


def examples() -> list[tuple[str, str, str]]:
    """The examples of "Describe your layout": names of files, content of a list file, and the profile."""
    text = (DOCS / "data.md").read_text(encoding="utf-8")
    section = text.split("## Describe your layout")[1].split("\n## ")[0]
    parts: dict[str, str] = {}
    found = []
    for language, block in re.findall(r"^```(\w*)\n(.*?)^```$", section, flags=re.DOTALL | re.MULTILINE):
        parts[language] = block
        if language == "toml":
            found.append((parts.get("", ""), parts.get("text", ""), parts["toml"]))
            parts = {}
    return found


def made(root: Path, data: FolderData, files: str, listed: str) -> int:
    """Make the files of an example; the number of images."""
    rows = [line.split(",") for line in listed.splitlines()[1:]]
    paths = [*files.splitlines(), *(path for row in rows for path in row)]
    images = [row[0] for row in rows] or [path for path in paths if path.lower().endswith(("rgb.png", ".jpg"))]
    if listed:
        (root / str(data.list)).write_text(listed, encoding="utf-8")
    for path in paths:
        if path.endswith(".txt"):
            names = sorted(Path(image).stem for image in images)
            (root / path).parent.mkdir(exist_ok=True)
            (root / path).write_text("\n".join(names[:1] if "val" in path else names[1:2]))
        elif path in images:
            saved(image(1), root / path)
        elif data.labels == "colour":
            saved(np.array([[0, 0x80, 0xFF], [0, 0, 0]], np.uint8)[stripes(0, 1)], root / path)
        else:
            saved(stripes(0, 255 if data.label_map or data.labels == "binary" else 1), root / path)
    return len(images)


@pytest.mark.parametrize(("files", "listed", "profile"), examples(), ids=["towns", "cars", "listed", "pairs"])
def test_every_layout_of_the_documents_can_be_read(tmp_path: Path, files: str, listed: str, profile: str) -> None:
    table = tomllib.loads(profile)["data"]
    data = FolderData.model_validate({**table, "root": str(tmp_path), "height": 32, "width": 32})
    count = made(tmp_path, data, files, listed)
    datasets = [build_dataset(data, split) for split in ("train", "val")]
    assert sum(map(len, datasets)) == (2 if data.list and not listed else count) and all(map(len, datasets))
    for dataset in datasets:
        assert dataset.classes == data.class_names()
        assert survey(dataset).pixels[0] > 0
