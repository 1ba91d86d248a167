"""Runs that a profile names, ``run:NAME``, for its teachers and for the initial weights of its student."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from kdtui.errors import LaunchError, UsageError
from kdtui.launch.teachers import named_run, run_checkpoint, with_normalisation
from kdtui.profile.find import OF_RUN
from kdtui.store.run import Run
from kdtui.store.store import RunStore

if TYPE_CHECKING:
    from kdtui.profile import Profile

_TEACHER, _WEIGHTS = "teacher.checkpoint", "student.weights"


class Reference(NamedTuple):
    """``run:NAME``, and the key of the profile that has it."""

    text: str
    where: str


def references(profile: Profile) -> tuple[Reference, ...]:
    """The references of a profile; those of teachers only with distillation."""
    teachers = profile.teacher.members if profile.distillation.enabled else ()
    named = [Reference(one.checkpoint or "", _TEACHER) for one in teachers]
    named.append(Reference(getattr(profile.student, "weights", None) or "", _WEIGHTS))
    return tuple(one for one in named if one.text.startswith(OF_RUN))


def with_references(profile: Profile, change: Callable[[Reference], str]) -> Profile:
    """The profile with other texts in place of its references."""
    texts = {reference: change(reference) for reference in references(profile)}
    changed = [
        one.model_copy(update={"checkpoint": texts.get(Reference(one.checkpoint or "", _TEACHER), one.checkpoint)})
        for one in profile.teacher.members
    ]
    tables: dict[str, Any] = {}
    if any(reference.where == _TEACHER for reference in texts):
        tables["teacher"] = changed[0].model_copy(update={"ensemble": tuple(changed[1:]) or None})
    for reference, text in texts.items():
        if reference.where == _WEIGHTS:
            tables["student"] = profile.student.model_copy(update={"weights": text})
    return profile.model_copy(update=tables) if tables else profile


def run_among(reference: Reference, profile: Profile, profiles: Sequence[Profile]) -> int | None:
    """Index of the profile that a reference of ``profile`` names, of several the one with its seed; None if none is.

    Weights of a run with the name of the profile itself are those of an earlier run.
    """
    if reference == Reference(OF_RUN + profile.name, _WEIGHTS):
        return None
    named = [index for index, other in enumerate(profiles) if OF_RUN + other.name == reference.text]
    return next((index for index in named if profiles[index].seed == profile.seed), named[0] if named else None)


def waits_among(profile: Profile, profiles: Sequence[Profile]) -> bool:
    """Whether one of the profiles trains a teacher or the initial weights of ``profile``."""
    return any(run_among(reference, profile, profiles) is not None for reference in references(profile))


def linked(profiles: Sequence[Profile], store: RunStore) -> list[Profile]:
    """The profiles with their references resolved, each after those that train its teachers and initial weights.

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
            awaited = run_among(reference, profiles[index], profiles)
            if awaited is not None:
                add(awaited, (*students, index))
        order.append(index)

    for index in range(len(profiles)):
        add(index, ())

    def resolved(profile: Profile) -> Profile:
        def change(reference: Reference) -> str:
            among = run_among(reference, profile, profiles)
            return run_checkpoint(reference.text, store, reference.where) if among is None else reference.text

        for reference in references(profile):
            if reference.where == _WEIGHTS:
                profile = with_normalisation(profile, _profile_of(reference, profile, profiles, store))
        changed = with_references(profile, change)
        if references(changed) and not changed.launch.waits:
            raise UsageError(
                "this launch target does not wait for another run",
                where="launch.target",
                found=target_name(type(changed.launch)),
                hint=f"train {references(changed)[0].text.removeprefix(OF_RUN)} first",
            )
        return changed

    trained: dict[int, Profile] = {}
    for index in order:
        trained[index] = resolved(profiles[index])
        profiles = [*profiles[:index], trained[index], *profiles[index + 1 :]]
    return [trained[index] for index in order]


def _profile_of(reference: Reference, profile: Profile, profiles: Sequence[Profile], store: RunStore) -> Profile:
    """The profile of the run that a reference of ``profile`` names."""
    among = run_among(reference, profile, profiles)
    return named_run(reference.text, store, reference.where).profile() if among is None else profiles[among]


def _circle(names: Sequence[str]) -> UsageError:
    itself = len(names) == 2
    return UsageError(
        "a run cannot be its own teacher" if itself else "these profiles wait for each other in a circle",
        where=_TEACHER,
        found=" -> ".join(names),
        allowed=f"an earlier run by its id, {OF_RUN}ID" if itself else None,
        hint="kdtui runs lists the runs" if itself else "name a finished run by its id in one of them",
    )


def after_runs(profile: Profile, profiles: Sequence[Profile], runs: Mapping[int, Run]) -> Profile:
    """The profile with ``run:ID`` of the runs that were made for its teachers and initial weights.

    Args:
        profile: One of the profiles.
        profiles: From :func:`linked`.
        runs: The run of each profile made so far, by its index.

    Raises:
        LaunchError: A run that it waits for was not started.
    """

    def change(reference: Reference) -> str:
        awaited = run_among(reference, profile, profiles)
        if awaited is None:
            return reference.text
        if awaited not in runs:
            raise LaunchError(
                f"'{profile.name}' is not started: the run that it waits for was not",
                where=reference.where,
                found=reference.text,
            )
        return f"{OF_RUN}{runs[awaited].id}"

    return with_references(profile, change)


def awaited_profiles(profile: Profile, profiles: Sequence[Profile], store: RunStore) -> dict[str, Profile]:
    """The profile of each run that has to finish before ``profile`` is trained, by its reference."""
    return {reference.text: _profile_of(reference, profile, profiles, store) for reference in references(profile)}


def awaited_flags(awaited: Mapping[str, Profile], folder: Path) -> list[str]:
    """Options of the engine's ``check`` for runs that have not finished yet; writes their profiles to a folder."""
    from kdtui.profile import dump

    words = []
    for number, (checkpoint, profile) in enumerate(awaited.items()):
        file = folder / f"awaited-{number}.toml"
        file.write_bytes(dump(profile))
        words += ["--awaited", checkpoint, str(file)]
    return words
