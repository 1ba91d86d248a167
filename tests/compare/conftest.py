from __future__ import annotations

from pathlib import Path

import pytest

from tests.tui.scenes import Scene


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    """An empty store."""
    return Scene(tmp_path)
