"""Loading processes that run out of shared memory, die or stall: real ones, forked by the test's own process."""

from __future__ import annotations

import faulthandler
import multiprocessing
import os
import signal
import sys
import threading
import time
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from kdtui import events
from kdtui.engine.__main__ import main
from kdtui.engine.check import check
from kdtui.engine.data import Batches, SegmentationDataset, build_dataset, build_unlabelled
from kdtui.engine.data.loading import Waiting, _death
from kdtui.engine.data.source import Source
from kdtui.engine.data.workers import check_workers, out_of_shared_memory, with_workers
from kdtui.engine.evaluate import StopRequested
from kdtui.engine.setup import TrainingSetup
from kdtui.errors import EngineError
from kdtui.profile import SyntheticData, Training
from kdtui.profile.data_tables import Unlabelled
from kdtui.store.run import Run
from tests.engine.runs import events_of, fit, make_run, record, tiny_profile

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="fork, /proc and /dev/shm are Linux's own")

DATA = SyntheticData(height=32, width=64, train_samples=400, val_samples=40)
SAMPLE = 32 * 64 * (3 * 4 + 8)


def splits() -> tuple[SegmentationDataset, SegmentationDataset]:
    return build_dataset(DATA, "train"), build_dataset(DATA, "val")


def test_images_without_labels_need_shared_memory_for_both_views() -> None:
    data = DATA.model_copy(update={"train_limit": 16, "unlabelled": Unlabelled(share=0.75)})
    train_set, val_set = build_dataset(data, "train"), build_dataset(data, "val")
    training = Training(batch_size=16, workers=2)
    needed = (16 * 4 + 48) * 32 * 64 * (2 * 3 * 4 + 8)
    parts = (train_set, val_set), training, build_unlabelled(data, train_set)
    assert f"{needed / 2**20:.0f} MiB" in check_workers(*parts, available=lambda: needed)
    with pytest.raises(EngineError, match="not enough shared memory"):
        check_workers(*parts, available=lambda: needed - 1)


class Hurt(SegmentationDataset):
    """A dataset whose loading process sends itself a signal at sample 3."""

    def __init__(self, number: int) -> None:
        super().__init__(DATA, "val", classes=("a", "b"), count=8, stride=32, seed=0)
        self._number = number

    def read(self, index: int) -> Source:
        if index == 3 and multiprocessing.parent_process() is not None:
            faulthandler.disable()  # pytest's own, which would print a trace
            os.kill(os.getpid(), self._number)
        return Source(np.zeros((32, 64, 3), np.uint8), np.zeros((32, 64), np.uint8))

    def describe(self) -> str:
        return "hurt"


def batches(dataset: SegmentationDataset, *, waiting: Waiting = lambda seconds: None, patience: float = 60) -> Batches:
    return Batches(dataset, [[(index, 0)] for index in range(8)], workers=1, waiting=waiting, patience=patience)


@pytest.mark.parametrize(
    ("training", "samples"),
    [
        # Two batches ahead per worker and the samples of the step in hand.
        (Training(batch_size=16, workers=2), 16 * 4 + 16),
        (Training(batch_size=32, workers=2, micro_batch_size=8), 8 * 4 + 32),
        (Training(batch_size=16, workers=2, devices=2), 2 * (8 * 4 + 8)),
        # Validation batches have 8 images at least.
        (Training(batch_size=4, workers=1, micro_batch_size=1), 8 * 2 + 8),
        # No more than the whole split.
        (Training(batch_size=16, workers=64), 400),
    ],
)
def test_shared_memory_is_compared_with_what_the_batches_need(training: Training, samples: int) -> None:
    needed = samples * SAMPLE
    assert f"{needed / 2**20:.0f} MiB" in check_workers(splits(), training, available=lambda: needed)
    assert check_workers(splits(), training, available=lambda: None)
    with pytest.raises(EngineError, match="not enough shared memory") as caught:
        check_workers(splits(), training, available=lambda: needed - 1)
    assert "training.workers=0" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("device", "cores", "threads", "devices", "expected"),
    [
        ("cpu", 2, 2, 1, 1),  # loads the next batch while all cores compute
        ("cpu", 8, 6, 1, 2),
        ("cpu", 64, 8, 1, 4),
        ("cpu", 8, 2, 2, 2),
        ("cpu", 1, 1, 1, 0),
        ("cuda", 16, 4, 1, 8),
        ("cuda", 8, 4, 2, 3),
        ("cuda", 1, 1, 1, 0),
    ],
)
def test_auto_chooses_a_number_by_cores_threads_and_device(
    device: str, cores: int, threads: int, devices: int, expected: int
) -> None:
    training = Training(workers="auto", batch_size=16, devices=devices)
    assert with_workers(training, device, threads, lambda chosen: None, cores=cores).loading_processes == expected
    given = training.model_copy(update={"workers": 7})
    assert with_workers(given, device, threads, lambda chosen: None, cores=cores) is given


@pytest.mark.parametrize("most", [0, 2, 8])
def test_auto_takes_as_many_as_fit_into_the_shared_memory(most: int) -> None:
    training = Training(workers="auto", batch_size=16)

    def check(chosen: Training) -> str:
        room = (16 * 2 * most + 16) * SAMPLE
        return check_workers(splits(), chosen, available=lambda: room)

    assert with_workers(training, "cuda", 1, check, cores=9).loading_processes == most


