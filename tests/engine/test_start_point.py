"""Checkpoints that were deleted, cut or exchanged between two attempts of a run."""

from __future__ import annotations

import os
import shutil
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from kdtui import events
from kdtui.engine import checkpoint
from kdtui.engine.check import check
from kdtui.engine.start_point import find_start
from kdtui.errors import CheckpointError, UsageError
from kdtui.store.run import EventLog, Run
from tests.engine.runs import curve, events_of, fit, make_run


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Three epochs of three steps; every checkpoint kept."""
    run = make_run(
        tmp_path_factory.mktemp("trained"),
        training__epochs=3,
        training__precision="fp32",
        training__keep_checkpoints=9,
    )
    assert fit(run) == "finished"
    return run


@pytest.fixture
def run(trained: Run, tmp_path: Path) -> Run:
    """A copy of the trained run, with checkpoints that share their files as those of the original do."""
    copy_with_links(trained.path, tmp_path / trained.id)
    return Run(tmp_path / trained.id)


def copy_with_links(source: Path, target: Path) -> None:
    copied: dict[int, Path] = {}
    for path in sorted(source.rglob("*")):
        there = target / path.relative_to(source)
        if path.is_dir():
            there.mkdir(parents=True)
        elif path.stat().st_ino in copied:
            os.link(copied[path.stat().st_ino], there)
        else:
            there.parent.mkdir(parents=True, exist_ok=True)
            copied[path.stat().st_ino] = Path(shutil.copy2(path, there))


def weights(path: Path) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = checkpoint.load(path)["student"]
    return state


def same(one: Path, other: Path) -> bool:
    ours, theirs = weights(one), weights(other)
    return all(torch.equal(ours[key], theirs[key]) for key in theirs)


def began_at(run: Run) -> int:
    """Steps that the newest attempt had behind it when it began."""
    return [event for event in events_of(run) if isinstance(event, events.Started)][-1].resumed_step


def warned(run: Run, code: str) -> list[str]:
    return [event.message for event in events_of(run) if isinstance(event, events.Warned) and event.code == code]


def cut(path: Path) -> None:
    """Truncate in place: every other name of the same file is cut too."""
    os.truncate(path, path.stat().st_size // 2)


def flip_a_weight(path: Path) -> None:
    """One byte in the middle of a tensor, which torch itself reads without a word."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.unlink()
    path.write_bytes(content)


def replace_by(path: Path, content: bytes) -> None:
    path.unlink()
    path.write_bytes(content)


def of_another_run(path: Path) -> None:
    content = checkpoint.load(path) | {"run": "20200101-000000-other"}
    checkpoint.save(path, content)


def weights_alone(path: Path) -> None:
    content = checkpoint.load(path)
    del content["resume"]
    checkpoint.save(path, content)


DAMAGES: dict[str, tuple[Callable[[Path], None], str]] = {
    "missing": (Path.unlink, "last.pth is missing"),
    "empty": (lambda path: replace_by(path, b""), "last.pth is empty"),
    "text": (lambda path: replace_by(path, b"not a checkpoint"), "last.pth is damaged"),
    "one byte": (flip_a_weight, "last.pth is damaged"),
    "another run's": (of_another_run, "last.pth is a checkpoint of another run"),
    "weights alone": (weights_alone, "last.pth is only weights"),
}


@pytest.mark.parametrize("kind", DAMAGES)
def test_the_newest_whole_epoch_checkpoint_is_chosen(run: Run, kind: str) -> None:
    damage, said = DAMAGES[kind]
    assert find_start(run).path == run.last
    damage(run.last)
    start = find_start(run)
    assert (start.path, start.own) == (run.epoch_checkpoint(3), True)
    assert said in " ".join(start.passed_over)


def test_a_run_continues_from_its_newest_whole_epoch_checkpoint_and_is_reported(run: Run) -> None:
    before = run.best.read_bytes()
    run.last.unlink()
    assert fit(run, attempt=2) == "finished"
    assert began_at(run) == 9
    (message,) = warned(run, "checkpoint-passed-over")
    assert message == "last.pth is missing: training resumes from checkpoint_epoch_0003.pth, after epoch 3 (step 9)"
    assert run.best.read_bytes() == before


