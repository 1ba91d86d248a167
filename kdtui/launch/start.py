"""Making a run and launching it, and launching one again: what both faces do when a person says go."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdtui.errors import LaunchError, UsageError
from kdtui.launch.choices import owner
from kdtui.launch.launcher import launcher_for

if TYPE_CHECKING:
    from kdtui.profile import Profile
    from kdtui.store.run import Run
    from kdtui.store.store import RunStore

ENDING = 10.0
"""Seconds in which processes that said their last word are gone."""


def start(
    store: RunStore,
    profile: Profile,
    *,
    tags: Sequence[str] = (),
    resume_from: Path | None = None,
    total_epochs: int | None = None,
    origin: str,
) -> Run:
    """Make a run and launch it."""
    run = store.create(
        profile,
        tags=tags,
        resume_from=None if resume_from is None else str(resume_from),
        teacher=teacher_record(profile),
        origin=origin,
    )
    launcher_for(profile, store).launch(run, total_epochs=total_epochs)
    return run


def resume(store: RunStore, run: Run, *, total_epochs: int | None = None) -> None:
    """Launch the next attempt of a run in its own folder.

    Raises:
        KdtuiError: It lives, or could not be started.
    """
    target = str(run.profile_table().get("launch", {}).get("target", "local"))
    launcher = launcher_for(target, store)

    def launch() -> None:
        launcher.launch(run, total_epochs=total_epochs)

    once_over(store, run, launch)


def once_over(store: RunStore, run: Run, action: Callable[[], None]) -> None:
    """Do what needs a run's processes gone.

    A run has said its last word a moment before its last process is gone; for that moment it is waited, so that
    ``kdtui stop`` and the next command can stand in one script.
    """
    deadline = time.monotonic() + ENDING
    while True:
        try:
            return action()
        except (LaunchError, UsageError):
            if not store.summary(run).state.final or time.monotonic() > deadline:
                raise
        time.sleep(0.1)


def teacher_record(profile: Profile) -> dict[str, Any] | None:
    """What the manifest keeps of the teacher: path, hash, and the run it came from."""
    checkpoint = profile.teacher.checkpoint
    if checkpoint is None or not profile.distillation.enabled:
        return None
    path = Path(checkpoint)
    if path.is_dir():
        named = [path / name for name in ("model.safetensors", "pytorch_model.bin")]
        path = next((file for file in named if file.is_file()), path)
    run = owner(Path(checkpoint))
    return {
        "checkpoint": checkpoint,
        "sha256": _sha256(path) if path.is_file() else None,
        "run": None if run is None else run.id,
    }


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
