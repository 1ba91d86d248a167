"""Training with cached logits of the teacher."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kdtui import events
from kdtui.engine.check import check
from kdtui.store.run import Run
from kdtui.store.view_logits import FOLDER, used_bytes
from tests.engine.runs import curve, events_of, fit, make_run, same_weights

VIEWS = {"data__views": 2, "data__augmentation": "heavy"}


def distilled(root: Path, teacher: Run, /, **changes: Any) -> Run:
    """A finished run of four epochs with two views."""
    settings: dict[str, Any] = {
        "teacher": {"checkpoint": str(teacher.best), **changes.pop("teacher", {})},
        "distillation": {"enabled": True, **changes.pop("distillation", {})},
        "training__epochs": 4,
        "training__precision": "fp32",
        "training__log_every": 1,
        **VIEWS,
        **changes,
    }
    run = make_run(root, **settings)
    assert fit(run) == "finished"
    return run


def cached(run: Run) -> list[float | None]:
    """The share of the teacher's logits that were read, step by step."""
    return [value for _, value in curve(run, "train", "teacher_cached")]


def losses(run: Run) -> list[float]:
    return [value for _, value in curve(run, "train", "loss")]


def notes(run: Run) -> str:
    return "\n".join(event.message for event in events_of(run) if isinstance(event, events.Noted))


def files(root: Path) -> list[Path]:
    return sorted((root / FOLDER).glob("*/*.logits"))


def test_a_view_is_asked_once_per_store_and_the_loss_is_that_of_a_live_teacher(
    tmp_path: Path, short_teacher: Run
) -> None:
    first = distilled(tmp_path, short_teacher)
    assert cached(first) == [0.0] * 6 + [1.0] * 6  # two views, three steps each
    assert "2 views of 24 samples cached" in notes(first)
    assert [path.name for path in files(tmp_path)] == ["view-000000.logits", "view-000001.logits"]

    other = distilled(tmp_path, short_teacher, distillation={"temperature": 2.0, "alpha": 0.3}, data__views=4)
    assert cached(other) == [1.0] * 3 + [0.0] * 6 + [1.0] * 3  # in the order 1, 2, 3, 0
    again = distilled(tmp_path, short_teacher)
    assert cached(again) == [1.0] * 12
    assert same_weights(first.last, again.last)  # what is read equals what was computed

    live = distilled(tmp_path, short_teacher, teacher={"cache": "off"})
    assert set(cached(live)) == {None}
    assert losses(first) == pytest.approx(losses(live), rel=1e-3)