def test_a_file_that_is_cut_takes_all_its_names_with_it(run: Run, trained: Run) -> None:
    assert run.last.samefile(run.epoch_checkpoint(3))
    cut(run.last)
    assert fit(run, attempt=2) == "finished"
    assert began_at(run) == 6
    (message,) = warned(run, "checkpoint-passed-over")
    assert "last.pth is truncated; checkpoint_epoch_0003.pth is truncated" in message
    # The epoch was trained again from the state before it.
    assert same(run.last, trained.last)
    assert curve(run, "val", "miou", "best_miou") == curve(trained, "val", "miou", "best_miou")
    assert same(run.best, trained.best)


def test_a_lower_score_never_replaces_the_best_weights(run: Run) -> None:
    content = checkpoint.load(run.best) | {"best": 0.99, "epoch": 3}
    checkpoint.save(run.best, content)
    before = run.best.read_bytes()
    for path in (run.last, run.epoch_checkpoint(3), run.epoch_checkpoint(2)):
        path.unlink()
    assert fit(run, attempt=2) == "finished"
    assert began_at(run) == 3
    assert run.best.read_bytes() == before
    state = checkpoint.load(run.last)["resume"]
    assert (state["best_miou"], state["best_epoch"]) == (0.99, 3)


def test_no_state_left_is_refused_and_nothing_is_touched(run: Run) -> None:
    run.last.unlink()
    for path in run.epoch_checkpoints():
        cut(path)
    before = {path: path.read_bytes() for path in sorted(run.path.rglob("*")) if path.is_file()}
    with pytest.raises(CheckpointError) as refused:
        fit(run, attempt=2)
    for words in ("last.pth is missing", "checkpoint_epoch_0001.pth is truncated", "best_model.pth is intact"):
        assert words in refused.value.message
    assert f"--resume {run.best}" in (refused.value.hint or "")
    assert {path: path.read_bytes() for path in sorted(run.path.rglob("*")) if path.is_file()} == before


def test_events_of_saved_checkpoints_alone_keep_a_run_from_beginning_again(run: Run) -> None:
    shutil.rmtree(run.checkpoints)
    run.checkpoints.mkdir()
    with pytest.raises(CheckpointError, match="no intact checkpoint to resume from"):
        fit(run, attempt=2)
    assert not list(run.checkpoints.iterdir())


def test_millions_of_events_are_not_held_in_memory(run: Run) -> None:
    for path in run.checkpoints.iterdir():
        path.unlink()
    lines = [line for line in run.events_path.read_bytes().splitlines(keepends=True) if b'"saved"' not in line]
    note = events.encode(events.Noted(100_000 * "x"))
    run.events_path.write_bytes(b"".join([*lines[:2], *(200 * [note]), *lines[2:]]))
    tracemalloc.start()
    try:
        with pytest.raises(CheckpointError):
            find_start(run)
        assert tracemalloc.get_traced_memory()[1] < 10 << 20
    finally:
        tracemalloc.stop()


def test_checkpoints_count_where_the_records_of_earlier_attempts_are_lost(run: Run) -> None:
    run.events_path.unlink()
    assert fit(run, attempt=1) == "finished"
    assert began_at(run) == 9
    # The points that the checkpoint carries are written again.
    assert [step for step, *_ in curve(run, "val", "miou")] == [3, 6, 9]


def test_points_that_the_events_lost_come_back_from_the_checkpoint(run: Run) -> None:
    lines = run.events_path.read_bytes().splitlines(keepends=True)
    run.events_path.write_bytes(b"".join(line for line in lines[:12] if b'"step":6' not in line))
    assert fit(run, attempt=2) == "finished"
    assert began_at(run) == 9
    assert [step for step, *_ in curve(run, "val", "miou")] == [3, 6, 9]


