"""On a GPU: ``make test-gpu``."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from kdtui.engine import checkpoint
from kdtui.engine.fit import train
from kdtui.events import Finished, Started, Stopped
from kdtui.store.run import Run
from tests.engine.runs import StoppedAt, curve, events_of, make_run, record

pytestmark = pytest.mark.gpu


def fit_on_gpu(run: Run, *, attempt: int = 1) -> None:
    run.clear_stop()
    train(run, dataclasses.replace(record(run, attempt=attempt), device="gpu"), rank=0, world_size=1)


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_a_student_is_distilled_in_every_precision(tmp_path: Path, precision: str) -> None:
    teacher = make_run(tmp_path, name="teacher", training__precision=precision)
    fit_on_gpu(teacher)
    run = make_run(
        tmp_path,
        training__precision=precision,
        training__micro_batch_size=4,
        teacher__checkpoint=str(teacher.best),
        distillation__enabled=True,
    )
    fit_on_gpu(run)
    started, *_, finished = events_of(run)
    assert isinstance(started, Started)
    assert (started.device, started.precision) == ("cuda", precision)
    assert isinstance(finished, Finished)
    assert bool(checkpoint.load(run.last)["resume"]["scaler"]) == (precision == "fp16")


def test_a_stopped_run_continues(tmp_path: Path) -> None:
    run = make_run(tmp_path, training__precision="fp16", training__epochs=3)
    fit_on_gpu(StoppedAt(run.path, lambda seen: any(getattr(event, "step", 0) == 4 for event in seen)))
    assert isinstance(events_of(run)[-1], Stopped)
    fit_on_gpu(run, attempt=2)
    assert isinstance(events_of(run)[-1], Finished)
    assert [step for step, *_ in curve(run, "val", "miou")] == [3, 6, 9]


def test_auto_is_bf16_where_the_gpu_has_it(tmp_path: Path) -> None:
    run = make_run(tmp_path, training__epochs=1)
    fit_on_gpu(run)
    (started,) = [event for event in events_of(run) if isinstance(event, Started)]
    assert started.precision == ("bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16")
