"""``kdtui data`` in the engine: each thing that can be wrong is found, and nothing is read twice."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from kdtui.engine.contact_sheet import contact_sheet
from kdtui.engine.data import build_dataset, survey
from kdtui.engine.data.examine import SampleRecord, examine
from kdtui.engine.data_check import DataRequest, check_data
from kdtui.engine.data_report import SplitRecords
from kdtui.engine.kept_records import KeptRecords
from kdtui.errors import DataError
from kdtui.launch.data_check import kept_check
from kdtui.palette import class_colours
from kdtui.profile import DataTable, FolderData, Profile, SyntheticData, dump
from kdtui.store.data_checks import data_folder, kept_checks
from tests.engine.data.makers import annotation, coco, instances, picture
from tests.engine.data.miniatures import image, saved, stripes
from tests.engine.data.test_similar import photo
from tests.engine.preloaded import Process
from tests.waiting import eventually

CLASSES = "0 sky\n1 road #804020\n2 car\nignore_index 9 void\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Twelve training and four validation images, each with every class."""
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "classes.txt").write_text(CLASSES)
    for split, first, count in (("train", 0, 12), ("val", 100, 4)):
        for number in range(first, first + count):
            saved(photo(number), folder / f"images/{split}/{number}.png")
            saved(
                stripes(0, 1, 2, 9)[:, [0]].repeat(96, axis=1).repeat(2, axis=0), folder / f"masks/{split}/{number}.png"
            )
    return folder


def table(root: Path, **keys: Any) -> FolderData:
    return FolderData.model_validate({"root": str(root), "height": 32, "width": 48, **keys})


def profile_of(data: DataTable) -> Profile:
    keys = {"training": {"batch_size": 2}, "distillation": {"enabled": data.unlabelled is not None}}
    return Profile.model_validate({"name": "x", "data": data, **keys})


def request(data: DataTable, tmp_path: Path, **options: Any) -> DataRequest:
    file = tmp_path / "profile.toml"
    file.write_bytes(dump(profile_of(data)))
    return DataRequest(str(file), str(tmp_path / "runs"), **options)


def report_on(data: DataTable, tmp_path: Path, **options: Any) -> dict[str, Any]:
    report = check_data(request(data, tmp_path, **options), lambda *step: None)
    json.dumps(report, allow_nan=False)
    return report


def codes(report: dict[str, Any], level: str = "") -> list[str]:
    return [finding["code"] for finding in report["findings"] if level in ("", finding["level"])]


def finding(report: dict[str, Any], code: str) -> dict[str, Any]:
    found = [finding for finding in report["findings"] if finding["code"] == code]
    assert len(found) == 1, report["findings"]
    return dict(found[0])


def test_data_without_a_mistake(root: Path, tmp_path: Path) -> None:
    report = report_on(table(root), tmp_path)
    assert report["ok"] and report["kept"] and (report["samples"], report["read"]) == (16, 16)
    assert report["findings"] == [] and [*report["splits"]] == ["train", "val"]  # there is no test split
    train = report["splits"]["train"]
    assert train["sizes"] == {"min": [96, 64], "median": [96, 64], "max": [96, 64], "different": 1}
    assert (train["channels"], train["bits"], train["absent"]) == ({"3": 12}, {"8": 12}, [])
    assert [entry["images"] for entry in train["labels"]] == [12, 12, 12]
    assert train["ignored"]["share"] == pytest.approx(0.25)
    assert sum(entry["share"] for entry in train["labels"]) == pytest.approx(1.0)
    assert report["class_weights"]["balanced"] == [1.0, 1.0, 1.0]


def test_images_without_labels_are_read_too(root: Path, tmp_path: Path) -> None:
    more = tmp_path / "more"
    for number in range(11):
        saved(photo(200 + number), more / f"{number}.png")
    (more / "7.png").write_bytes(b"no picture")
    data = table(root, unlabelled={"images": str(more)})
    report = report_on(data, tmp_path)
    assert report["ok"] and report["unlabelled"] == 11 and codes(report) == ["unreadable-image"]
    assert "7.png" in finding(report, "unreadable-image")["message"]
    (more / "8.png").write_bytes((root / "images/val/101.png").read_bytes())
    report = report_on(data, tmp_path)
    assert not report["ok"] and codes(report, "error") == ["unlabelled-images"]
    assert "101.png" in finding(report, "unlabelled-images")["message"]
    assert report_on(table(root), tmp_path)["findings"] == []


