"""Where these tests begin: an empty folder, and a store with a run that may teach."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tui.scenes import Scene


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder with nothing in it, where one run at a time has the CPU."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KDTUI_SLOTS", "cpu:1,gpu:0")
    monkeypatch.setenv("KDTUI_ENGINE", "/nowhere/engine")


@pytest.fixture
def teachers(scene: Scene) -> Scene:
    """A store with a run that may teach."""
    scene.finished("b3-teacher", encoder="timm-efficientnet-b3", best=0.76)
    return scene