@pytest.fixture(scope="module")
def small_teacher(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A PSPNet after an epoch, which upsamples its logits by 8."""
    student = {"architecture": "PSPNet", "encoder": "tu-test_resnet", "encoder_depth": 3, "decoder_channels": 16}
    run = make_run(
        tmp_path_factory.mktemp("small"), student=student, training__epochs=1, training__precision="fp32", seed=1
    )
    fit(run)
    return run


def test_a_teacher_that_upsamples_its_logits_keeps_those_before(
    tmp_path: Path, small_teacher: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:  # as files of this teacher once were
        patch.setattr("kdtui.engine.teacher_logits.upsampling_of", lambda network: None)
        distilled(tmp_path, small_teacher, training__epochs=1)
    (whole_size,) = {path.stat().st_size for path in files(tmp_path)}
    first = distilled(tmp_path, small_teacher)
    assert cached(first) == [0.0] * 6 + [1.0] * 6
    (size,) = {path.stat().st_size for path in files(tmp_path)} - {whole_size}
    assert size == 64 + 24 * (8 + 2 * 4 * 4 * 4)  # a header, and 24 samples of 4 channels in fp16
    answer = check(first.profile())["teacher_logits"]
    assert (answer["samples"], answer["sample_bytes"], answer["teachers"]) == (24, 2 * 4 * 4 * 4, 1)

    again = distilled(tmp_path, small_teacher)  # what is read equals what was computed
    assert cached(again) == [1.0] * 12
    assert same_weights(first.last, again.last)
    live = distilled(tmp_path, small_teacher, teacher={"cache": "off"}, training__epochs=1)
    assert losses(first)[0] == pytest.approx(losses(live)[0], rel=1e-4)


def together(*others: Run, **changes: Any) -> dict[str, Any]:
    """Further teachers, and keys of the first one."""
    return {"teacher": {"ensemble": [{"checkpoint": str(other.best)} for other in others], **changes}}


def test_each_of_several_teachers_has_the_files_that_it_has_alone(
    tmp_path: Path, short_teacher: Run, small_teacher: Run
) -> None:
    distilled(tmp_path, short_teacher, training__epochs=1)
    both = distilled(tmp_path, short_teacher, **together(small_teacher), training__epochs=1)
    assert cached(both) == [0.5] * 3  # those of the first teacher were there
    assert cached(distilled(tmp_path, small_teacher, training__epochs=1)) == [1.0] * 3
    assert len(files(tmp_path)) == 2
    again = distilled(tmp_path, short_teacher, **together(small_teacher), training__epochs=1)
    assert same_weights(both.last, again.last)


def test_the_mean_of_several_teachers_is_made_of_what_was_read(
    tmp_path: Path, short_teacher: Run, small_teacher: Run
) -> None:
    changes: dict[str, Any] = {"distillation": {"temperature": 9.0}, "training__epochs": 1}
    distilled(tmp_path, short_teacher, **together(small_teacher), training__epochs=1)
    read = distilled(tmp_path, short_teacher, **together(small_teacher, weight=3.0), **changes)
    live = distilled(tmp_path, short_teacher, **together(small_teacher, weight=3.0, cache="off"), **changes)
    assert (set(cached(read)), set(cached(live))) == ({1.0}, {None})
    assert losses(read) == pytest.approx(losses(live), rel=1e-3)


def test_views_of_several_teachers_share_the_budget(tmp_path: Path, short_teacher: Run, small_teacher: Run) -> None:
    sizes = [64 + 24 * (8 + 2 * 4 * side * side) for side in (32, 4)]
    gib = (sizes[0] + 2 * sizes[1]) / 2**30
    changes = together(small_teacher) | {"training__cache_gib": gib}
    run = distilled(tmp_path, short_teacher, **changes)
    assert cached(run) == [0.0] * 6 + [1.0] * 3 + [0.5] * 3  # in the order 1, 0, 1, 0
    assert sorted(path.stat().st_size for path in files(tmp_path)) == sorted([*sizes, sizes[1]])
    first, second = (line for line in notes(run).splitlines() if "teacher logits" in line)
    assert "teacher 1" in first and "1 view of 24" in first and "the other 1 are computed live" in first
    assert "teacher 2" in second and "2 views of 24" in second and "live" not in second
    answer = check(run.profile())["teacher_logits"]
    assert (answer["teachers"], answer["sample_bytes"]) == (2, 2 * 4 * (32**2 + 4**2))


def test_a_damaged_sample_is_asked_again(tmp_path: Path, short_teacher: Run) -> None:
    first = distilled(tmp_path, short_teacher)
    for path in files(tmp_path):
        content = bytearray(path.read_bytes())
        content[-1] ^= 64
        path.write_bytes(content)
    again = distilled(tmp_path, short_teacher)
    shares = [share for share in cached(again) if share is not None]
    assert sorted(shares)[:3] == [7 / 8, 7 / 8, 1.0]
    assert losses(first) == pytest.approx(losses(again), rel=1e-3)


def test_what_is_not_in_the_budget_is_live(tmp_path: Path, short_teacher: Run) -> None:
    none = distilled(tmp_path, short_teacher, training__cache_gib=0.0)
    assert set(cached(none)) == {0.0} and not files(tmp_path)
    assert "0 views of 24 samples cached" in notes(none) and "2 are computed live" in notes(none)

    one_view = 24 * 4 * 32 * 32 * 2 * 1.5 / 2**30
    half = distilled(tmp_path, short_teacher, training__cache_gib=one_view)
    assert sorted(share for share in cached(half) if share is not None) == [0.0] * 9 + [1.0] * 3
    assert len(files(tmp_path)) == 1
    assert used_bytes(tmp_path) <= one_view * 2**30


def test_a_training_continues_where_the_folder_cannot_be_written(tmp_path: Path, short_teacher: Run) -> None:
    (tmp_path / FOLDER).parent.mkdir()
    (tmp_path / FOLDER).write_text("a file in its place")
    run = distilled(tmp_path, short_teacher)
    assert set(cached(run)) == {0.0}
    assert notes(run).count("no longer cached") == 1


def test_images_without_labels_are_cached_too(tmp_path: Path, short_teacher: Run) -> None:
    few: dict[str, Any] = {"data__train_limit": 8, "data__unlabelled": {}, "training__batch_size": 4}
    distilled(tmp_path, short_teacher, **few)
    again = distilled(tmp_path, short_teacher, **few)
    assert set(cached(again)) == {1.0}


@pytest.mark.parametrize(
    "changes",
    [
        {"data__views": 0},
        {"distillation": {"terms": [{"kind": "feature", "on": "decoder"}]}},
        {"teacher": {"cache": "off"}},
    ],
    ids=["new views", "features", "off"],
)
def test_a_teacher_that_has_to_see_each_image_is_not_cached(
    tmp_path: Path, short_teacher: Run, changes: dict[str, Any]
) -> None:
    run = distilled(tmp_path, short_teacher, training__epochs=1, **changes)
    assert set(cached(run)) == {None}
    assert not files(tmp_path)


@pytest.mark.parametrize(
    "changes",
    [{"seed": 3}, {"data__augmentation": "light"}, {"data__height": 64}, {"data__train_limit": 23}],
    ids=["views of another seed", "augmentation", "size", "samples"],
)
def test_other_views_have_other_files(tmp_path: Path, short_teacher: Run, changes: dict[str, Any]) -> None:
    distilled(tmp_path, short_teacher, training__epochs=1)
    other = distilled(tmp_path, short_teacher, training__epochs=1, **changes)
    assert set(cached(other)) == {0.0}
    assert len({path.parent for path in files(tmp_path)}) == 2


def test_runs_of_other_seeds_share_the_views_of_one_seed(tmp_path: Path, short_teacher: Run) -> None:
    shared = {"data__views": 0, "data__view_seed": 5, "training__epochs": 2}
    distilled(tmp_path, short_teacher, **shared)
    other = distilled(tmp_path, short_teacher, seed=1, **shared)
    assert set(cached(other)) == {1.0}