def test_other_kinds_of_data(tmp_path: Path) -> None:
    report = report_on(SyntheticData(train_samples=3, val_samples=2, test_samples=1, height=32, width=32), tmp_path)
    assert report["ok"] and report["samples"] == 6
    assert (
        report_on(SyntheticData(train_samples=3, val_samples=2, test_samples=1, height=32, width=32), tmp_path)["read"]
        == 0
    )
    content = instances(annotation(1, (5, 5, 20, 20)), annotation(2, (30, 10, 20, 20)))
    crops = report_on(coco(tmp_path / "coco", content, picture()), tmp_path)
    assert crops["splits"]["train"]["samples"] == 2 and crops["classes"] == ["background", "target", "other"]
    # Both splits are the same file.
    assert {"duplicates-across-splits"} <= {*codes(crops)}


# -- what is wrong ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("last", [12, 17, 24])
def test_a_stray_value_in_any_mask_is_found_before_the_run(root: Path, tmp_path: Path, last: int) -> None:
    for number in range(12, 24):
        for kind in ("images", "masks"):
            shutil.copy(root / f"{kind}/train/{number - 12}.png", root / f"{kind}/train/{number}.png")
    mask = root / f"masks/train/{last - 1}.png"
    values = stripes(0, 1, 2, 9)[:, [0]].repeat(96, axis=1).repeat(2, axis=0)
    values[3, 5] = 77
    saved(values, mask)
    report = report_on(table(root), tmp_path)
    wrong = finding(report, "unusable-samples")
    assert not report["ok"] and (wrong["level"], wrong["split"], wrong["count"]) == ("error", "train", 1)
    assert wrong["names"] == [f"{last - 1}.png (77)"] and "a mask holds values that are no class" in wrong["message"]
    with pytest.raises(DataError, match="a mask holds values that are no class"):
        survey(build_dataset(table(root), "train"))  # as the pre-flight check