def test_a_run_names_how_many_processes_auto_was(tmp_path: Path) -> None:
    run = make_run(tmp_path, training__workers="auto")
    fit(run)
    (started,) = [event for event in events_of(run) if isinstance(event, events.Started)]
    cores = len(os.sched_getaffinity(0))
    assert started.workers == (0 if cores == 1 else max(1, min(cores - torch.get_num_threads(), 4)))
    assert run.profile_table()["training"]["workers"] == "auto"


@pytest.mark.parametrize(("number", "reason"), [(signal.SIGBUS, "/dev/shm"), (signal.SIGKILL, "out of memory")])
def test_a_loading_process_that_dies_is_an_error_with_its_reason(number: int, reason: str) -> None:
    with pytest.raises(EngineError, match="a loading process exited") as caught:
        list(batches(Hurt(number)))
    assert reason in str(caught.value.found)


def close_everything_and_end_later() -> None:
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    time.sleep(0.5)
    os.kill(os.getpid(), signal.SIGKILL)  # coverage would write its file before an exit


def test_a_loading_process_whose_descriptors_are_closed_and_that_still_ends_is_waited_for() -> None:
    worker = multiprocessing.get_context("fork").Process(target=close_everything_and_end_later)
    worker.start()
    error = _death([worker], wait_for_it=True)
    assert error is not None and "out of memory" in str(error.found)


_before: set[BaseProcess] = set()


@pytest.fixture(autouse=True)
def children_of_earlier_tests() -> None:
    """Loading processes of an earlier test end with its loader, which may wait for the garbage collector."""
    _before.clear()
    _before.update(multiprocessing.active_children())


def new_children() -> list[BaseProcess]:
    return [child for child in multiprocessing.active_children() if child not in _before]


def test_a_stalled_loading_process_is_an_error_and_is_killed() -> None:
    waits: list[float] = []
    with pytest.raises(EngineError, match="no batch from the loading processes"):
        list(batches(Hurt(signal.SIGSTOP), waiting=waits.append, patience=2))
    assert waits == [1, 2]
    assert new_children() == []


def test_a_stop_is_obeyed_while_waiting_for_a_batch() -> None:
    def stop(seconds: float) -> None:
        raise StopRequested

    with pytest.raises(StopRequested):
        list(batches(Hurt(signal.SIGSTOP), waiting=stop))
    assert new_children() == []


def test_other_failures_of_torch_are_not_about_shared_memory() -> None:
    assert out_of_shared_memory(RuntimeError("stack expects each tensor to be equal size")) is None
    known = out_of_shared_memory(RuntimeError("unable to allocate shared memory(shm) for file </torch_1>: No space"))
    assert known is not None and known.where == "/dev/shm"


class StoppedWhileItWaits(Run):
    """A run that suspends its loading processes when it looks for a stop, and is asked to stop at the next look.

    A step of it needs more batches than are loaded ahead, so that the next look is one of a run that waits.
    """

    suspended = False

    def stop_requested(self) -> bool:
        asked, children = self.suspended, new_children()
        for child in children:
            assert child.pid is not None
            os.kill(child.pid, signal.SIGSTOP)
        self.suspended = bool(children)
        return asked


def test_a_run_that_waits_for_its_loading_processes_can_be_stopped(tmp_path: Path) -> None:
    run = make_run(tmp_path, training__workers=1, training__micro_batch_size=1)
    assert fit(StoppedWhileItWaits(run.path)) == "stopped"
    assert isinstance(events_of(run)[-1], events.Stopped)
    assert run.last.exists()
    assert new_children() == []


def test_a_run_whose_loading_process_dies_fails_with_the_reason(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run = make_run(tmp_path, training__workers=1, training__epochs=10_000)
    run.write_launch_record(record(run))
    over = threading.Event()

    def hurt() -> None:
        while not over.wait(0.01):
            for child in multiprocessing.active_children():
                assert child.pid is not None
                os.kill(child.pid, signal.SIGKILL)

    thread = threading.Thread(target=hurt)
    thread.start()
    try:
        assert main(["train", str(run.path)]) == EngineError.exit_code
    finally:
        over.set()
        thread.join()
    failed = events_of(run)[-1]
    assert isinstance(failed, events.Failed)
    assert "a loading process exited" in failed.message and "SIGKILL" in failed.message
    assert failed.hint is not None and "training.workers=0" in failed.hint


def test_the_pre_flight_names_the_shared_memory(tmp_path: Path) -> None:
    def workers(**changes: Any) -> list[dict[str, Any]]:
        return [look for look in check(tiny_profile(**changes))["checks"] if look["name"] == "workers"]

    assert workers() == []
    (fits,) = workers(training__workers=2)
    assert fits["ok"] and "2 loading processes" in fits["message"]


def test_one_of_several_ranks_that_waits_after_a_stop_fails_after_a_while(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    rank: Any = SimpleNamespace(run=run, fabric=SimpleNamespace(world_size=2))
    TrainingSetup.while_waiting(rank, 1000.0)
    run.request_stop()
    TrainingSetup.while_waiting(rank, 1.0)
    with pytest.raises(EngineError, match="could not stop at the same step") as caught:
        TrainingSetup.while_waiting(rank, 30.0)
    assert run.id in str(caught.value.hint)
