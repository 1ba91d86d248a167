"""Two ranks that do not go to the end together: stopped, or one of them fails. Real gloo processes."""

from __future__ import annotations

import dataclasses
import itertools
import shutil
from pathlib import Path

import numpy as np
from PIL import Image

from kdtui.engine import checkpoint
from kdtui.engine.data import build_dataset
from kdtui.engine.data.survey import sample
from kdtui.events import Failed, Stopped
from kdtui.store.run import Run
from tests.engine.data.makers import HEIGHT, WIDTH, label_folder
from tests.engine.rank_processes import TRAIN, ranks, start, two_ranks
from tests.engine.runs import events_of, make_run, record
from tests.waiting import finished


def test_two_ranks_hear_of_a_stop_together(tmp_path: Path, short_teacher: Run) -> None:
    run = two_ranks(tmp_path, short_teacher, training__epochs=400)
    ranks(2, TRAIN, str(run.path), "--stop-after-step", "4")
    assert isinstance(events_of(run)[-1], Stopped)
    assert 4 <= checkpoint.load(run.last)["resume"]["step"] < 100


def test_the_reason_of_the_first_failed_rank_is_kept(tmp_path: Path) -> None:
    data = label_folder(tmp_path / "data", count=4)
    # One of the last masks, which are the share of rank 1, and none of those that rank 0 looks at before the training.
    for number, kind in itertools.product(range(96), ("images", "masks")):
        folder = tmp_path / "data" / kind / "val"
        shutil.copy(folder / "0.png", folder / f"more_{number:02}.png")
    val_set = build_dataset(data, "val")
    unseen = max(set(range(len(val_set))) - set(sample(len(val_set), val_set.surveyed)))
    assert unseen > len(val_set) // 2
    last = tmp_path / "data" / "masks" / "val" / f"more_{unseen - 4:02}.png"
    Image.fromarray(np.full((HEIGHT, WIDTH), 99, np.uint8)).save(last)
    run = make_run(tmp_path / "runs", data=data.model_dump(), training__batch_size=2, training__devices=2)
    run.write_launch_record(dataclasses.replace(record(run), devices=2))
    for process in start(2, "-m", "kdtui.engine", "train", str(run.path)):
        finished(process)
        assert process.returncode == 4
    (failed,) = [event for event in events_of(run) if isinstance(event, Failed)]
    assert failed.error == "DataError"
    assert str(last) in failed.message
