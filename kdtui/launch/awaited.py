"""Runs that have to finish before another one starts: those of its teachers and of its initial weights."""

from __future__ import annotations

from kdtui.errors import LaunchError
from kdtui.store.run import Run
from kdtui.store.state import LIVE, State
from kdtui.store.store import RunStore


def has_finished(awaited: Run, run: Run, store: RunStore) -> bool:
    """Whether the run of a teacher or of initial weights of ``run`` has finished; False while it is queued or running.

    Raises:
        LaunchError: It ended without finishing, or does not exist any more.
    """
    state = store.summary(awaited).state if awaited.manifest_path.exists() else None
    if state in LIVE:
        return False
    if state is State.FINISHED and awaited.best.is_file():
        return True
    teaches = any(entry.get("run") == awaited.id for entry in run.manifest().teachers)
    raise LaunchError(
        "the run of the teacher did not finish, so there is no teacher"
        if teaches
        else "the run of the initial weights did not finish, so there are none",
        where="teacher.checkpoint" if teaches else "student.weights",
        found=f"{awaited.id}: {'removed' if state is None else state.word.lower()}",
        hint="train its profile again, with this one"
        if state is None
        else f"kdtui resume {awaited.id}, then kdtui resume {run.id}",
    )
