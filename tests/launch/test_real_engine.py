"""The processes of the other tests here with the real engine in them: a 64x64 student on one rank and on two."""

from __future__ import annotations

import itertools
import shlex
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from kdtui.events import Failed, Measured, Started
from kdtui.launch.alive import is_running
from kdtui.launch.local import LocalLauncher
from kdtui.launch.plan import Start, engine_checks
from kdtui.launch.start import prepared, start
from kdtui.profile import Model, Profile, SyntheticData, Training
from kdtui.store.run import Run
from kdtui.store.state import State
from kdtui.store.store import RunStore
from tests.launch.processes import events, everyone, kill, reaches, record_of, slot_is_held, wait_until_exited
from tests.waiting import eventually

pytestmark = pytest.mark.slow
SETTINGS: Any = {"batch_size": 4, "threads": 1, "log_every": 1}
REAL = f"{sys.executable} -m kdtui.engine"


@pytest.fixture(autouse=True)
def real_engine(environment: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KDTUI_ENGINE", REAL)
    monkeypatch.setenv("KDTUI_GRACE", "5")


def make(store: RunStore, *, devices: int, epochs: int) -> Run:
    return store.create(
        Profile(
            name="real",
            data=SyntheticData(height=64, width=64, train_samples=16, val_samples=4),
            student=Model(encoder="resnet18", encoder_depth=3, decoder_channels=(8, 8, 8)),
            training=Training(**SETTINGS, devices=devices, epochs=epochs),
        )
    )


def trains(store: RunStore, run: Run, epoch: int) -> None:
    eventually(lambda: (store.summary(run).epoch or 0) >= epoch, f"epoch {epoch}")


@pytest.mark.parametrize(
    ("devices", "order"),
    [
        *((1, order) for order in itertools.permutations(["supervisor", "rank 0"])),
        *((2, order) for order in itertools.permutations(["supervisor", "rank 0", "rank 1"])),
    ],
    ids=lambda value: str(value) if isinstance(value, int) else ", ".join(value),
)
def test_killed_in_any_order_the_state_is_true_and_resume_continues(
    store: RunStore, launcher: LocalLauncher, devices: int, order: tuple[str, ...]
) -> None:
    run = make(store, devices=devices, epochs=100_000)
    launcher.launch(run)
    trains(store, run, 2)
    eventually(run.last.exists, "a checkpoint")
    who = everyone(record_of(run))
    assert slot_is_held(store)
    for victim in order:
        kill(who[victim])
        if not any(map(is_running, who.values())):
            break
        if "supervisor" not in order[: order.index(victim) + 1]:
            reaches(store, run, State.FAILED)
    eventually(lambda: not any(map(is_running, who.values())), "all gone")
    eventually(lambda: not slot_is_held(store), "slot free")
    assert store.summary(run).state in (State.LOST, State.FAILED)
    done = [event.step for event in events(run) if isinstance(event, Measured) and event.split == "val"][-1]
    launcher.launch(run, total_epochs=done // 4 + 2)
    eventually(lambda: store.summary(run).state is State.FINISHED, f"{events(run)[-3:]}")
    resumed = [event for event in events(run) if isinstance(event, Started)][-1]
    assert resumed.attempt == 2
    assert 0 < resumed.resumed_step <= done


def test_a_disk_that_fills_fails_the_run_and_keeps_the_last_checkpoint(
    store: RunStore, launcher: LocalLauncher, monkeypatch: pytest.MonkeyPatch
) -> None:
    prlimit = shutil.which("prlimit")
    if prlimit is None:
        pytest.skip("prlimit is not installed")
    run = make(store, devices=1, epochs=1)
    launcher.launch(run)
    eventually(lambda: store.summary(run).state is State.FINISHED, "first epoch")
    wait_until_exited(record_of(run))
    before = {path.name: path.read_bytes() for path in sorted(run.checkpoints.iterdir())}
    monkeypatch.setenv("KDTUI_ENGINE", shlex.join([prlimit, "--fsize=1000000", *shlex.split(REAL)]))
    assert min(map(len, before.values())) > 1_000_000
    launcher.launch(run, total_epochs=3)
    eventually(lambda: store.summary(run).state is State.FAILED, f"{events(run)[-3:]}")
    (failed,) = [event for event in events(run) if isinstance(event, Failed)]
    assert failed.error == "CheckpointError"
    assert "the existing one is unchanged" in failed.message
    assert {path.name: path.read_bytes() for path in sorted(run.checkpoints.iterdir())} == before
    wait_until_exited(record_of(run))
    monkeypatch.setenv("KDTUI_ENGINE", REAL)
    launcher.launch(run, total_epochs=3)
    eventually(lambda: store.summary(run).state is State.FINISHED, f"{events(run)[-3:]}")
    assert Path(run.epoch_checkpoint(3)).exists()


def test_an_engine_that_checked_the_profile_before_trains_as_one_that_did_not(
    store: RunStore, launcher: LocalLauncher
) -> None:
    ordinary = make(store, devices=1, epochs=2)
    launcher.launch(ordinary)
    reaches(store, ordinary, State.FINISHED)
    profile = ordinary.profile().model_copy(update={"training": Training(**SETTINGS, epochs=2, accelerator="cpu")})
    with prepared([profile], store) as standby:
        assert standby is not None
        assert engine_checks(profile, standby.ask, Start(), store.root).checks[0].ok
        run = start(store, profile, origin="a test", standby=standby)
    reaches(store, run, State.FINISHED)

    def curve(one: Run) -> list[float | None]:
        return [
            event.scalars.get("loss", event.scalars.get("miou")) for event in events(one) if isinstance(event, Measured)
        ]

    assert curve(run) == curve(ordinary)
