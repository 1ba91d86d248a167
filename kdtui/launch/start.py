"""Create and launch a run, and launch the next attempt of an existing one; used by the CLI and the cockpit."""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdtui.errors import LaunchError, UsageError
from kdtui.launch.awaited import has_finished
from kdtui.launch.engine_process import ask, check_program, reported
from kdtui.launch.moved import Moved, check_places, moved, profile_file
from kdtui.launch.references import awaited_flags, references, with_references
from kdtui.launch.standby import Standby
from kdtui.launch.targets import launcher_for, launcher_of, preparing_launcher
from kdtui.launch.teachers import named_run, owner
from kdtui.profile.find import OF_RUN
from kdtui.store.checkpoint_files import file_of
from kdtui.store.files import sha256_of
from kdtui.store.run import Run
from kdtui.store.state import LIVE, Liveness

if TYPE_CHECKING:
    from kdtui.profile import Profile
    from kdtui.store.store import RunStore

ENDING = 10.0
"""Seconds after the final event within which the processes must exit."""


def start(
    store: RunStore,
    profile: Profile,
    *,
    tags: Sequence[str] = (),
    resume_from: Path | None = None,
    total_epochs: int | None = None,
    origin: str,
    standby: Standby | None = None,
) -> Run:
    """Create a run and launch it; it waits for the runs that its profile names, ``run:ID``.

    Args:
        store: Where the run is created.
        profile: Complete, with absolute paths.
        tags: Tags of the run.
        resume_from: Checkpoint to start from.
        total_epochs: Number of epochs instead of the profile's.
        origin: What created the run, for its manifest.
        standby: From :func:`prepared`, of the same profile.
    """
    run = create(store, profile, tags=tags, resume_from=resume_from, origin=origin)
    launcher = preparing_launcher(profile, store)
    if standby is None or launcher is None:
        launcher_for(profile, store).launch(run, total_epochs=total_epochs)
    else:
        launcher.launch(run, total_epochs=total_epochs, standby=standby)
    return run


@contextlib.contextmanager
def prepared(profiles: Sequence[Profile], store: RunStore) -> Iterator[Standby | None]:
    """What checks the profile of a launch and trains it afterwards in the same process; None for several profiles.

    Without a launch, its processes end with the context.
    """
    launcher = preparing_launcher(profiles[0], store) if len(profiles) == 1 else None
    # A run that waits for another one may wait for hours, and an idle engine takes memory.
    waits = launcher is not None and bool(references(profiles[0]))
    standby = None if launcher is None or waits else launcher.prepare(profiles[0])
    with contextlib.nullcontext() if standby is None else standby:
        yield standby


def create(
    store: RunStore,
    profile: Profile,
    *,
    tags: Sequence[str] = (),
    resume_from: Path | None = None,
    origin: str,
    group: str | None = None,
    sweep: Mapping[str, Any] | None = None,
) -> Run:
    """Create a run with the records of its files; see :func:`start`, and the manifest for ``group`` and ``sweep``."""
    return store.create(
        with_references(profile, lambda one: str(named_run(one.text, store, one.where).best.absolute())),
        tags=tags,
        resume_from=None if resume_from is None else str(resume_from),
        teacher=teacher_record(profile, store),
        weights=weights_record(profile, store),
        origin=origin,
        group=group,
        sweep=sweep,
    )


def resume(
    store: RunStore,
    run: Run,
    *,
    total_epochs: int | None = None,
    sets: Sequence[str] = (),
    dry_run: bool = False,
) -> ResumedRun:
    """Launch the next attempt of a run in its own folder, after checking that it can be resumed.

    Args:
        store: The store of the run.
        run: The run.
        total_epochs: Number of epochs instead of the previous one.
        sets: ``--set`` texts: new locations of its files, kept for every later attempt.
        dry_run: Only check.

    Raises:
        KdtuiError: It is running, cannot be resumed, or could not be started; its folder is unchanged.
    """
    launcher = launcher_of(run, store)
    now = moved(run, sets)
    going = ResumedRun()

    def launch() -> None:
        launcher.launch(run, total_epochs=total_epochs)

    if store.summary(run).state not in LIVE:
        from kdtui.store.writable import check_run_writable

        check_program()
        check_run_writable(run.path)
        awaited = _awaited(store, run)
        trained = not any(one.checkpoint in awaited for one in now.profile.teacher.members)
        check_places(run, now.profile, "resume", ("train", "val"), teacher=trained)
        going = _checked(run, now, total_epochs, awaited)
    elif dry_run or sets:
        raise UsageError("this run is running", where=run.id, hint=f"kdtui stop {run.id} first")
    if not dry_run:
        now.record(run)
        once_over(store, run, launch)
    return going


