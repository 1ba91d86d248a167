"""``[data.unlabelled]`` in a profile: what is refused, and what is written."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from pydantic import ValidationError

from kdtui.errors import ProfileError
from kdtui.profile import Profile, SyntheticData, amend, dump, load
from kdtui.profile.data_tables import Unlabelled
from kdtui.profile.matched import baseline_of

ON = ["distillation.enabled=true", "data.train_limit=0.1"]


@pytest.mark.parametrize(
    ("sets", "message"),
    [
        (["data.unlabelled.threshold=0.0"], "data.unlabelled.threshold"),
        (["data.unlabelled.threshold=1.01"], "allowed: a number, > 0.0, <= 1.0"),
        (["data.unlabelled.share=1.0"], "data.unlabelled.share"),
        (["data.unlabelled.share=0.0"], "allowed: a number, > 0.0, < 1.0"),
        (["data.unlabelled.target=hart"], "one of soft, hard; did you mean hard?"),
        (["data.unlabelled.target=hard", "distillation.enabled=false"], "only the distillation uses"),
        (["data.unlabelled.images=/more"], "a hierarchical task, whose samples are crops around a target"),
        (["data.unlabelled.target=hard", "data.pipeline=1"], "found unlabelled and pipeline 1"),
        (["data.train_limit=1.5"], "an integer, >= 1, <= 100000000 or a number, > 0.0, < 1.0"),
    ],
)
def test_what_cannot_be_is_one_message(sets: Sequence[str], message: str) -> None:
    with pytest.raises(ProfileError) as caught:
        load("baseline", [*ON, *sets])
    assert message in caught.value.message
    assert caught.value.message.count("\n") == 1


def test_images_or_samples_without_labels_must_exist() -> None:
    with pytest.raises(ProfileError, match="found unlabelled without images and without train_limit"):
        load("baseline", ["distillation.enabled=true", "data.unlabelled.target=hard"])


def test_a_profile_without_distillation_has_no_images_without_labels() -> None:
    with pytest.raises(ValidationError, match="only the distillation uses"):
        Profile(name="any", data=SyntheticData(train_limit=5, unlabelled=Unlabelled()))


def test_the_table_is_written_only_where_it_is_set_and_read_again(tmp_path: Path) -> None:
    assert b"unlabelled" not in dump(load("baseline"))
    profile = load("baseline", [*ON, "data.unlabelled.target=hard"])
    (tmp_path / "again.toml").write_bytes(dump(profile))
    assert load(tmp_path / "again.toml") == profile
    assert profile.data.train_limit == 0.1


def test_the_matched_baseline_has_the_same_labels_and_no_images_without() -> None:
    profile = load("baseline", [*ON, "data.unlabelled.target=hard"])
    baseline = baseline_of(profile)
    assert baseline.data == profile.data.model_copy(update={"unlabelled": None})


def test_a_folder_of_labelled_images_may_have_others_anywhere() -> None:
    data = load("camvid-distilled", ["data.unlabelled.images=more/*.jpg"]).data
    assert data.unlabelled is not None and data.unlabelled.images == "more/*.jpg"
    assert not any(place.key.startswith("data.unlabelled") for place in data.places(["train"]))


def test_disabling_the_distillation_leaves_out_images_that_only_it_uses() -> None:
    profile = load("demo-fewlabels-distilled")
    assert profile.data.unlabelled is not None
    without = profile.data.model_copy(update={"unlabelled": None})
    alone = ["distillation.enabled=false"]
    assert load("demo-fewlabels-distilled", alone).data == amend(profile, alone).data == without
    with pytest.raises(ProfileError, match="only the distillation uses"):
        load("demo-fewlabels-distilled", [*alone, "data.unlabelled.share=0.25"])


@pytest.mark.parametrize(("share", "devices", "images"), [(0.5, 1, 16), (0.75, 1, 48), (0.01, 1, 1), (0.01, 4, 4)])
def test_the_share_is_that_of_all_images_of_a_step(share: float, devices: int, images: int) -> None:
    assert Unlabelled(share=share).per_step(16, devices) == images
