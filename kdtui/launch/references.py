"""Teachers that a profile names by their run, ``run:NAME``: runs of the store, and runs that have to finish first."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from kdtui.errors import LaunchError, UsageError
from kdtui.launch.teachers import named_run, run_checkpoint
from kdtui.profile.find import OF_RUN
from kdtui.store.run import Run
from kdtui.store.store import RunStore

if TYPE_CHECKING:
    from kdtui.profile import Profile

_WHERE = "teacher.checkpoint"


def references(profile: Profile) -> tuple[str, ...]:
    """The ``run:NAME`` texts of the profile's teachers; none without distillation."""
    teachers = profile.teacher.members if profile.distillation.enabled else ()
    return tuple(text for one in teachers if (text := one.checkpoint) is not None and text.startswith(OF_RUN))


def with_references(profile: Profile, change: Callable[[str], str]) -> Profile:
    """The profile with other checkpoints in place of its references."""
    if not references(profile):
        return profile
    changed = [
        one.model_copy(update={"checkpoint": change(one.checkpoint)})
        if one.checkpoint is not None and one.checkpoint.startswith(OF_RUN)
        else one
        for one in profile.teacher.members
    ]
    first = changed[0].model_copy(update={"ensemble": tuple(changed[1:]) or None})
    return profile.model_copy(update={"teacher": first})


def teacher_among(reference: str, profile: Profile, profiles: Sequence[Profile]) -> int | None:
    """Index of the profile that a reference of ``profile`` names, of several the one with its seed; None if none is."""
    named = [index for index, other in enumerate(profiles) if OF_RUN + other.name == reference]
    return next((index for index in named if profiles[index].seed == profile.seed), named[0] if named else None)


def waits_among(profile: Profile, profiles: Sequence[Profile]) -> bool:
    """Whether one of the profiles trains a teacher of ``profile``."""
    return any(teacher_among(reference, profile, profiles) is not None for reference in references(profile))


def linked(profiles: Sequence[Profile], store: RunStore) -> list[Profile]:
    """The profiles with their references resolved, each after those that train its teachers.

    ``run:NAME`` becomes the path of a checkpoint. It stays a reference if the run has to finish first: ``run:NAME`` of
    one of the profiles, else ``run:ID`` of a queued or running run; :func:`kdtui.launch.start.start` resolves it.

    Args:
        profiles: Complete, with absolute paths.
        store: The store of the runs.

    Raises:
        UsageError: A reference names nothing, a run without a best checkpoint, or its own profile; or the launch target
            does not wait for a run.
    """
    from kdtui.profile.launch_tables import target_name

    order: list[int] = []

    def add(index: int, students: tuple[int, ...]) -> None:
        if index in students:
            raise _circle([profiles[one].name for one in (*students[students.index(index) :], index)])
        if index in order:
            return
        for reference in references(profiles[index]):
            teacher = teacher_among(reference, profiles[index], profiles)
            if teacher is not None:
                add(teacher, (*students, index))
        order.append(index)

    for index in range(len(profiles)):
        add(index, ())

    def resolved(profile: Profile) -> Profile:
        changed = with_references(
            profile,
            lambda text: text if teacher_among(text, profile, profiles) is not None else run_checkpoint(text, store),
        )
        if references(changed) and not changed.launch.waits:
            raise UsageError(
                "this launch target does not wait for the run of a teacher",
                where="launch.target",
                found=target_name(type(changed.launch)),
                hint=f"train {references(changed)[0].removeprefix(OF_RUN)} first",
            )
        return changed

    return [resolved(profiles[index]) for index in order]


def _circle(names: Sequence[str]) -> UsageError:
    itself = len(names) == 2
    return UsageError(
        "a run cannot be its own teacher" if itself else "the teachers of these profiles form a circle",
        where=_WHERE,
        found=" -> ".join(names),
        allowed=f"an earlier run by its id, {OF_RUN}ID" if itself else None,
        hint="kdtui runs lists the runs" if itself else "name a finished run by its id in one of them",
    )


def after_runs(profile: Profile, profiles: Sequence[Profile], runs: Mapping[int, Run]) -> Profile:
    """The profile with ``run:ID`` of the runs that were made for its teachers.

    Args:
        profile: One of the profiles.
        profiles: From :func:`linked`.
        runs: The run of each profile made so far, by its index.

    Raises:
        LaunchError: A teacher's run was not started.
    """

    def change(reference: str) -> str:
        teacher = teacher_among(reference, profile, profiles)
        if teacher is None:
            return reference
        if teacher not in runs:
            raise LaunchError(f"'{profile.name}' is not started: its teacher's run was not", found=reference)
        return f"{OF_RUN}{runs[teacher].id}"

    return with_references(profile, change)


def awaited_profiles(profile: Profile, profiles: Sequence[Profile], store: RunStore) -> dict[str, Profile]:
    """The profile of each run that has to finish before ``profile`` is trained, by its reference."""

    def of(reference: str) -> Profile:
        teacher = teacher_among(reference, profile, profiles)
        return named_run(reference, store).profile() if teacher is None else profiles[teacher]

    return {reference: of(reference) for reference in references(profile)}


def awaited_flags(awaited: Mapping[str, Profile], folder: Path) -> list[str]:
    """Options of the engine's ``check`` for teachers that are not trained yet; writes their profiles to a folder."""
    from kdtui.profile import dump

    words = []
    for number, (checkpoint, profile) in enumerate(awaited.items()):
        file = folder / f"teacher-{number}.toml"
        file.write_bytes(dump(profile))
        words += ["--awaited", checkpoint, str(file)]
    return words
