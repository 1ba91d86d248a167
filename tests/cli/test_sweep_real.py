"""A sweep with the real engine: 3 x 3 on synthetic data, everything killed midway, completed by the same command."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
from collections import Counter
from pathlib import Path

import pytest

from kdtui.events import Measured
from kdtui.store.event_log import Tail
from kdtui.store.run import Run
from kdtui.store.state import LIVE, State
from kdtui.store.store import RunStore
from kdtui.store.view_logits import entries, verify
from tests.cli.conftest import Kdtui
from tests.cli.test_sweep import cells
from tests.waiting import eventually

pytestmark = pytest.mark.slow
SAMPLES, EPOCHS = 8, 2
TINY = f"""
name = "tiny"
[data]
kind = "synthetic"
height = 64
width = 64
train_samples = {SAMPLES}
val_samples = 4
views = 1
[student]
encoder = "resnet18"
encoder_depth = 3
decoder_channels = [8, 8, 8]
[training]
accelerator = "cpu"
batch_size = 4
epochs = {EPOCHS}
threads = 1
log_every = 1
"""


@pytest.fixture
def words(here: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, ...]:
    monkeypatch.setenv("KDTUI_ENGINE", f"{sys.executable} -m kdtui.engine")
    (here / "tiny.toml").write_text(TINY, encoding="utf-8")
    grid = ("--temperature", "1,2,4", "--alpha", "0.3,0.5,0.7")
    return ("sweep", "tiny", "--name", "student", "--teacher", "tiny", *grid)


def kill_everything(store: RunStore) -> None:
    """SIGKILL all supervisors and ranks of the sweep."""
    for run in store.runs():
        record = run.launch_record()
        for one in (record.identity, *record.ranks) if record is not None and run.manifest().sweep else ():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(int(one["pid"]), signal.SIGKILL)


def asked(run: Run) -> float:
    """How many logits the teacher computed for a run; those of steps that were repeated count again."""
    events = Tail(run.events_path).read()
    shares = [one.scalars["teacher_cached"] for one in events if isinstance(one, Measured) and one.split == "train"]
    return sum(4 * (1 - (share or 0.0)) for share in shares)


def test_killed_midway_it_is_completed_and_the_teacher_is_asked_once(
    kdtui: Kdtui, store: RunStore, words: tuple[str, ...]
) -> None:
    assert kdtui("train", "tiny").code == 0
    assert kdtui(*words, "--detach").code == 0
    made = {run.id for run in store.runs()}
    assert len(made) == 1 + 9

    def finished() -> list[str]:
        return [row.id for row in store.summaries() if row.sweep and row.state is State.FINISHED]

    eventually(lambda: len(finished()) >= 3, "three runs", seconds=240)
    kill_everything(store)
    eventually(lambda: not [row for row in store.summaries() if row.state in LIVE], "all gone")
    before = {run_id: Run(store.root / run_id).launch_record() for run_id in finished()}
    assert 3 <= len(before) < 9

    done = kdtui(*words, "--json")
    assert done.code == 0, done.err
    assert {run.id for run in store.runs()} == made
    assert len(cells(store)) == 9 and set(cells(store).values()) == {1}
    assert {run_id: Run(store.root / run_id).launch_record() for run_id in before} == before  # none is trained twice
    body = json.loads(done.out)
    assert body["states"] == {"finished": 9}
    for cell in body["cells"]:
        (run_id,) = cell["runs"]
        profile = store.find(run_id).profile()
        values = {"distillation.temperature": profile.distillation.temperature}
        assert cell["values"] == {**values, "distillation.alpha": profile.distillation.alpha}
        assert cell["score"] == store.summary(store.find(run_id)).best_miou
    best = max(body["cells"], key=lambda cell: cell["score"])
    assert body["best"]["score"] == best["score"] and body["best"]["interval"]["over"] == "images"

    (cached,) = entries(store.root)
    whole = verify(cached)
    assert (cached.views, whole.whole, whole.absent, whole.damaged) == (1, SAMPLES, 0, 0)
    counts = Counter({run.id: round(asked(run)) for run in store.runs() if run.manifest().sweep})
    # Two slots: only the runs that started together can compute the same logits.
    assert SAMPLES <= counts.total() <= 2 * SAMPLES, counts
    assert sum(count > 0 for count in counts.values()) <= 2, counts
