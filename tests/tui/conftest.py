"""Every test of the cockpit sees the same terminal, wherever the suite runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tui.piloting import idle, nothing_ready
from tests.tui.scenes import Scene, people

FOREIGN = ("NO_COLOR", "COLORTERM", "TMUX", "SSH_CONNECTION", "SSH_TTY", "SSH_CLIENT", "KDTUI_RUNS", "KDTUI_ENGINE")


@pytest.fixture(autouse=True)
def terminal(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing of the terminal that the tests are started from, nor of what its user chose."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    for name in FOREIGN:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")


@pytest.fixture(autouse=True)
def waits_for_what_is_due(monkeypatch: pytest.MonkeyPatch) -> None:
    """Presses and pauses end when the app has handled all it could, however little processor time it got."""
    for name in ("textual.app.wait_for_idle", "textual.pilot.wait_for_idle"):
        monkeypatch.setattr(name, idle)
    monkeypatch.setattr("textual.pilot.Pilot._wait_for_screen", nothing_ready)


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    """An empty store."""
    return Scene(tmp_path)


@pytest.fixture
def crowd(tmp_path: Path) -> Scene:
    """A store with a run in every state."""
    return people(tmp_path)
