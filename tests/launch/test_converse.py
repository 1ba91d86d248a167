"""A long engine command: its steps are reported, and it can be cancelled."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from kdtui.errors import ExportError, Interrupted, LaunchError
from kdtui.launch import engine_process as module
from kdtui.launch.engine_process import EngineStep, converse, read_step


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_steps_are_reported_in_order_and_the_rest_of_stderr_is_not(tmp_path: Path) -> None:
    steps: list[EngineStep] = []
    answer = converse("works", "x", on_step=steps.append, environment={"SAID": "yes"})
    assert steps == [EngineStep("a"), EngineStep("b", 1, 2)]
    assert answer == {"environment": "yes", "rest": ["x"]}


def test_failures_are_those_that_the_engine_named() -> None:
    with pytest.raises(ExportError, match="no") as caught:
        converse("say", json.dumps({"error": {"error": "ExportError", "message": "no", "hint": "other"}}), "", "4")
    assert caught.value.hint == "other"
    with pytest.raises(Exception, match="printed no result") as died:
        converse("say", "", "the reason", "9")
    assert "the reason" in str(died.value)


def test_an_engine_that_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KDTUI_ENGINE", "/nowhere/python")
    with pytest.raises(LaunchError):
        converse("works")


def test_cancelled(tmp_path: Path) -> None:
    steps: list[EngineStep] = []
    with pytest.raises(Interrupted):
        converse("waits", str(tmp_path / "pid"), on_step=steps.append, cancelled=lambda: bool(steps))
    assert not alive(int((tmp_path / "pid").read_text()))


def test_one_that_does_not_listen_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE", 0.2)
    steps: list[EngineStep] = []
    with pytest.raises(Interrupted):
        converse("stubborn", str(tmp_path / "pid"), on_step=steps.append, cancelled=lambda: bool(steps))
    assert not alive(int((tmp_path / "pid").read_text()))


def test_a_face_that_fails_while_it_draws_leaves_nothing_running(tmp_path: Path) -> None:
    def draw(step: EngineStep) -> None:
        raise RuntimeError("the screen is gone")

    with pytest.raises(RuntimeError, match="screen"):
        converse("waits", str(tmp_path / "pid"), on_step=draw)
    assert not alive(int((tmp_path / "pid").read_text()))


@pytest.mark.parametrize(
    "line", [b"", b"words", b'{"progress"', b'{"progress": 1}', b'{"progress": {"words": "a"}}', b'{"other": 1}']
)
def test_other_lines_are_no_steps(line: bytes) -> None:
    assert read_step(line) is None
