"""The paired bootstrap over images."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kdtui.compare.bootstrap import Counts, bootstrap, difference, read_counts
from kdtui.errors import StoreError
from kdtui.store.run import Run
from tests.compare.counted import CLASSES, made, written


def test_swapped_arms_have_the_mirrored_interval() -> None:
    there, back = bootstrap(made(1), made(2, skill=0.7)), bootstrap(made(2, skill=0.7), made(1))
    for one, other in zip([there.score, *there.classes.values()], [back.score, *back.classes.values()], strict=True):
        assert (other.delta, other.low, other.high) == pytest.approx((-one.delta, -one.high, -one.low))
    assert there.score.verdict == "better" and back.score.verdict == "worse"
    assert bootstrap(made(1), made(2, skill=0.7)) == there


def test_identical_runs_differ_by_exactly_nothing() -> None:
    found = bootstrap(made(1), made(1))
    for interval in (found.score, *found.classes.values()):
        assert (interval.delta, interval.low, interval.high) == (0.0, 0.0, 0.0)
    assert found.score.verdict == "within noise"


def test_the_difference_is_that_of_the_whole_split() -> None:
    run, baseline = made(1), made(2)
    found = bootstrap(run, baseline)
    assert found.score.delta == pytest.approx(run.miou - baseline.miou)
    correct, predicted, true = run.pixels.sum(axis=0)
    assert run.miou == pytest.approx(np.mean(correct / (predicted + true - correct)))
    assert found.classes.keys() == set(CLASSES) and found.score.n == 40


def repeated(counts: Counts, *, clips: bool) -> Counts:
    """Every image four times, as in a film."""
    names = np.array([f"{name} {copy}" for name in counts.samples for copy in range(4)])
    units = np.repeat(counts.samples, 4) if clips else names
    return dataclasses.replace(
        counts, samples=names, units=units, over="clips" if clips else "images", pixels=counts.pixels.repeat(4, axis=0)
    )


def test_frames_of_a_clip_are_drawn_together() -> None:
    frames, clips = (
        bootstrap(repeated(made(1), clips=clips), repeated(made(2), clips=clips)).score for clips in (False, True)
    )
    assert (clips.n, clips.over, frames.n) == (40, "clips", 160)
    assert clips.high - clips.low > 1.7 * (frames.high - frames.low)
    alone = bootstrap(made(1), made(2)).score  # frames that say nothing new change nothing
    assert (clips.low, clips.high) == pytest.approx((alone.low, alone.high))


def test_a_class_that_neither_run_has_is_left_out() -> None:
    run, baseline = made(1), made(2)
    run.pixels[:, :, 2] = baseline.pixels[:, :, 2] = 0
    found = bootstrap(run, baseline)
    assert found.classes.keys() == {"road", "sky"}
    assert found.score.delta == pytest.approx(np.mean([found.classes[name].delta for name in ("road", "sky")]))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"samples": np.array([f"other {index}" for index in range(40)])}, "different images"),
        ({"classes": ("road", "sky", "car")}, "different classes"),
        ({"pixels": made(1, truth=1).pixels}, "labels of the two evaluations"),
        ({"units": np.array(["one"] * 40)}, "too few images"),
    ],
)
def test_runs_of_other_images_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(StoreError, match=message):
        bootstrap(dataclasses.replace(made(1), **changes), made(2))


def test_counts_are_read_from_the_run(tmp_path: Path) -> None:
    ours, base = Run(tmp_path / "ours"), Run(tmp_path / "base")
    written(made(1), ours)
    written(made(2), base, units=None, over=None)  # of the first version of the file
    assert difference(ours, base) == bootstrap(made(1), made(2))
    with pytest.raises(StoreError, match="no counts per image") as missing:
        difference(ours, base, "test")
    assert missing.value.hint == "`kdtui evaluate ours --split test` makes them"


@pytest.mark.parametrize(
    "changes",
    [
        {"version": np.array(2)},
        {"version": None},
        {"classes": np.array(["road"])},
        {"counts": made(1).pixels[:, ::-1]},
        {"counts": -made(1).pixels},
        {"counts": made(1).pixels.astype(float)},
        {"counts": np.array([{"a": 1}], dtype=object)},
        {"over": np.array("frames")},
    ],
)
def test_counts_of_another_form_are_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    run = Run(tmp_path / "run")
    written(made(1), run, **changes)
    with pytest.raises(StoreError, match="damaged") as error:
        read_counts(run)
    assert error.value.hint == "`kdtui evaluate run --split val` makes them"


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.999])
def test_a_half_written_file_is_refused(tmp_path: Path, share: float) -> None:
    run = Run(tmp_path / "run")
    path = written(made(1), run)
    os.truncate(path, int(share * path.stat().st_size))
    with pytest.raises(StoreError, match="damaged"):
        read_counts(run)


@pytest.mark.slow
def test_the_interval_covers_the_difference_of_all_images() -> None:
    """Of 400 splits drawn from many images, the intervals of about 95 % include the Δ of all images."""
    run, baseline = made(1, images=20_000), made(2, images=20_000)
    everything, covered = run.miou - baseline.miou, 0
    for seed in range(400):
        chosen = np.random.default_rng(seed).integers(20_000, size=200)
        names = np.arange(200).astype(np.str_)
        ours, theirs = (
            dataclasses.replace(one, samples=names, units=names, pixels=one.pixels[chosen]) for one in (run, baseline)
        )
        found = bootstrap(ours, theirs, resamples=500).score
        covered += found.low <= everything <= found.high
    assert 0.92 < covered / 400 < 0.98


def by_instance(run: int, *, people: int = 3) -> Counts:
    """Counts of several label maps of each image; every second image has one without a target."""
    names = np.array([f"picture {index // people}" for index in range(20 * people)])
    scene, drawn = np.random.default_rng(0), np.random.default_rng([run, 1])
    true = scene.integers(50, 400, (len(names), 3))
    true[:: 2 * people, 1] = 0
    correct = drawn.binomial(true, 0.8)
    return Counts(names, names, "images", ("background", "target", "other"), np.stack([correct, true, true], axis=1))


def test_the_target_iou_is_a_mean_over_instances_drawn_by_image() -> None:
    run, baseline = by_instance(1), by_instance(2)
    found = bootstrap(run, baseline, "target_iou")
    means = []
    for counts in (run, baseline):
        correct, predicted, true = (counts.pixels[:, row, 1] for row in range(3))
        has = true > 0
        means.append(np.mean(correct[has] / (predicted + true - correct)[has]))
    assert found.scores == pytest.approx(means)
    assert found.score.delta == pytest.approx(means[0] - means[1])
    assert found.score.n == 20
    assert found.score.low < found.score.delta < found.score.high
    assert bootstrap(run, run, "target_iou").score.low == 0
    assert found.classes == bootstrap(run, baseline).classes


def test_a_score_that_does_not_follow_from_counts_has_no_interval() -> None:
    with pytest.raises(StoreError, match="boundary F1 does not follow from the counts per image"):
        bootstrap(made(1), made(2), "boundary_f1")