def test_a_run_that_ended_before_its_first_checkpoint_begins_again(tmp_path: Path) -> None:
    run = make_run(tmp_path, training__epochs=1, training__precision="fp32")
    with EventLog(run.events_path) as log:
        log.append(events.Measured("train", 2, 1, 16, {"loss": 1.0}))
    assert fit(run, attempt=2) == "finished"
    assert began_at(run) == 0


def test_lost_best_weights_are_taken_from_their_epoch(run: Run, trained: Run) -> None:
    best_epoch = checkpoint.load(run.best)["epoch"]
    assert best_epoch in (1, 2, 3)
    run.best.unlink()
    assert fit(run, attempt=2) == "finished"
    assert same(run.best, trained.best)
    content = checkpoint.load(run.best)
    assert (content["epoch"], content["best"], content["run"]) == (
        best_epoch,
        checkpoint.load(trained.best)["best"],
        run.id,
    )
    assert not warned(run, "best-lost")


def test_best_weights_that_are_nowhere_are_said_to_be_lost(run: Run) -> None:
    state = checkpoint.load(run.last)
    state["resume"] |= {"best_miou": 0.99, "best_epoch": 2}
    checkpoint.save(run.last, state)
    run.best.write_bytes(b"")
    assert fit(run, attempt=2) == "finished"
    (message,) = warned(run, "best-lost")
    assert "best_model.pth is empty: the weights of epoch 2, mIoU 0.9900, are lost" in message
    assert same(run.best, run.last)
    assert checkpoint.load(run.best)["best"] == curve(run, "val", "miou")[-1][1]


def test_best_holds_the_weights_alone_in_a_file_of_its_own(trained: Run) -> None:
    assert "resume" not in checkpoint.load(trained.best)
    assert trained.best.stat().st_nlink == 1
    assert trained.best.stat().st_size < trained.last.stat().st_size
    assert trained.last.samefile(trained.epoch_checkpoint(3))


def test_a_best_checkpoint_of_an_older_version_is_a_state_to_continue_from(run: Run) -> None:
    shutil.copy(run.epoch_checkpoint(2), tmp := run.checkpoints / "copy")
    for path in (run.last, *run.epoch_checkpoints()):
        path.unlink()
    tmp.replace(run.best)
    assert fit(run, attempt=2) == "finished"
    assert began_at(run) == 6


def profile_checks(run: Run, **options: Any) -> dict[str, Any]:
    return check(run.profile(), run=run, **options)


def test_check_names_the_state_that_a_run_would_continue_from(run: Run) -> None:
    run.last.unlink()
    answer = profile_checks(run)
    assert answer["checks"][0]["ok"]
    assert answer["checks"][0]["epochs_done"] == 3
    assert "checkpoint_epoch_0003.pth, after epoch 3" in answer["checks"][0]["message"]
    (warning,) = [w for w in answer["warnings"] if w["code"] == "checkpoint-passed-over"]
    assert "last.pth is missing" in warning["message"]


@pytest.mark.parametrize("total_epochs", [1, 3])
def test_a_horizon_that_is_behind_the_run_is_refused(run: Run, total_epochs: int) -> None:
    look = profile_checks(run, total_epochs=total_epochs)["checks"][0]
    assert (look["ok"], look["error"]) == (False, "UsageError")
    assert "4 or more" in look["message"]
    assert "--total-epochs 4" in look["hint"]
    assert profile_checks(run, total_epochs=4)["checks"][0]["ok"]


def test_an_attempt_with_a_horizon_behind_it_changes_nothing(run: Run) -> None:
    before = run.events_path.read_bytes()
    with pytest.raises(UsageError, match="already completed 3 epochs"):
        fit(run, attempt=2, total_epochs=2)
    assert run.events_path.read_bytes() == before


def test_a_checkpoint_of_another_run_in_a_runs_folder_starts_no_new_run(run: Run) -> None:
    of_another_run(run.last)
    look = next(look for look in check(run.profile(), resume_from=run.last)["checks"] if look["name"] == "resume")
    assert not look["ok"]
    assert "20200101-000000-other" in look["message"]
