"""``kdtui search``: what it refuses, what a dry run prints, and a search from beginning to end."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kdtui.store.store import RunStore
from tests.cli.conftest import Kdtui
from tests.sweep.search.searching import KEYS, made, teacher

OPTIONS = ["--latency", "10ms", "--encoders", "tu-mobilenetv3_small_050,resnet18", "--architectures", "Unet"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--latency", "10"], "--latency"),
        (["--latency", "10ms", "--on", "gpu"], "no such device"),
        (["--latency", "10ms", "--encoders", "resnet17"], "nearest: resnet18"),
        (["--latency", "10ms", "--architectures", "unet"], "nearest: Unet"),
        (["--latency", "10ms", "--trials", "2", "--hours", "1"], "exclude each other"),
        (["--latency", "10ms", "--trials", "0"], "a whole number from 1"),
        (["--latency", "10ms", "--hours", "nan"], "not a number of hours"),
        (["--latency", " "], "this option is empty"),
        (["--latency", "10ms", "--set", "training.epoch=2"], "training.epoch"),
        (["--latency", "10ms", "--seeds", "0,0"], "twice"),
        (["--latency", "10ms", "--parameters", "1K"], "no candidate is within the budget"),
        (["--latency", "10ms", "--hours", "1"], "--trials N"),
    ],
)
def test_bad_input_is_one_message(kdtui: Kdtui, store: RunStore, words: list[str], message: str) -> None:
    run = teacher(store)
    done = kdtui("search", "--teacher", run.id, *words)
    assert done.code == 2 and message in done.err and "Traceback" not in done.err
    assert not (store.root / ".sweeps").exists()


def test_the_data_of_a_file_are_unknown(kdtui: Kdtui, store: RunStore, tmp_path: Path) -> None:
    file = tmp_path / "foreign.pth"
    file.write_bytes(b"weights")
    done = kdtui("search", "--teacher", str(file), "--latency", "10ms")
    assert done.code == 2 and "its data are unknown" in done.err and "--profile NAME" in done.err


def test_a_dry_run_lists_candidates_and_makes_nothing(kdtui: Kdtui, store: RunStore) -> None:
    run = teacher(store)
    done = kdtui("search", "--teacher", run.id, *OPTIONS, "--parameters", "12M", "--dry-run")
    assert done.code == 0, done.err
    assert "8 candidates, 2 over the budget of 10.00 ms, 12.00 M parameters, 6 measurements to make" in done.out
    assert "14.33 M parameters > 12.00 M" in done.out
    rows = json.loads(kdtui("search", "--teacher", run.id, *OPTIONS, "--dry-run", "--json").out)
    assert (len(rows["candidates"]), rows["to_measure"], rows["trials"]) == (8, 8, 8)
    assert not (store.root / ".sweeps").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [("", "the search's spec.toml is damaged"), ("format = 99\n", "this search was made by a later version")],
)
def test_a_search_that_cannot_be_read_is_called_one_and_is_no_sweep(
    kdtui: Kdtui, store: RunStore, text: str, message: str
) -> None:
    folder = made(store)
    folder.spec_path.write_text(text)
    done = kdtui("search", "resume", folder.id)
    assert done.code == 3 and message in done.err
    assert f"kdtui runs --filter sweep={folder.id}" in done.err
    assert folder.id in kdtui("search", "list").out and folder.id not in kdtui("sweep", "list").out


def test_from_a_budget_to_an_exported_student(kdtui: Kdtui, store: RunStore) -> None:
    run = teacher(store)
    done = kdtui("search", "--teacher", run.id, *OPTIONS, "--trials", "1", "--seeds", "0", "--retention", "99%")
    assert done.code == 0, done.err
    assert f"{KEYS[0]} wins" in done.err and f"★         {KEYS[0]}" in done.out and "│ budget" in done.out
    assert "points below the goal 99.0%" in done.out

    listed = json.loads(kdtui("search", "list", "--json").out)
    (entry,) = [entry for entry in listed[0]["entries"] if entry["role"] == "student"]
    shown = json.loads(kdtui("search", "show", listed[0]["id"][:8], "--json").out)
    assert shown["entries"] == listed[0]["entries"] and shown["state"] == "finished"
    assert (store.root / entry["run"] / "checkpoints" / "best_model.onnx").is_file()

    again = kdtui("search", "resume", "latest")
    assert again.code == 0 and len(store.runs()) == 3
    assert kdtui("search", "stop", "latest").code == 2
    assert kdtui("search", "show", "nonsense").code == 2
