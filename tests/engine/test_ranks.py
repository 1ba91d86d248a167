"""One device and two: the same gradients, the same validation, one answer about stopping. Real gloo processes."""

from __future__ import annotations

import dataclasses
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from kdtui.engine import checkpoint
from kdtui.events import Failed, Started, Stopped
from kdtui.store.run import Run
from tests.engine.data.makers import HEIGHT, WIDTH, label_folder
from tests.engine.first_gradients import keep_first_gradients
from tests.engine.runs import curve, events_of, make_run, record

ROOT = Path(__file__).resolve().parents[2]
# The engine's door in a process whose interpreter never ends: what destroying a process group can come to.
ENDLESS_DOOR = """
import atexit, runpy, time
atexit.register(time.sleep, 600)
runpy.run_module("kdtui.engine", run_name="__main__")
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start(world_size: int, *argv: str) -> list[subprocess.Popen[str]]:
    """``python argv`` once per rank, as the supervisor starts it."""
    port = str(free_port())
    processes = []
    for rank in range(world_size):
        environment = os.environ | {
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            "WORLD_SIZE": str(world_size),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": port,
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": str(ROOT),
        }
        processes.append(
            subprocess.Popen(
                [sys.executable, *argv],
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    return processes


def ranks(world_size: int, *argv: str, timeout: float = 120) -> list[subprocess.CompletedProcess[str]]:
    """Run ``python argv`` once per rank; all must end well."""
    processes, done = start(world_size, *argv), []
    try:
        for process in processes:
            out, error = process.communicate(timeout=timeout)
            assert process.returncode == 0, error[-3000:]
            done.append(subprocess.CompletedProcess(process.args, process.returncode, out, error))
    finally:
        for process in processes:
            process.kill()
    return done


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Run:
    from tests.engine.runs import fit

    run = make_run(tmp_path_factory.mktemp("teacher"), training__epochs=1, training__precision="fp32")
    fit(run)
    return run


def gradients(tmp_path: Path, teacher: Run, name: str, world_size: int, **changes: Any) -> dict[str, torch.Tensor]:
    """The gradients of the first optimizer step of a distilled run, as rank 0 holds them after the reduction."""
    run = make_run(
        tmp_path / name,
        training__precision="fp32",
        training__gradient_clip=0.0,
        training__devices=world_size,
        teacher__checkpoint=str(teacher.best),
        distillation__enabled=True,
        **changes,
    )
    if world_size == 1:
        keep_first_gradients(run)
    else:
        ranks(world_size, str(Path(__file__).with_name("first_gradients.py")), str(run.path))
    kept: dict[str, torch.Tensor] = torch.load(run.path / "gradients.pth", weights_only=True)
    return kept


def test_gradients_do_not_depend_on_micro_batches_or_ranks(tmp_path: Path, teacher: Run) -> None:
    whole = gradients(tmp_path, teacher, "whole", 1)
    micro = gradients(tmp_path, teacher, "micro", 1, training__micro_batch_size=2)
    two_micro = gradients(tmp_path, teacher, "two_micro", 2, training__micro_batch_size=2)
    assert len(whole) > 20
    for other in (micro, two_micro):
        for name, gradient in whole.items():
            scale = float(gradient.abs().max())
            torch.testing.assert_close(other[name], gradient, rtol=1e-3, atol=1e-4 * scale, msg=name)


def two_ranks(tmp_path: Path, teacher: Run, **changes: Any) -> Run:
    return make_run(
        tmp_path,
        training__devices=2,
        data__val_samples=11,  # uneven: one rank evaluates a sample more
        teacher__checkpoint=str(teacher.best),
        distillation__enabled=True,
        **changes,
    )


def test_two_ranks_train_evaluate_and_write_once(tmp_path: Path, teacher: Run) -> None:
    run = two_ranks(tmp_path, teacher)
    run.write_launch_record(dataclasses.replace(record(run), devices=2))
    ended = ranks(2, "-c", ENDLESS_DOOR, "train", str(run.path))
    assert [json.loads(rank.stdout) for rank in ended] == [{"run": run.id, "word": "finished"}] * 2
    seen = events_of(run)
    (started,) = [event for event in seen if isinstance(event, Started)]
    assert started.world_size == 2
    assert len({rank["pid"] for rank in started.ranks}) == 2
    assert [event.kind for event in seen][-1] == "finished"
    assert [step for step, *_ in curve(run, "val", "miou")] == [3, 6]
    assert len(checkpoint.load(run.last)["resume"]["rng"]) == 2
    # Sharded validation of the saved student equals one process over the whole split.
    from kdtui.engine.assess import assess

    alone = assess(run.profile(), str(run.last), "val")
    assert alone["miou"] == pytest.approx(curve(run, "val", "miou")[-1][1], abs=1e-6)


def test_two_ranks_hear_of_a_stop_together(tmp_path: Path, teacher: Run) -> None:
    run = two_ranks(tmp_path, teacher, training__epochs=400)
    ranks(2, str(Path(__file__).with_name("train_rank.py")), str(run.path), "--stop-after-step", "4")
    assert isinstance(events_of(run)[-1], Stopped)
    assert 4 <= checkpoint.load(run.last)["resume"]["step"] < 100


def test_a_rank_that_fails_alone_says_why_and_the_other_does_not_talk_over_it(tmp_path: Path) -> None:
    data = label_folder(tmp_path / "data", count=4)
    last = tmp_path / "data" / "masks" / "val" / "3.png"  # in the share of rank 1
    Image.fromarray(np.full((HEIGHT, WIDTH), 99, np.uint8)).save(last)
    run = make_run(tmp_path / "runs", data=data.model_dump(), training__batch_size=2, training__devices=2)
    run.write_launch_record(dataclasses.replace(record(run), devices=2))
    for process in start(2, "-m", "kdtui.engine", "train", str(run.path)):
        process.communicate(timeout=120)
        assert process.returncode == 4
    (failed,) = [event for event in events_of(run) if isinstance(event, Failed)]
    assert failed.error == "DataError"
    assert str(last) in failed.message


def test_two_ranks_stopped_between_two_reports_resume_as_if_they_never_had(tmp_path: Path, teacher: Run) -> None:
    script = str(Path(__file__).with_name("train_rank.py"))
    settings: dict[str, Any] = {"training__epochs": 3, "training__log_every": 2, "data__train_samples": 32}
    undisturbed, stopped = (two_ranks(tmp_path / name, teacher, **settings) for name in ("undisturbed", "stopped"))
    ranks(2, script, str(undisturbed.path))
    ranks(2, script, str(stopped.path), "--stopped-at-step", "2")
    resume = checkpoint.load(stopped.last)["resume"]
    assert resume["step"] % 2  # in the middle of a window of losses
    assert resume["window"]
    ranks(2, script, str(stopped.path), "--attempt", "2")
    for split, names in (("train", ("loss", "loss.distill", "gradient_norm")), ("val", ("miou", "agreement"))):
        assert curve(stopped, split, *names) == curve(undisturbed, split, *names)
