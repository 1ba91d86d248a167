"""Runs of teachers that have to finish before their student starts."""

from __future__ import annotations

from kdtui.errors import LaunchError
from kdtui.store.run import Run
from kdtui.store.state import LIVE, State
from kdtui.store.store import RunStore


def has_finished(teacher: Run, student: Run, store: RunStore) -> bool:
    """Whether a teacher's run has finished; False while it is queued or running.

    Raises:
        LaunchError: It ended without finishing, or does not exist any more.
    """
    state = store.summary(teacher).state if teacher.manifest_path.exists() else None
    if state in LIVE:
        return False
    if state is State.FINISHED and teacher.best.is_file():
        return True
    raise LaunchError(
        "the run of the teacher did not finish, so there is no teacher",
        where="teacher.checkpoint",
        found=f"{teacher.id}: {'removed' if state is None else state.word.lower()}",
        hint="train its profile again, with this one"
        if state is None
        else f"kdtui resume {teacher.id}, then kdtui resume {student.id}",
    )