def test_all_bad_files_are_counted_and_the_first_named(root: Path, tmp_path: Path) -> None:
    for number in range(8):
        saved(stripes(0, 50 + number), root / f"masks/train/{number}.png")
    (root / "images/val/101.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    report = report_on(table(root), tmp_path)
    counts = {(entry["split"], entry["count"]) for entry in report["findings"] if entry["code"] == "unusable-samples"}
    assert counts == {("train", 8), ("val", 1)} and report["splits"]["train"]["usable"] == 4


def test_missing_masks_and_an_empty_folder(root: Path, tmp_path: Path) -> None:
    (root / "masks/train/3.png").unlink()
    report = report_on(table(root), tmp_path)
    wrong = [entry for entry in report["findings"] if entry["level"] == "error"]
    assert len(wrong) == 1 and "1 of 12 images have no mask" in wrong[0]["message"] and "3.png" in wrong[0]["message"]
    assert report["splits"]["val"]["samples"] == 4  # is read all the same
    (tmp_path / "empty").mkdir()
    nothing = report_on(table(tmp_path / "empty", classes=["a", "b"]), tmp_path)
    assert not nothing["ok"] and nothing["sheet"] is None and nothing["class_weights"] is None


def test_the_same_image_in_two_splits(root: Path, tmp_path: Path) -> None:
    shutil.copy(root / "images/train/5.png", root / "images/val/102.png")
    report = report_on(table(root), tmp_path)
    same = finding(report, "duplicates-across-splits")
    assert (same["count"], same["names"], same["split"]) == (1, ["102.png = 5.png"], "val")
    assert report["ok"] and "near-duplicates-across-splits" not in codes(report)
    assert report["duplicates"]["exact"] == {"count": 1, "groups": [(("train", "5.png"), ("val", "102.png"))]}


def test_a_changed_copy_in_two_splits(root: Path, tmp_path: Path) -> None:
    photo(5).resize((120, 80)).save(root / "images/val/102.jpg", quality=70)
    (root / "images/val/102.png").unlink()
    saved(stripes(0, 1, 2)[:, [0]].repeat(120, axis=1).repeat(3, axis=0)[:80], root / "masks/val/102.png")
    near = finding(report_on(table(root), tmp_path), "near-duplicates-across-splits")
    assert near["names"] == ["102.jpg = 5.png"]


def test_the_same_image_with_other_labels_in_one_split(root: Path, tmp_path: Path) -> None:
    shutil.copy(root / "images/train/5.png", root / "images/train/6.png")
    assert codes(report_on(table(root), tmp_path)).count("duplicates-within-split") == 1
    saved(np.zeros((64, 96), np.uint8), root / "masks/train/6.png")
    assert finding(report_on(table(root), tmp_path), "same-image-different-labels")["count"] == 1


def test_classes_sizes_and_depths(root: Path, tmp_path: Path) -> None:
    for number in range(100, 104):
        saved(np.zeros((64, 96), np.uint8), root / f"masks/val/{number}.png")
    saved(image(1).resize((600, 20)), root / "images/train/3.png")
    saved(np.full((20, 600), 2, np.uint8), root / "masks/train/3.png")
    report = report_on(table(root), tmp_path)
    assert finding(report, "size-outliers")["names"] == ["3.png (600x20)"]
    assert "class-not-in-validation" in codes(report) and report["splits"]["val"]["absent"] == ["road", "car"]
    for path in root.glob("images/*/*.png"):
        with Image.open(path) as opened:
            size = opened.size
        saved(np.random.default_rng(0).integers(0, 4096, size[::-1], np.uint16), path)
    deep = report_on(table(root), tmp_path)
    assert deep["splits"]["train"]["bits"] == {"16": 12} and "value_range" in finding_hints(deep, "narrow-value-range")


def finding_hints(report: dict[str, Any], code: str) -> str:
    return " ".join(str(entry["hint"]) for entry in report["findings"] if entry["code"] == code)


# -- what is kept -------------------------------------------------------------------------------------------------


def test_only_new_and_changed_files_are_read_again(root: Path, tmp_path: Path) -> None:
    first = report_on(table(root), tmp_path)
    again = report_on(table(root, height=64, augmentation="heavy"), tmp_path)
    assert again["read"] == 0 and {**again, "read": 16} == first
    saved(photo(55), root / "images/train/5.png")
    assert report_on(table(root), tmp_path)["read"] == 1
    for kind in ("images", "masks"):
        shutil.copy(root / f"{kind}/train/1.png", root / f"{kind}/train/50.png")
    assert report_on(table(root), tmp_path)["read"] == 1
    (root / "classes.txt").write_text(CLASSES.replace("car", "bus"))  # changes what every value means
    assert report_on(table(root), tmp_path)["read"] == 17


def test_the_pre_flight_check_uses_what_was_read(root: Path, tmp_path: Path) -> None:
    runs, profile = tmp_path / "runs", profile_of(table(root, height=64))
    some = {"train": [8, 12], "val": [4, 4]}
    unread = kept_check(profile, runs, some)
    assert (
        unread is not None and unread.ok and unread.message.startswith("only 8 of 12 train samples read; `kdtui data")
    )
    assert kept_check(profile, runs, {"train": [12, 12], "val": [4, 4]}) is None
    report_on(table(root), tmp_path)
    passed = kept_check(profile, runs, some)
    assert passed is not None and passed.ok and passed.message.startswith("all 16 samples were read on 20")
    assert passed.message.endswith("nothing wrong")
    saved(stripes(50), root / "masks/train/2.png")
    changed = kept_check(profile, runs, some)
    assert changed is not None and changed.ok and "the files changed since" in changed.message
    report_on(table(root), tmp_path)
    failed = kept_check(profile, runs, some)
    assert failed is not None and not failed.ok and "no class (1 of 12 train samples): 2.png" in failed.message


@pytest.mark.parametrize("content", [b"", b"{", b'{"splits": 3}', b'{"splits": {"train": {"samples": "x"}}}', b"[]"])
def test_a_damaged_result_is_ignored(root: Path, tmp_path: Path, content: bytes) -> None:
    report_on(table(root), tmp_path)
    for file in data_folder(tmp_path / "runs").iterdir():
        file.write_bytes(content)
    assert kept_checks(tmp_path / "runs", table(root)) == {}
    assert report_on(table(root), tmp_path)["read"] == 16
    assert len(kept_checks(tmp_path / "runs", table(root))) == 2


def test_a_store_that_is_not_writable_keeps_nothing(root: Path, tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("a file")
    report = report_on(table(root), tmp_path)
    assert report["ok"] and not report["kept"] and report["sheet"] is None


def test_a_killed_check_is_resumed(root: Path, tmp_path: Path) -> None:
    """The process blocks when the small pipe of its progress is full, far from the end, and is killed there."""
    import fcntl

    small = np.zeros((8, 8), np.uint8)
    for number in range(200, 400):
        saved(np.random.default_rng(number).integers(0, 256, (8, 8, 3), np.uint8), root / f"images/train/{number}.png")
        saved(small, root / f"masks/train/{number}.png")
    asked = tmp_path / "request.json"
    asked.write_text(json.dumps(vars(request(table(root), tmp_path))))
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    process = Process("-m", "kdtui.engine", "data", str(asked), stderr=writing)
    try:
        eventually(lambda: any(path.stat().st_size for path in data_folder(tmp_path / "runs").glob("*.jsonl")))
    finally:
        process.kill()
        os.close(reading)
        os.close(writing)
    report = report_on(table(root), tmp_path)
    assert report["samples"] == 216 and 0 < report["read"] < 216


def records(root: Path, count: int) -> list[SampleRecord]:
    dataset = build_dataset(table(root), "train")
    return [examine(dataset, index, f"key {index}") for index in range(count)]


def test_two_processes_can_write_one_file(root: Path, tmp_path: Path) -> None:
    made = records(root, 8)
    one, other = KeptRecords(tmp_path / "x.jsonl"), KeptRecords(tmp_path / "x.jsonl")
    for record in made[:5]:
        one.add(record)
    other.add(made[0])
    other.add(made[7])
    other.flush()
    one.flush()
    with (tmp_path / "x.jsonl").open("ab") as stream:
        stream.write(made[6].to_line()[:40])  # a process was killed while it wrote
    read = KeptRecords(tmp_path / "x.jsonl")
    read.add(made[5])
    read.flush()
    again = KeptRecords(tmp_path / "x.jsonl")
    assert [again[record.key] for record in made] == [*made[:6], None, made[7]]
    again.tidy([made[1].key])  # what is not needed is dropped
    assert (tmp_path / "x.jsonl").read_bytes() == made[1].to_line()


@pytest.mark.parametrize("change", [
    lambda values: values.update(pixels={"300": 4}),
    lambda values: values.update(stored=[1]),
    lambda values: values.update(height="tall"),
    lambda values: values.update(error={"where": "x"}),
    lambda values: values.pop("key"),
    lambda values: values.update(other=1),
])  # fmt: skip
def test_a_changed_record_is_not_used(root: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    values = json.loads(records(root, 1)[0].to_line())
    assert SampleRecord.of_json(values) is not None
    change(values)
    assert SampleRecord.of_json(values) is None


# -- the sheet ----------------------------------------------------------------------------------------------------


def test_the_sheet_has_every_class_in_its_colour(root: Path, tmp_path: Path) -> None:
    target = tmp_path / "own.png"
    report = report_on(table(root), tmp_path, sheet=str(target))
    assert report["sheet"] == str(target)
    with Image.open(target) as sheet:
        colours = {colour for _, colour in sheet.convert("RGB").getcolors(2**24) or ()}
    assert {*class_colours(("", "#804020", ""))} <= colours


def test_a_sheet_shows_rare_classes(root: Path) -> None:
    from kdtui.engine.contact_sheet import chosen

    for number in range(12):
        saved(np.zeros((64, 96), np.uint8), root / f"masks/train/{number}.png")
    saved(stripes(2)[:, [0]].repeat(96, axis=1).repeat(2, axis=0), root / "masks/train/7.png")
    dataset = build_dataset(table(root), "train")
    split = SplitRecords("train", dataset, [examine(dataset, index, "") for index in range(12)])
    names = [dataset.name(index) for index in chosen(split, 2)]
    assert "7.png" in names and len(names) == 3
    assert contact_sheet([split]) is not None
