"""The cockpit as a process: what it starts lives on, whatever becomes of it."""

from __future__ import annotations

import json
import os
import shlex
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from kdtui.events import Measured
from kdtui.launch.alive import probe
from kdtui.launch.local import LocalLauncher
from kdtui.profile import Profile, Training
from kdtui.store.event_log import Tail
from kdtui.store.run import Run
from kdtui.store.state import LIVE, State
from kdtui.store.store import RunStore
from tests.fake_engine import COMMAND
from tests.tui.terminal import Terminal
from tests.waiting import eventually

COCKPIT = [sys.executable, "-c", "from kdtui.cli.door import main; main([])"]


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunStore]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KDTUI_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("KDTUI_ENGINE", COMMAND)
    monkeypatch.setenv("KDTUI_SLOTS", "cpu:2")
    store = RunStore(tmp_path / "runs", alive=probe)
    yield store
    for run in store.runs() if store.root.is_dir() else ():
        if store.summary(run).state in LIVE:
            LocalLauncher(store).stop(run, kill=True)


def lost(terminal: Terminal) -> None:
    """The terminal goes away, as when a connection breaks."""
    os.kill(terminal.pid, signal.SIGHUP)


def below_the_header(screen: str) -> list[str]:
    """What stands still while nothing trains: the header has the load."""
    return screen.splitlines()[1:]


def suspended(terminal: Terminal) -> None:
    os.kill(terminal.pid, signal.SIGTSTP)


def suspended_by_key(terminal: Terminal) -> None:
    terminal.press("ctrl+z")


def quit_by_key(terminal: Terminal) -> None:
    terminal.press("q")
    assert terminal.wait_end() == 0


def numbers(run: Run) -> list[tuple[int, dict[str, float | None]]]:
    return [(e.step, dict(e.scalars)) for e in Tail(run.events_path).read() if isinstance(e, Measured)]


def has_a_step(terminal: Terminal, store: RunStore, run: Run) -> bool:
    """Whether a run has trained a step; reads the terminal as well, which may have nothing more to write."""
    terminal.read(0.1)
    return store.summary(run).step is not None


@pytest.mark.parametrize("end", [Terminal.kill, lost, quit_by_key])
def test_a_run_launched_here_finishes_undisturbed_by_the_end_of_the_cockpit(
    store: RunStore, end: Callable[[Terminal], None]
) -> None:
    profile = Profile(name="held", training=Training(epochs=8))
    undisturbed, run = store.create(profile), store.create(profile)
    (undisturbed.path / "go").touch()
    LocalLauncher(store).launch(undisturbed)
    with Terminal(COCKPIT) as terminal:
        terminal.wait_for(lambda screen: "> · held" in screen)  # the newest is under the cursor
        terminal.press("R", "enter")
        eventually(lambda: has_a_step(terminal, store, run), "its first step")
        assert store.summary(run).state is State.RUNNING
        end(terminal)
    (run.path / "go").touch()
    eventually(lambda: store.summary(run).state not in LIVE, "its end")
    assert store.summary(run).state is State.FINISHED
    eventually(lambda: store.summary(undisturbed).state not in LIVE, "the other's end")
    assert numbers(run) == numbers(undisturbed)


def test_reopening_shows_everything_again_and_stop_and_resume_work(store: RunStore) -> None:
    run = store.create(Profile(name="held", training=Training(epochs=3)))
    LocalLauncher(store).launch(run)
    with Terminal(COCKPIT) as first:
        first.wait_for(lambda screen: "held" in screen and "1▶" in screen)
        first.kill()
    with Terminal(COCKPIT) as second:
        second.wait_for(lambda screen: "held" in screen and "1▶" in screen)
        second.press("x", "y")
        second.wait_for("1■")
        before = numbers(run)
        second.press("R", "enter")
        second.wait_for("1▶")
        (run.path / "go").touch()
        second.wait_for("1✓")
        second.press("q")
        assert second.wait_end() == 0
    assert numbers(run)[: len(before)] == before
    assert json.loads(run.launch_path.read_text())["attempt"] == 2


def test_a_shrunk_terminal_displays_a_notice_until_it_is_enlarged(store: RunStore) -> None:
    store.create(Profile(name="mynet"))
    with Terminal(COCKPIT) as terminal:
        terminal.wait_for("mynet")
        terminal.resize(60, 15)
        assert "60x15" in terminal.wait_for("kdtui needs 80x24")
        terminal.resize(100, 30)
        terminal.wait_for("mynet")
        terminal.press("q")
        assert terminal.wait_end() == 0


def test_keys_typed_ahead_close_only_the_top_screen(store: RunStore) -> None:
    store.create(Profile(name="mynet"))
    with Terminal(COCKPIT) as terminal:
        terminal.wait_for("· mynet")
        for keys in (
            ("t", "enter", "enter"),
            ("?", "q", "esc"),
            ("delete", "n", "n"),
            ("enter", "2", "t", "5", "2"),
        ):
            terminal.hurry(*keys)
            terminal.press("esc", "esc", "esc")
            terminal.wait_for(lambda screen: "> · mynet" in screen and "n new" in screen)
        terminal.hurry("R", "5", "enter", "enter")  # the last one: it launches the run
        assert terminal.back_out() == 0


def test_a_run_is_opened_and_left_before_it_is_drawn(store: RunStore) -> None:
    store.create(Profile(name="mynet"))
    with Terminal(COCKPIT) as terminal:
        terminal.wait_for("· mynet")
        for _ in range(3):
            terminal.hurry("enter", "q", "enter", "3", "q")
        terminal.wait_for("> · mynet")
        assert terminal.back_out() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_restores_the_terminal_like_the_quit_key(store: RunStore, number: signal.Signals) -> None:
    store.create(Profile(name="mynet"))
    with Terminal(COCKPIT) as terminal:
        terminal.wait_for("· mynet")
        os.kill(terminal.pid, number)
        assert terminal.wait_end() == 128 + number


def test_everything_is_redrawn_after_a_suspend(store: RunStore) -> None:
    store.create(Profile(name="mynet"))
    with Terminal(COCKPIT) as terminal:
        terminal.wait_for(lambda screen: "> · mynet" in screen and "no values yet" in screen and "help" in screen)
        before = below_the_header(terminal.settle(1.0))
        process = psutil.Process(terminal.pid)
        for stop in (suspended_by_key, suspended):
            stop(terminal)
            eventually(lambda: terminal.settle(0.1) and process.status() == psutil.STATUS_STOPPED, stop.__name__)
            terminal.wipe()
            os.kill(terminal.pid, signal.SIGCONT)
            terminal.wait_for(lambda screen: below_the_header(screen) == before)
        assert terminal.back_out() == 0


@pytest.mark.parametrize("term", ["dumb", ""])
def test_a_terminal_without_colours_displays_a_notice(store: RunStore, term: str) -> None:
    with Terminal(COCKPIT, {"TERM": term}, columns=200) as terminal:
        terminal.wait_for("this terminal cannot show the cockpit")
        assert terminal.wait_end() == 2


def test_a_store_that_is_a_file_is_reported(store: RunStore) -> None:
    store.root.write_text("")
    with Terminal(COCKPIT, columns=200) as terminal:
        terminal.wait_for("the run store is not a folder")
        assert terminal.wait_end() == 2


def test_without_a_terminal_the_help_is_printed(store: RunStore, tmp_path: Path) -> None:
    with Terminal(["sh", "-c", f"{shlex.join(COCKPIT)} | cat"], columns=120, rows=60) as terminal:
        terminal.wait_for("Usage: kdtui")
