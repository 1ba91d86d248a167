"""Warnings about data that can be read and are probably wrong all the same: each instance by its code."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from kdtui.engine.check import check
from kdtui.engine.data import build_dataset
from kdtui.engine.sanity import data_warnings
from kdtui.events import Warned
from kdtui.launch.plan import plan
from kdtui.profile import DataTable, FolderData, Profile, SyntheticData, load
from kdtui.profile.tables import Distillation
from kdtui.profile.term_tables import DistTerm
from kdtui.store.store import RunStore
from tests.engine.data.makers import HEIGHT, WIDTH, annotation, coco, counts, instances, label_folder, labels

BINARY = "0 background\n1 foreground\n"


def profile(data: DataTable, **training: Any) -> Profile:
    return Profile.model_validate({"name": "x", "data": data, "training": {"batch_size": 2} | training})


def warnings(data: DataTable, **training: Any) -> dict[str, Warned]:
    train_set, val_set = build_dataset(data, "train"), build_dataset(data, "val")
    return {warning.code: warning for warning in data_warnings(profile(data, **training), train_set, val_set)}


def folder(root: Path, classes: str | None = None, **keys: Any) -> FolderData:
    """Four images a split that no warning is about: each its own noise, each with every class."""
    data = label_folder(root, count=4, **({} if classes is None else {"classes": classes}), **keys)
    for path in sorted(root.glob("images/*/*.png")):
        Image.effect_noise((WIDTH, HEIGHT), 200).convert("RGB").save(path)
    return data


def fill(root: Path, values: list[int], splits: str = "*") -> None:
    """Every mask of some splits holds these values in turn."""
    for path in root.glob(f"masks/{splits}/*.png"):
        Image.fromarray(np.resize(np.array(values, np.uint8), (HEIGHT, WIDTH))).save(path)


def test_data_in_order_and_drawn_data_have_no_warning(tmp_path: Path) -> None:
    assert warnings(folder(tmp_path)) == {}
    assert warnings(SyntheticData(train_samples=64, val_samples=32), batch_size=16) == {}


def test_twelve_bits_in_sixteen(tmp_path: Path) -> None:
    data = folder(tmp_path)
    for path in tmp_path.glob("images/*/*.png"):
        grey = np.asarray(Image.open(path, formats=["PNG"]).convert("L")).astype(np.uint16) * 16
        path.unlink()
        Image.fromarray(grey).save(path.with_suffix(".tif"))
    warned = warnings(data)["narrow-value-range"]
    assert (
        "16-bit" not in warned.message and "0 to 15 of 0 to 255" in warned.message and "are 0 to 4080" in warned.message
    )
    assert warned.hint is not None and warned.hint.startswith("--set data.value_range=[0,4095]")
    assert warnings(data.model_copy(update={"value_range": (0.0, 4095.0)})) == {}


def test_values_between_0_and_1(tmp_path: Path) -> None:
    data = folder(tmp_path)
    for path in tmp_path.glob("images/*/*.png"):
        fractions = np.asarray(Image.open(path, formats=["PNG"]).convert("L")).astype(np.float32) / 255
        path.unlink()
        Image.fromarray(fractions).save(path.with_suffix(".tif"))
    warned = warnings(data)["narrow-value-range"]
    assert warned.hint is not None and warned.hint.startswith("--set data.value_range=[0,1]")
    assert warnings(data.model_copy(update={"value_range": (0.0, 1.0)})) == {}


def test_values_above_what_is_read(tmp_path: Path) -> None:
    data = folder(tmp_path)
    for path in tmp_path.glob("images/train/*.png"):
        large = np.asarray(Image.open(path, formats=["PNG"]).convert("L")).astype(np.int32) * 1000
        path.unlink()
        Image.fromarray(large).save(path.with_suffix(".tif"))
    assert "255000, clipped at 65535" in warnings(data)["values-cut"].message


def test_images_of_one_value(tmp_path: Path) -> None:
    data = folder(tmp_path)
    Image.new("RGB", (WIDTH, HEIGHT)).save(tmp_path / "images/train/2.png")
    (warned,) = warnings(data).values()
    assert warned.code == "images-of-one-value" and "1 train images" in warned.message and "2.png" in warned.message


def test_255_ignored_where_it_is_the_foreground(tmp_path: Path) -> None:
    data = folder(tmp_path, BINARY + "ignore_index 255\n")
    fill(tmp_path, [0, 255, 255])
    warned = warnings(data)
    assert "'foreground'" in warned["class-without-pixels"].message
    assert "67% of the val pixels are ignored" in warned["mostly-ignored"].message
    assert warned["mostly-ignored"].hint is not None and "not as ignore_index" in warned["mostly-ignored"].hint


def test_a_split_of_void(tmp_path: Path) -> None:
    data = folder(tmp_path, BINARY + "ignore_index 255\n")
    fill(tmp_path, [0, 1])
    fill(tmp_path, [255], "val")
    warned = warnings(data)
    assert list(warned) == ["void-masks"] and "4 val masks ignore every pixel" in warned["void-masks"].message


@pytest.mark.parametrize("split", ["train", "val"])
def test_masks_of_one_class(tmp_path: Path, split: str) -> None:
    data = folder(tmp_path, BINARY)
    fill(tmp_path, [0, 1])
    fill(tmp_path, [0], split)
    warned = warnings(data)
    assert f"4 of 4 {split} masks have one class only" in warned["one-class-masks"].message
    missing = "class-without-pixels" if split == "train" else "class-not-in-validation"
    assert "'foreground'" in warned[missing].message and len(warned) == 2


def test_a_class_that_only_training_has(tmp_path: Path) -> None:
    data = folder(tmp_path)
    fill(tmp_path, [0, 2], "val")
    warned = warnings(data)
    assert list(warned) == ["class-not-in-validation"] and "'road'" in warned["class-not-in-validation"].message


def test_a_rare_class(tmp_path: Path) -> None:
    data = folder(tmp_path, BINARY)
    fill(tmp_path, [0, 1], "val")
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    for number in range(4):
        mask[0, 0] = 1
        Image.fromarray(mask).save(tmp_path / f"masks/train/{number}.png")
    (warned,) = warnings(data).values()
    assert warned.code == "rare-classes" and "foreground (0.04%)" in warned.message


def test_files_that_are_skipped_and_masks_without_image(tmp_path: Path) -> None:
    data = folder(tmp_path)
    (tmp_path / "images/train/9.gif").write_bytes(b"GIF8")
    Image.fromarray(labels()).save(tmp_path / "masks/train/9.png")
    assert set(warnings(data)) == {"skipped-files", "masks-without-image"}


def test_validation_images_that_are_training_images(tmp_path: Path) -> None:
    data = folder(tmp_path)
    for number in range(3):
        shutil.copy(tmp_path / f"images/train/{number}.png", tmp_path / f"images/val/{number}.png")
    (warned,) = warnings(data).values()
    assert warned.code == "validation-in-training" and "3 of 4 validation images" in warned.message


def test_samples_that_no_epoch_sees(tmp_path: Path) -> None:
    data = folder(tmp_path)
    assert warnings(data, batch_size=3) == {}
    warned = warnings(SyntheticData(train_samples=62, val_samples=32), batch_size=32)["partial-batch"]
    assert "30 of 62" in warned.message and warned.hint == "--set training.batch_size=2 leaves out none"


def test_crops_without_other_people_and_annotations_without_mask(tmp_path: Path) -> None:
    box = (10, 5, 20, 30)
    content = instances(annotation(1, box), annotation(2, (35, 5, 20, 30), segmentation=[]))
    warned = warnings(coco(tmp_path, content))
    assert {"annotations-without-mask", "class-without-pixels", "validation-in-training"} <= set(warned)
    assert "'other'" in warned["class-without-pixels"].message
    assert "1 of 2 annotations" in warned["annotations-without-mask"].message


def test_run_lengths_that_own_nothing(tmp_path: Path) -> None:
    empty = {"size": [HEIGHT, WIDTH], "counts": [HEIGHT * WIDTH]}
    assert sum(counts(10, 5, 20, 30)) == HEIGHT * WIDTH
    warned = warnings(coco(tmp_path, instances(annotation(1, (10, 5, 20, 30), segmentation=empty))))
    assert "'target', 'other'" in warned["class-without-pixels"].message


def test_a_check_reports_the_number_of_samples_and_the_warnings(tmp_path: Path) -> None:
    data = folder(tmp_path, BINARY)
    fill(tmp_path, [0])
    found = check(profile(data))
    lines = {line["name"]: line for line in found["checks"]}
    assert lines["training data"]["message"].startswith("4 images, 2 classes; all 4 checked, values 0 to 255; about ")
    assert {warning["code"] for warning in found["warnings"]} == {"one-class-masks", "class-without-pixels"}


def test_a_batch_larger_than_the_data_is_refused_by_the_check(tmp_path: Path) -> None:
    found = check(profile(folder(tmp_path), batch_size=8))
    (failed,) = [line for line in found["checks"] if not line["ok"]]
    assert failed["name"] == "training data" and "4 samples, batch_size 8" in failed["message"]
    assert failed["hint"] == "--set training.batch_size=4" and found["warnings"] == []
    found = check(profile(folder(tmp_path), batch_size=8, micro_batch_size=8))
    assert found["checks"][0]["hint"] == "--set training.batch_size=4 --set training.micro_batch_size=1"


def test_a_failure_of_both_splits_and_of_what_needs_them_is_reported_once(tmp_path: Path) -> None:
    data = folder(tmp_path)
    (tmp_path / "classes.txt").unlink()
    failed = [line["name"] for line in check(profile(data))["checks"] if not line["ok"]]
    assert failed == ["training data"]


@pytest.mark.parametrize(("classes", "beta", "warned"), [(2, 1.0, True), (2, 0.0, False), (3, 1.0, False)])
def test_a_key_of_a_term_without_effect_on_two_classes(tmp_path: Path, classes: int, beta: float, warned: bool) -> None:
    data = folder(tmp_path, BINARY if classes == 2 else None)
    fill(tmp_path, [0, 1])
    own = profile(data).model_copy(update={"distillation": Distillation(enabled=True, terms=(DistTerm(beta=beta),))})

    def ask(verb: str, file: str, *flags: str) -> dict[str, Any]:
        assert verb == "check"
        return check(load(file))

    [planned] = plan([own], RunStore(tmp_path / "runs"), ask=ask).runs
    found = [warning.message for warning in planned.warnings if warning.code == "term-of-two-classes"]
    assert found == ["the term 'dist': beta has no effect on logits of two classes"] * warned
