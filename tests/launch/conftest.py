from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from kdtui.launch.alive import probe
from kdtui.launch.device_queue import places
from kdtui.launch.local import LocalLauncher
from kdtui.store.store import RunStore
from tests.fake_engine import COMMAND
from tests.launch.processes import end_everything


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KDTUI_ENGINE", COMMAND)
    monkeypatch.setenv("KDTUI_SLOTS", "cpu:1,gpu:0")
    monkeypatch.setenv("KDTUI_GRACE", "0.3")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RunStore]:
    store = RunStore(tmp_path / "runs", alive=probe, places=places)
    yield store
    end_everything(store)


@pytest.fixture
def launcher(store: RunStore) -> LocalLauncher:
    return LocalLauncher(store)
