"""What a table of data knows without torch, for every kind."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from kdtui.errors import ProfileError
from kdtui.profile import CocoData, CocoSplit, DataTable, FolderData, Profile, SyntheticData, absolute, load
from kdtui.profile.base import FolderPath, ProfileTable, paths_of, with_paths
from kdtui.profile.data_tables import BUILT_IN, training_keys


def data_of(kind: type[DataTable], folder: Path) -> DataTable:
    """A table of each kind whose files exist."""
    for split in ("train", "val"):
        for part in ("images", "masks"):
            (folder / part / split).mkdir(parents=True)
            (folder / part / split / "a.png").write_text(f"{part} {split}")
        (folder / f"{split}.json").write_text("{}")
    (folder / "classes.txt").write_text("\ufeff0 sky\n1 road side #aabbcc\nignore_index 11 void\n")
    splits = {
        name: CocoSplit(images=str(folder / "images" / name), annotations=str(folder / f"{name}.json"))
        for name in ("train", "val")
    }
    tables: dict[type[DataTable], DataTable] = {
        SyntheticData: SyntheticData(),
        CocoData: CocoData(**splits),
        FolderData: FolderData(root=str(folder)),
    }
    return tables[kind]


@pytest.fixture(params=BUILT_IN, ids=lambda kind: str(kind.model_fields["kind"].default))
def data(request: pytest.FixtureRequest, tmp_path: Path) -> DataTable:
    kind: type[DataTable] = request.param
    return data_of(kind, tmp_path)


def test_its_places_are_paths_of_the_profile(data: DataTable) -> None:
    every = {place.key: place.path for place in paths_of(Profile(name="x", data=data))}
    for splits in (["val"], ["train", "val"], ["test"]):
        assert {place.key: place.path for place in data.places(splits)}.items() <= every.items()


def test_paths_in_lists_of_tables_are_paths_too() -> None:
    class Part(ProfileTable):
        root: FolderPath

    class Parts(ProfileTable):
        parts: tuple[Part, ...]

    parts = Parts(parts=(Part(root="a"), Part(root="b")))
    assert [(place.key, place.path) for place in paths_of(parts, "data")] == [
        ("data.parts[0].root", "a"),
        ("data.parts[1].root", "b"),
    ]
    assert [place.path for place in paths_of(with_paths(parts, str.upper))] == ["A", "B"]


def test_paths_are_made_absolute_and_nothing_else_changes(data: DataTable, tmp_path: Path) -> None:
    relative = Profile(name="x", data=data).model_dump_json().replace(str(tmp_path), "data")
    changed = absolute(Profile.model_validate_json(relative))
    assert changed.model_dump_json() == relative.replace("data/", f"{Path.cwd()}/data/").replace(
        'root":"data"', f'root":"{Path.cwd()}/data"'
    )


def test_names_and_fingerprints_follow_the_files_of_the_split(data: DataTable, tmp_path: Path) -> None:
    assert data.class_names() == (("sky", "road side") if data.class_list else ("background", "target", "other"))
    before = data.fingerprint("val")
    assert data.model_copy(update={"views": 3}).fingerprint("val") == before
    assert data.model_copy(update={"height": 64}).fingerprint("val") != before
    for split, changes in (("train", False), ("val", True)):
        for file in (tmp_path / f"{split}.json", tmp_path / "masks" / split / "a.png"):
            os.utime(file, ns=(1, 1))
        assert (data.fingerprint("val") != before) == (changes and bool(list(data.files("val"))))


def test_keys_of_training_are_keys_of_the_table(data: DataTable) -> None:
    assert data.training_keys <= type(data).model_fields.keys()
    assert training_keys(type(data).model_fields["kind"].default) == data.training_keys
    assert training_keys("not installed") == DataTable.training_keys


@pytest.mark.parametrize(
    ("sets", "message"),
    [
        (["data.height=5000"], r"data.height .*found 5000; allowed: an integer, >= 16, <= 4096"),
        (["data.scale=[2.0,0.5]"], r"data.scale .*found \[2, 0.5\]; allowed: \[SMALLEST, LARGEST\], as in"),
        (["data.scale=[1.0]"], r"data.scale .*found \[1\]; allowed: \[SMALLEST, LARGEST\], as in"),
        (["data.scale=[0.0,1.0]"], r"data.scale\[0\] .*found 0.0; allowed: a number, >= 0.1, <= 10"),
        (["data.crop_class_max=0.0"], r"data.crop_class_max .*found 0.0; allowed: a number, > 0.0, <= 1.0"),
        (["data.crop_class_max=1.5"], r"data.crop_class_max .*found 1.5; allowed: a number, > 0.0, <= 1.0"),
        (["data.geometry=crop", "data.keep_aspect=true"], r'found geometry "crop" and keep_aspect; allowed: keep_asp'),
        (["data.geometry=resize", "data.sampling=rare"], r'found sampling; allowed: with geometry = "crop"'),
        (["data.pipeline=1", "data.sampling=rare"], r"found pipeline 1 and geometry, sampling; allowed: these keys wi"),
        (["data.pipeline=3"], r"data.pipeline .*found 3; allowed: one of 1, 2"),
    ],
)
def test_a_geometry_that_cannot_be_is_one_message(tmp_path: Path, sets: list[str], message: str) -> None:
    file = tmp_path / "crops.toml"
    file.write_text('[data]\nkind = "folder"\nroot = "."\ngeometry = "crop"\nheight = 64\nwidth = 64\n')
    with pytest.raises(ProfileError) as caught:
        load(file, sets)
    assert len(caught.value.mistakes) == 1
    assert re.search(message, caught.value.mistakes[0]), caught.value.mistakes


@pytest.mark.parametrize("kind", [SyntheticData, CocoData])
def test_samples_that_are_crops_already_are_not_cropped_again(kind: type[DataTable], tmp_path: Path) -> None:
    table = data_of(kind, tmp_path).model_dump() | {"geometry": "crop"}
    with pytest.raises(ValidationError, match='allowed: "resize", as each sample is already a crop around its target'):
        kind.model_validate(table)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"evaluation": "whole"}, 'found evaluation "whole" and whole pictures; allowed: with sample = "crop"'),
        ({"pipeline": 1}, "found pipeline 1 and whole pictures"),
        ({"geometry": "crop", "sampling": "rare"}, "found sampling and whole pictures"),
        ({"train_limit": 5, "unlabelled": {}}, "found unlabelled and whole pictures"),
        ({"mask_size": [160]}, r"found \[160\]; allowed: \[HEIGHT, WIDTH\]"),
        ({"sample": "crop", "mask_size": [80, 60]}, 'found mask_size and sample "crop"; allowed: with sample = "im'),
        ({"sample": "foreground", "min_box": 9}, 'found min_box and sample "foreground"; allowed: with sample = "im'),
    ],
)
@pytest.mark.parametrize("kind", [SyntheticData, CocoData])
def test_keys_that_do_not_fit_whole_pictures_are_one_message(
    kind: type[DataTable], tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    table = data_of(kind, tmp_path).model_dump() | {"sample": "image"} | changes
    with pytest.raises(ValidationError, match=message) as refused:
        kind.model_validate(table)
    assert refused.value.error_count() == 1


def test_keys_of_crops_and_boxes_are_refused_where_they_have_no_effect(tmp_path: Path) -> None:
    table = data_of(CocoData, tmp_path).model_dump()
    for changes, message in (
        ({"sample": "image", "padding": 0.5}, "found padding and whole pictures"),
        ({"boxes": "boxes.json"}, 'found boxes and sample "crop"; allowed: with sample = "image"'),
    ):
        with pytest.raises(ValidationError, match=message):
            CocoData.model_validate(table | changes)


@pytest.mark.parametrize("kind", [SyntheticData, CocoData])
def test_whole_pictures_can_be_cropped_for_training_and_are_evaluated_whole(
    kind: type[DataTable], tmp_path: Path
) -> None:
    table = data_of(kind, tmp_path).model_dump()
    plain = kind.model_validate(table)
    assert not {"sample", "mask_size", "max_instances", "min_box", "boxes"} & plain.model_dump().keys()
    data = kind.model_validate(table | {"sample": "image", "geometry": "crop"})
    assert data.evaluation_mode == "resize" and data.regions and data.task == "hierarchical"
    assert data.model_dump()["sample"] == "image" and "mask_size" not in data.model_dump()
    assert data.builder != plain.builder == plain.implementation
    foreground = kind.model_validate(table | {"sample": "foreground"})
    assert (foreground.task, foreground.class_names()) == ("semantic", ("background", "person"))


def test_keys_of_the_geometry_are_written_only_where_they_differ(data: DataTable) -> None:
    keys = {"geometry", "scale", "keep_aspect", "sampling", "crop_class_max", "cache_gib"}
    assert not keys & data.model_dump().keys() and data.model_dump()["pipeline"] == 2
    assert data.model_copy(update={"cache_gib": 1.0}).model_dump().keys() & keys == {"cache_gib"}


def test_settings_of_the_first_pipeline_are_those_of_versions_without_the_key(data: DataTable) -> None:
    first = data.model_copy(update={"pipeline": 1})
    assert "pipeline" not in first.fingerprint("val") and first.fingerprint("val") != data.fingerprint("val")
