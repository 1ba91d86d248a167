"""The runs that most of these tests are about."""

from __future__ import annotations

import pytest

from kdtui.store.run import Run
from tests.tui.scenes import Scene


@pytest.fixture
def teacher(scene: Scene) -> Run:
    return scene.finished("b3-teacher", encoder="timm-efficientnet-b3", best=0.76)


@pytest.fixture
def student(scene: Scene, teacher: Run) -> Run:
    return scene.running("b0-from-b3", epochs=12, teacher=teacher, tags=("night",), note="the long one")
