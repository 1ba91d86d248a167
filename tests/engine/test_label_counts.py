"""Weights of classes from the labels: counted over all files, once per run store, and used in training."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kdtui.engine.check import check
from kdtui.engine.data import IGNORE_INDEX, SegmentationDataset, build_dataset
from kdtui.engine.data.folder import LabelFolder
from kdtui.engine.data.source import Pixels
from kdtui.engine.label_counts import label_counts
from kdtui.engine.ranks import make_fabric
from kdtui.errors import UsageError
from kdtui.events import Measured, Noted
from kdtui.profile import FolderData
from tests.engine.data.makers import label_folder
from tests.engine.runs import events_of, fit, make_run, tiny_profile

WEIGHTED = [
    {"kind": "ce", "class_weights": "balanced"},
    {"kind": "focal", "class_weights": "effective"},
    {"kind": "lovasz", "weight": 0.5},
]


def counted(dataset: SegmentationDataset, data: FolderData, folder: Path) -> list[int]:
    return label_counts(dataset, data, folder, make_fabric(accelerator="cpu"))


class ReadOnce(LabelFolder):
    """A folder whose masks cannot be read again."""

    def labels(self, index: int) -> Pixels:
        raise AssertionError(f"mask {index} is read again")


def test_all_training_labels_are_counted_at_their_own_size_and_once(tmp_path: Path) -> None:
    data = label_folder(tmp_path / "data", count=3, height=16, width=16)
    Image.fromarray(np.full((7, 9), 2, np.uint8)).save(tmp_path / "data" / "masks" / "train" / "1.png")
    Image.new("RGB", (9, 7)).save(tmp_path / "data" / "images" / "train" / "1.png")
    dataset = build_dataset(data, "train")
    cache = tmp_path / "cache"
    counts = counted(dataset, data, cache)
    assert counts == [2 * 600, 2 * 600, 2 * 600 + 63]
    assert isinstance(dataset, LabelFolder)
    dataset.__class__ = ReadOnce
    assert counted(dataset, data, cache) == counts

    # Other labels or settings are counted anew, and so is a damaged entry.
    with pytest.raises(AssertionError, match="is read again"):
        counted(dataset, data.model_copy(update={"train_limit": 2}), cache)
    (entry,) = cache.iterdir()
    for damage in (b"[1, 2", b"[1, 2]", b"[0, 0, 0]", b"[true, 1, 1]", b"null"):
        entry.write_bytes(damage)
        with pytest.raises(AssertionError, match="is read again"):
            counted(dataset, data, cache)


def test_labels_are_those_that_samples_have(tmp_path: Path) -> None:
    data = label_folder(tmp_path, count=1)
    dataset = build_dataset(data, "train")
    assert np.array_equal(dataset.labels(0), dataset.look(0).labels)
    synthetic = build_dataset(tiny_profile().data, "train")
    assert np.array_equal(synthetic.labels(3), synthetic.look(3).labels)
    assert set(np.unique(synthetic.labels(3))) <= {0, 1, 2, IGNORE_INDEX}


def test_a_run_notes_its_weights_and_does_not_write_them_into_its_profile(tmp_path: Path) -> None:
    run = make_run(tmp_path, training__epochs=1, training__micro_batch_size=2, loss={"terms": WEIGHTED})
    assert fit(run) == "finished"
    notes = [event.message for event in events_of(run) if isinstance(event, Noted)]
    assert [note.partition(": ")[0] for note in notes] == [
        f"class weights of base.{name} from the labels of 24 training samples" for name in ("ce", "focal")
    ]
    names, weights = zip(*(pair.split() for pair in notes[0].partition(": ")[2].split(", ")), strict=True)
    assert names == ("background", "target", "other")
    counts = label_counts(
        build_dataset(run.profile().data, "train"),
        run.profile().data,
        tmp_path / ".cache" / "labels",
        make_fabric(accelerator="cpu"),
    )
    assert [float(weight) * count for weight, count in zip(weights, counts, strict=True)] == pytest.approx(
        [sum(counts) / 3] * 3, rel=1e-3
    )
    assert run.profile().loss == tiny_profile(loss={"terms": WEIGHTED}).loss
    points = [event.scalars for event in events_of(run) if isinstance(event, Measured) and event.split == "train"]
    values = [point[f"loss.base.{name}"] for point in points for name in ("ce", "focal", "lovasz")]
    assert all(value is not None and math.isfinite(value) for value in values)


def test_the_check_states_batch_terms_and_estimated_weights(tmp_path: Path) -> None:
    profile = tiny_profile(training__micro_batch_size=4, loss={"terms": WEIGHTED})
    (terms,) = [answer for answer in check(profile)["checks"] if answer["name"] == "loss terms"]
    first, batchwise, ce, _ = terms["message"].split("\n  ")
    assert first == "base.ce, base.focal, base.lovasz"
    assert batchwise == "base.lovasz: computed on the 4 images that one device processes at once"
    assert ce.startswith("class weights of base.ce, from 16 of 24 training samples: background ")


def test_a_list_of_another_length_is_refused_before_training(tmp_path: Path) -> None:
    run = make_run(tmp_path, loss={"terms": [{"kind": "dice"}, {"kind": "ce", "class_weights": [1.0, 2.0]}]})
    with pytest.raises(UsageError, match="the number of class weights differs") as caught:
        fit(run)
    assert caught.value.where == "loss.terms[1].class_weights"
    (answer,) = [answer for answer in check(run.profile())["checks"] if not answer["ok"]]
    assert (answer["name"], answer["message"]) == ("loss terms", caught.value.message)
