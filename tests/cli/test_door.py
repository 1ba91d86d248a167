"""The door of the ``kdtui`` command: the cockpit where a person sits before it, the command line anywhere."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import kdtui as package
from kdtui.cli import door
from kdtui.tui.terminal import over_ssh, period
from tests.cli.conftest import Kdtui
from tests.tui.terminal import Terminal

MAIN = "from kdtui.cli.door import main; main()"
RATE = """
from kdtui.cli.door import main
try:
    main()
finally:
    import textual.constants
    print("FPS", textual.constants.MAX_FPS)
"""


def argv(*arguments: str) -> list[str]:
    return [sys.executable, "-c", MAIN, *arguments]


def test_words_go_to_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        door.main(["--version"])
    assert end.value.code in (0, None)
    assert capsys.readouterr().out == f"kdtui {package.__version__}\n"


def test_without_a_terminal_the_help_is_printed(here: Path) -> None:
    done = subprocess.run(argv(), capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    assert "Usage: kdtui" in done.stdout + done.stderr
    assert "\x1b" not in done.stdout


def test_the_cockpit_as_a_command_needs_a_terminal(kdtui: Kdtui) -> None:
    done = kdtui("cockpit")
    assert done.code == 2
    assert "needs a terminal" in done.err and "kdtui runs" in done.err


@pytest.mark.parametrize("arguments", [(), ("cockpit",), ("cockpit", "--runs-dir", "elsewhere")])
def test_it_opens_and_is_left_by_a_key(here: Path, arguments: tuple[str, ...]) -> None:
    with Terminal(argv(*arguments)) as terminal:
        terminal.wait_for("no runs yet")
        assert ("elsewhere" in terminal.lines[0]) is bool(arguments[1:])
        terminal.press("q")
        assert terminal.wait_end() == 0
    assert not (here / "runs").exists()


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"TERM": "dumb"}, "this terminal cannot show the cockpit"),
        ({"TERM": ""}, "this terminal cannot show the cockpit"),
        ({"KDTUI_RUNS": "file"}, "the run store is not a folder"),
        ({"KDTUI_RUNS": "x" * 300}, "the run store is not accessible"),
    ],
)
def test_a_cockpit_that_cannot_open_reports_the_reason(here: Path, environment: dict[str, str], said: str) -> None:
    (here / "file").write_text("no folder")
    with Terminal(argv(), environment) as terminal:
        assert terminal.wait_end() == 2
        assert f"error: {said}" in terminal.text


def test_over_ssh_it_draws_less_often(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SSH_CONNECTION", "SSH_TTY", "SSH_CLIENT"):
        monkeypatch.delenv(name, raising=False)
    assert not over_ssh() and period() == 0.5
    monkeypatch.setenv("SSH_TTY", "/dev/pts/0")
    assert over_ssh() and period() == 1.0
    with Terminal([sys.executable, "-c", RATE], {"SSH_CONNECTION": "10.0.0.1 1 10.0.0.2 22"}) as terminal:
        terminal.wait_for("no runs yet")
        terminal.press("q")
        assert terminal.wait_end() == 0
        assert "FPS 15" in terminal.text
