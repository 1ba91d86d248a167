from __future__ import annotations

import gc
import itertools
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from xdist.remote import Producer  # type: ignore[import-untyped]
from xdist.scheduler import LoadFileScheduling  # type: ignore[import-untyped]

# Compiled modules are kept whatever the environment says: each of some thousand processes would compile them again.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

gc.disable()  # until everything is collected

# No time decides a test: a busy machine takes as long as it takes.
settings.register_profile("kdtui", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("kdtui")


# These share an export, or processes that have the engine imported, which take as long as many of their tests.
ONE_WORKER = (
    "tests/engine/export/",
    "tests/engine/data/test_loading.py",
    "tests/engine/test_checkpoint.py",
    "tests/engine/test_data_check.py",
    "tests/engine/test_ranks",
    "tests/test_contracts.py",
)


class Scheduling(LoadFileScheduling):  # type: ignore[misc]
    """Each file in one process, and some files in the same."""

    def _split_scope(self, nodeid: str) -> str:
        return ONE_WORKER[0] if nodeid.startswith(ONE_WORKER) else super()._split_scope(nodeid)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadFileScheduling | None:
    """The schedule of ``--dist loadfile``."""
    return Scheduling(config, log) if config.getoption("dist") == "loadfile" else None


def pytest_collection_finish() -> None:
    """Leave what was imported to itself: torch's half a million objects, looked through again for every few thousand
    widgets, were a sixth of the suite's time."""
    gc.freeze()
    gc.set_threshold(100_000, 10, 20)
    gc.enable()


@pytest.fixture(scope="session")
def slot_folders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Folders for device queues, one for each test."""
    base = tmp_path_factory.mktemp("slots")
    return (base / str(number) for number in itertools.count())


@pytest.fixture(autouse=True)
def own_device_queue(slot_folders: Iterator[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests, and several runs of the suite, do not queue behind each other or behind trainings of this machine."""
    monkeypatch.setenv("KDTUI_SLOT_DIR", str(next(slot_folders)))
