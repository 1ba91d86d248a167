"""Every shipped method of distillation trains: CNN and transformer students, on one rank and on two."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from kdtui.engine.fit import train
from kdtui.events import Measured
from kdtui.profile.methods import find_method, method_names
from kdtui.store.run import Run
from tests.engine.rank_processes import TRAIN, ranks
from tests.engine.runs import StoppedAt, curve, events_of, fit, make_run, record, same_weights

STUDENTS: dict[str, dict[str, Any]] = {
    "cnn": {"encoder": "tu-test_resnet", "encoder_depth": 3, "decoder_channels": [8, 8, 4]},
    "transformer": {"encoder": "mit_b0", "decoder_channels": [8, 8, 8, 8, 8]},
}


@pytest.mark.slow
@pytest.mark.parametrize("world_size", [1, 2])
@pytest.mark.parametrize("student", STUDENTS)
@pytest.mark.parametrize("method", method_names())
def test_a_method_trains_two_epochs(
    tmp_path: Path, short_teacher: Run, method: str, student: str, world_size: int
) -> None:
    terms = find_method(method).terms
    run = make_run(
        tmp_path,
        student=STUDENTS[student],
        teacher__checkpoint=str(short_teacher.best),
        distillation={"enabled": True, "terms": list(terms)},
        training__devices=world_size,
        training__micro_batch_size=4,
    )
    if world_size == 1:
        assert fit(run) == "finished"
    else:
        ranks(2, TRAIN, str(run.path))
    assert events_of(run)[-1].kind == "finished"
    trained = [event.scalars for event in events_of(run) if isinstance(event, Measured) and event.split == "train"]
    names = {name for name in trained[0] if name.startswith("loss.distill.")}
    assert len(names) == len(terms)
    values = [value for scalars in trained for name in names if (value := scalars[name]) is not None]
    assert len(values) == len(trained) * len(names)
    assert all(math.isfinite(value) for value in values)
    assert max(values) > 0
    assert len(curve(run, "val", "miou")) == 2


def test_terms_with_hidden_cells_and_a_warm_up_resume_as_if_never_stopped(tmp_path: Path, short_teacher: Run) -> None:
    def distilled(name: str) -> Run:
        return make_run(
            tmp_path / name,
            teacher__checkpoint=str(short_teacher.best),
            distillation={"enabled": True, "terms": [{"kind": "mgd", "weight": 0.01}, {"kind": "dkd", "warmup": 2}]},
            data__val_samples=4,
            training__epochs=1,
            training__visualize_every=-1,
        )

    whole, halved = distilled("whole"), distilled("halved")
    assert fit(whole) == "finished"
    stopped = StoppedAt(halved.path, lambda seen: any(isinstance(one, Measured) and one.step >= 2 for one in seen))
    assert train(stopped, record(halved), rank=0, world_size=1) == "stopped"
    assert fit(halved, attempt=2) == "finished"
    assert same_weights(whole.last, halved.last)
    assert (
        curve(whole, "train", "loss.distill.mgd", "loss.distill.dkd")[-1:]
        == curve(halved, "train", "loss.distill.mgd", "loss.distill.dkd")[-1:]
    )
