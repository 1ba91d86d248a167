"""Δ at equal wall-clock time, from events."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from kdtui.compare import ComparedRun
from kdtui.compare.render import time_text
from kdtui.compare.wallclock import equal_time
from kdtui.events import Event, Measured, Started
from kdtui.store.run import EventLog
from kdtui.store.state import RunSummary, State


def trained(folder: Path, name: str, seconds: float, mious: list[float], **changes: int) -> ComparedRun:
    """A run whose epochs of one step take ``seconds`` each."""
    path = folder / name
    path.mkdir()
    events: list[Event] = [started(0, 1000.0, **changes)]
    events += [scored(step, 1000 + seconds * step, miou) for step, miou in enumerate(mious, start=1)]
    write(path, *events)
    return ComparedRun(RunSummary(name, name, path, State.FINISHED, host="here"), {})


def started(step: int, at: float, *, threads: int = 2) -> Started:
    ranks = ({"pid": 1, "start_ticks": 1, "boot_id": "b"},)
    return Started(1, ranks, "cpu", "fp32", threads, 1, 9, 1, step, {}, time=at)


def scored(step: int, at: float, miou: float) -> Measured:
    return Measured("val", step, step, step, {"miou": miou}, time=at)


def write(path: Path, *events: Event) -> None:
    with EventLog(path / "events.jsonl") as log:
        for event in events:
            log.append(event)


def test_each_is_compared_with_the_best_of_the_other_by_then(tmp_path: Path) -> None:
    slow, fast = trained(tmp_path, "slow", 20, [0.2, 0.5, 0.7]), trained(tmp_path, "fast", 10, [0.3, 0.4, 0.6])
    there, back = equal_time([(slow, fast)]), equal_time([(fast, slow)])
    assert (there.seconds, there.baseline_seconds) == (60, 30)
    assert there.delta == pytest.approx(0.7 - 0.6)
    assert there.delta_within_baseline == pytest.approx(0.2 - 0.6)  # one epoch in these 30 seconds
    assert (back.delta, back.delta_within_baseline) == pytest.approx((0.4, -0.1))
    same = equal_time([(slow, slow)])
    assert (same.delta, same.delta_within_baseline) == (0, 0)


def test_the_mean_over_seeds_has_an_interval(tmp_path: Path) -> None:
    pairs = [
        (trained(tmp_path, f"slow{seed}", 20, [0.2, score]), trained(tmp_path, f"fast{seed}", 10, [0.3, 0.4]))
        for seed, score in ((0, 0.5), (1, 0.7))
    ]
    found = equal_time(pairs)
    assert found.delta == pytest.approx(0.2)
    assert found.interval is not None and found.interval_within_baseline is not None
    assert found.interval.delta == pytest.approx(0.2) and found.interval.n == 2
    assert found.interval_within_baseline.delta == found.delta_within_baseline == pytest.approx(-0.2)
    assert f"Δ at equal time: +0.2000 {found.interval.limits} after" in time_text(found)
    assert equal_time(pairs[:1]).interval is None
    other = ComparedRun(dataclasses.replace(pairs[1][1].summary, seed=5), {})
    assert equal_time([pairs[0], (pairs[1][0], other)]).interval is None


def test_pauses_and_steps_that_were_trained_twice_do_not_count(tmp_path: Path) -> None:
    straight, paused = (trained(tmp_path, name, 10, [0.3, 0.5]) for name in ("straight", "paused"))
    write(straight.summary.path, scored(3, 1030, 0.6))
    write(paused.summary.path, started(1, 9000.0), scored(2, 9010, 0.5), scored(3, 9020, 0.6))
    found = equal_time([(paused, straight)])
    assert (found.seconds, found.baseline_seconds, found.delta) == (30, 30, 0)


def test_other_devices_have_no_equal_time(tmp_path: Path) -> None:
    one, other = trained(tmp_path, "one", 10, [0.3]), trained(tmp_path, "other", 10, [0.3], threads=8)
    assert equal_time([(one, other)]).reason == "trained on different devices"
    (one.summary.path / "events.jsonl").unlink()
    (other.summary.path / "events.jsonl").unlink()
    assert equal_time([(one, other)]).reason == "no events"


def test_the_run_without_a_score_is_named(tmp_path: Path) -> None:
    late, early, never = (trained(tmp_path, *of) for of in (("late", 10, [0.3]), ("early", 1, [0.3]), ("never", 1, [])))
    assert equal_time([(late, early)]).reason == "late had no evaluation yet when its baseline had ended"
    assert equal_time([(early, late)]).reason == "late had no evaluation yet when early had ended"
    assert equal_time([(late, never)]).reason == equal_time([(never, late)]).reason == "never had no evaluation"


def reported(step: int, cached: float | None, images_per_second: float) -> Measured:
    scalars = {"images_per_second": images_per_second, "teacher_cached": cached}
    return Measured("train", step, step, 10 * step, scalars, time=1003)


def test_the_time_with_a_live_teacher_is_that_of_the_steps_without_cached_logits(tmp_path: Path) -> None:
    run, alone = trained(tmp_path, "run", 1, [0.3, 0.4, 0.6]), trained(tmp_path, "alone", 1, [0.3, 0.4, 0.5, 0.55, 0.7])
    assert equal_time([(run, alone)]).cached == 0
    write(run.summary.path, reported(1, 0.0, 5.0), reported(2, 1.0, 20.0), reported(3, 1.0, 20.0))
    found = equal_time([(run, alone)])
    assert found.cached == pytest.approx(2 / 3)
    assert found.live_seconds == pytest.approx(3 + 20 * (1 / 5 - 1 / 20))
    assert (found.delta, found.delta_live) == pytest.approx((0.6 - 0.5, 0.6 - 0.7))

    only = trained(tmp_path, "only", 1, [0.3, 0.4, 0.5])
    write(only.summary.path, reported(1, 1.0, 20.0), reported(3, 1.0, 20.0))
    found = equal_time([(only, alone)])
    assert (found.cached, found.live_seconds, found.delta_live) == (1, None, None)
