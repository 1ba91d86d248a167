"""What is known of a checkpoint is told without a process; what is not, is asked once."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from kdtui.errors import EngineError, KdtuiError, TeacherError
from kdtui.launch.groups import plan_group
from kdtui.profile import load
from kdtui.store.run import Run
from kdtui.store.state import RunSummary
from kdtui.store.store import RunStore
from kdtui.tui.engine_client import EngineClient
from kdtui.tui.screens.new_run.teacher import lines_of
from tests.fake_engine import Engine

ANSWER = {
    "architecture": "Unet",
    "encoder": "resnet18",
    "decoder_channels": [64, 32, 32, 16, 16],
    "task": "semantic",
    "classes": 12,
    "parameters": 3_000_000,
    "container": "lightning",
    "class_names": ["sky", "road"],
    "bytes": 7,
    "unheard_of": {"nested": True},
}


def engine_with(answer: dict[str, Any] | KdtuiError = ANSWER) -> Engine:
    """An engine that knows what a checkpoint is."""
    return Engine({"inspect": answer})


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    store = RunStore(tmp_path / "runs")
    store.create(load("demo-teacher")).best.write_bytes(b"weights")
    return store


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "foreign.pth"
    path.write_bytes(b"weights")
    return path


def door(store: RunStore, engine: Engine) -> EngineClient:
    rows = {row.id: row for row in store.summaries()}
    return EngineClient(store, engine, rows.get)


def no_run(run_id: str) -> RunSummary | None:
    return None


def test_a_file_is_inspected_once_and_moving_the_cursor_inspects_nothing(store: RunStore, file: Path) -> None:
    engine = engine_with()
    first = door(store, engine)

    assert first.cached(file) is None
    assert not engine.asked
    found = first.inspect(file)
    assert first.cached(file) == found
    assert (found.encoder, found.classes, found.parameters) == ("resnet18", 12, 3_000_000)
    assert engine.asked == [("inspect", str(file))]


def test_the_next_app_uses_the_cached_result_until_the_file_changes(store: RunStore, file: Path) -> None:
    found = door(store, engine_with()).inspect(file)
    engine = engine_with()

    assert door(store, engine).cached(file) == found
    os.utime(file, ns=(1, 1))
    assert door(store, engine).cached(file) is None
    file.write_bytes(b"other weights")
    assert door(store, engine).cached(file) is None
    assert not engine.asked


def test_engine_options_are_part_of_the_cache_key(store: RunStore, file: Path) -> None:
    engine = engine_with()
    asking = door(store, engine)
    asking.inspect(file)

    assert asking.cached(file, ("--task", "hierarchical")) is None
    asking.inspect(file, ("--task", "hierarchical"))
    assert engine.asked[-1] == ("inspect", str(file), "--task", "hierarchical")


def test_the_cache_may_be_damaged_or_deleted_at_any_time(store: RunStore, file: Path) -> None:
    cache = store.root / ".cache" / "inspected.json"
    door(store, engine_with()).inspect(file)
    whole = cache.read_bytes()

    for damage in (b"", b"{", b"[]", b'{"version": "0"}', whole[: len(whole) // 2], whole.replace(b'"key"', b'"kex"')):
        cache.write_bytes(damage)
        assert door(store, engine_with()).cached(file) is None
    cache.unlink()
    engine = engine_with()
    assert door(store, engine).inspect(file).encoder == "resnet18"
    assert len(engine.asked) == 1
    assert cache.exists()


def test_without_a_writable_cache_the_next_app_inspects_again(tmp_path: Path, file: Path) -> None:
    engine = engine_with()
    asking = EngineClient(RunStore(tmp_path / "not there yet"), engine, no_run)

    assert asking.inspect(file).encoder == "resnet18"
    assert asking.cached(file) is not None
    assert not (tmp_path / "not there yet").exists()


def test_a_run_is_described_by_its_own_files(store: RunStore) -> None:
    engine = engine_with()
    asking = door(store, engine)
    best = store.runs()[0].best

    cached = asking.cached(best)

    assert cached == asking.inspect(best)
    assert cached is not None
    assert (cached.run, cached.encoder, cached.container) == (store.runs()[0].id, "resnet18", "run")
    assert not engine.asked


def test_a_run_of_another_store_is_described_when_inspected(store: RunStore, tmp_path: Path) -> None:
    engine = engine_with()
    asking = EngineClient(RunStore(tmp_path / "mine"), engine, no_run)
    best = store.runs()[0].best

    assert asking.cached(best) is None
    assert asking.inspect(best).encoder == "resnet18"
    assert not engine.asked


def test_an_unusable_teacher_has_a_reason_and_is_inspected_again_by_the_next_app(store: RunStore, file: Path) -> None:
    engine = engine_with(TeacherError("this is no whole Unet", where=file, hint="save it again"))
    asking = door(store, engine)

    found = asking.inspect(file)

    assert "no whole Unet" in found.mistake
    assert found.hint == "save it again"
    assert asking.cached(file) == found
    assert door(store, engine).cached(file) is None


def test_an_engine_failure_is_not_cached_as_a_result(store: RunStore, file: Path) -> None:
    engine = engine_with(EngineError("no answer", hint="kdtui doctor"))
    asking = door(store, engine)

    assert asking.inspect(file).hint == "kdtui doctor"
    assert asking.cached(file) is None


def test_family_and_input_are_displayed_and_cached(store: RunStore, file: Path) -> None:
    answer = {"family": "Hugging Face", "in_channels": 1, "mean": [0.5], "std": [0.25], "bgr": False, "encoder": ""}
    found = door(store, engine_with(answer)).inspect(file)

    assert (found.family, found.input) == ("Hugging Face", "1 channel, mean 0.5, std 0.25")
    assert door(store, engine_with()).cached(file) == found
    text = "\n".join("".join(words for words, _ in line) for line in lines_of(file, found))
    assert "Hugging Face" in text and "input: 1 channel" in text


def test_results_of_another_engine_version_are_read_partially(store: RunStore, file: Path) -> None:
    answer = {"parameters": "many", "encoder": None, "class_names": "sky", "architecture": "Unet"}
    found = door(store, engine_with(answer)).inspect(file)

    assert (found.parameters, found.encoder, found.class_names, found.architecture) == (None, "", [], "Unet")


def test_nothing_is_known_of_a_deleted_file(store: RunStore, file: Path) -> None:
    asking = door(store, engine_with())
    asking.inspect(file)
    file.unlink()

    assert asking.cached(file) is None
    assert asking.cached(Run(store.root / "gone").best) is None


def test_seeds_of_one_profile_are_checked_once(store: RunStore) -> None:
    engine = Engine({"check": {"checks": [{"name": "data", "ok": True, "message": "fine"}]}})
    group = plan_group(store, [load("demo-baseline")], seeds=range(3))

    plan = door(store, engine).plan(group)

    assert [(run.seed, run.epochs) for run in plan.runs] == [(0, 10), (1, 10), (2, 10)]
    assert plan.ok
    assert len(engine.asked) == 1