@dataclass(frozen=True)
class ResumedRun:
    """Result of the checks before a run is resumed.

    Attributes:
        checks: Name and message of each check; all of them passed.
        warnings: Differences from the state at the end of the previous attempt, for example a missing checkpoint.
    """

    checks: tuple[tuple[str, str], ...] = ()
    warnings: tuple[str, ...] = ()


def _awaited(store: RunStore, run: Run) -> dict[str, Profile]:
    """The profile of each run that has not finished yet, by its best checkpoint.

    Raises:
        LaunchError: One of them did not finish.
    """
    runs = [Run(store.root / run_id) for run_id in run.manifest().awaited]
    return {str(awaited.best): awaited.profile() for awaited in runs if not has_finished(awaited, run, store)}


def _checked(run: Run, now: Moved, total_epochs: int | None, awaited: Mapping[str, Profile]) -> ResumedRun:
    """Let the engine check the next attempt.

    Raises:
        KdtuiError: The first check that failed.
    """
    horizon = [] if total_epochs is None else ["--total-epochs", str(total_epochs)]
    with profile_file(run, now) as file, tempfile.TemporaryDirectory(prefix="kdtui-") as folder:
        flags = awaited_flags(awaited, Path(folder))
        answer = ask("check", str(file), "--run", str(run.path), *horizon, *flags)
    checks = answer.get("checks", [])
    for check in checks:
        if not check["ok"]:
            error = reported(check)
            if error.hint is not None and error.hint.startswith("--set "):
                error.hint = f"in a new run: kdtui train {run.profile_path} {error.hint}"
            raise error
    return ResumedRun(
        tuple((str(check["name"]), str(check["message"])) for check in checks),
        tuple(str(warning["message"]) for warning in answer.get("warnings", [])),
    )


def once_over(store: RunStore, run: Run, action: Callable[[], None]) -> None:
    """Run an action that needs all processes of a run to have exited.

    A run writes its final event shortly before its last process exits. The action is retried until then, so that a
    script can call ``kdtui stop`` and the next command in sequence.
    """
    deadline = time.monotonic() + ENDING
    while True:
        try:
            return action()
        except (LaunchError, UsageError):
            if not store.summary(run).state.final or time.monotonic() > deadline:
                raise
        time.sleep(0.1)


def wait_for_exit(store: RunStore, run: Run) -> None:
    """Wait until the processes of a run that has ended have exited, at most :data:`ENDING` seconds.

    Its files do not change any more then.
    """
    deadline = time.monotonic() + ENDING
    record = run.launch_record()
    while record is not None and launcher_of(run, store).liveness(record) is Liveness.ALIVE:
        if time.monotonic() > deadline:
            return
        time.sleep(0.05)


def teacher_record(profile: Profile, store: RunStore) -> dict[str, Any] | None:
    """The teachers' entry in the manifest, see :class:`kdtui.store.run.Manifest`; None without distillation."""
    first, *others = profile.teacher.members
    if first.checkpoint is None or not profile.distillation.enabled:
        return None

    further = [_record(one.checkpoint, store) for one in others if one.checkpoint is not None]
    return _record(first.checkpoint, store) | ({"ensemble": further} if further else {})


def weights_record(profile: Profile, store: RunStore) -> dict[str, Any] | None:
    """The manifest's entry for the student's initial weights, as for the teacher; None if they are of no file."""
    checkpoint = getattr(profile.student, "weights", None)
    return None if checkpoint is None else _record(checkpoint, store, "student.weights")


def _record(checkpoint: str, store: RunStore, where: str = "teacher.checkpoint") -> dict[str, Any]:
    if checkpoint.startswith(OF_RUN):
        awaited = named_run(checkpoint, store, where)
        return {"checkpoint": str(awaited.best.absolute()), "sha256": None, "run": awaited.id, "awaited": True}
    path = file_of(checkpoint)
    run = owner(Path(checkpoint))
    return {
        "checkpoint": checkpoint,
        "sha256": sha256_of(path) if path.is_file() else None,
        "run": None if run is None else run.id,
    }
