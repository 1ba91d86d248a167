"""A session by keys with the real engine: set up, watch, lose the terminal, come back, stop, resume, compare."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kdtui.events import Measured
from kdtui.launch.alive import probe
from kdtui.launch.local import LocalLauncher
from kdtui.store.event_log import Tail
from kdtui.store.run import Run
from kdtui.store.state import LIVE, State
from kdtui.store.store import RunStore
from tests.tui.terminal import Terminal
from tests.waiting import eventually

pytestmark = pytest.mark.slow

COCKPIT = [sys.executable, "-c", "from kdtui.cli.door import main; main([])"]
MINUTES = 60.0


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunStore]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("KDTUI_ENGINE", raising=False)
    monkeypatch.setenv("KDTUI_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("KDTUI_SLOTS", "cpu:1")
    store = RunStore(tmp_path / "runs", alive=probe)
    yield store
    for run in store.runs() if store.root.is_dir() else ():
        if store.summary(run).state in LIVE:
            LocalLauncher(store).stop(run, kill=True)


def scalars(run: Run) -> list[tuple[str, int, dict[str, float | None]]]:
    """All numbers of a run but those that the clock makes."""
    return [
        (e.split, e.step, {key: value for key, value in e.scalars.items() if "per_second" not in key})
        for e in Tail(run.events_path).read()
        if isinstance(e, Measured)
    ]


def ended(store: RunStore, run: Run) -> State:
    eventually(lambda: store.summary(run).state not in LIVE, lambda: store.summary(run), seconds=5 * MINUTES, pause=0.5)
    return store.summary(run).state


def set_up(terminal: Terminal, profile: str, epochs: str, teacher: str = "") -> None:
    """The form, by keys: a profile, a teacher and then a higher temperature, the number of epochs."""
    terminal.press("n")
    terminal.wait_for("PROFILE")
    terminal.press(*profile, "enter")
    terminal.wait_for(f"PROFILE  {profile}")
    terminal.press("ctrl+down")
    if teacher:
        terminal.press(*teacher, "enter")
        terminal.wait_for("--teacher")
    terminal.press("ctrl+down", "ctrl+down")
    terminal.wait_for("T: softens both distributions")
    if teacher:
        terminal.press("right", "right")
    terminal.press("ctrl+down")
    terminal.wait_for("epochs: passes over the training data")
    terminal.press("end", "backspace", "backspace", *epochs)
    terminal.wait_for(f"--epochs {epochs}")


def launch(terminal: Terminal) -> None:
    terminal.press("ctrl+r")
    terminal.wait_for("1 curves  2 numbers", 2 * MINUTES)
    terminal.wait_for(lambda screen: re.search(r"loss \d\.\d+ ", screen), 3 * MINUTES)


def test_from_the_form_to_the_comparison(store: RunStore) -> None:
    with Terminal(COCKPIT) as terminal:
        terminal.wait_for("no runs yet")
        set_up(terminal, "demo-teacher", "2")
        launch(terminal)
        (teacher,) = store.runs()
        before = terminal.text
        terminal.wait_for(lambda screen: re.search(r"step \d+", screen) and screen != before, MINUTES)
        assert store.summary(teacher).state is State.RUNNING
        terminal.kill()
    # The cockpit is closed while the run trains; opened again, it shows all of it.
    with Terminal(COCKPIT) as terminal:
        terminal.wait_for("demo-teacher")
        terminal.wait_for(lambda screen: "1✓" in screen and "2/2" in screen, 5 * MINUTES)
        set_up(terminal, "demo-distilled", "3", teacher="demo-teacher")
        launch(terminal)
        distilled = store.find("demo-distilled")
        terminal.press("x")
        terminal.wait_for("STOPPED", 2 * MINUTES)
        assert scalars(distilled)
        terminal.press("R", "enter")
        terminal.wait_for("resumed", MINUTES)
        assert ended(store, distilled) is State.FINISHED
        record = distilled.launch_record()
        assert record is not None
        assert record.attempt == 2
        terminal.wait_for("FINISHED", MINUTES)
        terminal.press("esc")
        terminal.wait_for("> ✓ demo-teacher")  # the cursor stayed where it was
        terminal.press("space", "up", "space", "c")
        terminal.wait_for(lambda screen: "A✓ demo-teacher" in screen and "★" in screen and "Δ base" in screen)
        terminal.press("esc")
        terminal.wait_for("B✓ demo-distilled")
        terminal.press("q")
        assert terminal.wait_end() == 0

    table = distilled.profile_table()
    assert table["distillation"]["enabled"] is True
    assert table["distillation"]["temperature"] > 2.0  # the profile's own
    assert Path(table["teacher"]["checkpoint"]) == teacher.best
    # Once more, without anybody looking: the same numbers, bit for bit.
    again = store.create(teacher.profile())
    LocalLauncher(store).launch(again)
    assert ended(store, again) is State.FINISHED
    assert scalars(again) == scalars(teacher)
