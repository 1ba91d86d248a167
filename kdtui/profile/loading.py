"""A profile from a file and back."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tomli_w
from pydantic import ValidationError

from kdtui.errors import ProfileError
from kdtui.profile.find import expanded, locate
from kdtui.profile.mistakes import mistakes
from kdtui.profile.resolve import Resolved, read_sets, resolve, shorter, unusable
from kdtui.profile.tables import CocoData, FolderData, Profile


def load(name_or_path: str | Path, sets: Sequence[str] = ()) -> Profile:
    """The profile behind a name or path, with ``sets`` (``a.b=c``) laid on top.

    A name is looked up in ``.``, in ``./profiles``, then among the shipped ones.

    Raises:
        ProfileError: No such profile, or every mistake in it at once.
    """
    resolved = resolve(locate(name_or_path), sets)
    return _validate(resolved, what=f"profile '{name_or_path}'")


def amend(profile: Profile, sets: Sequence[str], *, what: str = "the profile") -> Profile:
    """A profile with ``sets`` laid on top, checked as if it had been written so.

    Raises:
        ProfileError: Every mistake at once.
    """
    resolved = Resolved(table=profile.model_dump(exclude_none=True))
    resolved.origins = dict.fromkeys([(key,) for key in resolved.table], what)
    table, origins, mistaken = read_sets(sets)
    resolved.merge(table, origins)
    resolved.mistakes += mistaken
    return _validate(resolved, what=what)


def sources(name_or_path: str | Path) -> list[Path]:
    """The file behind a name and the files it extends, nearest first."""
    return resolve(locate(name_or_path)).files


def _validate(resolved: Resolved, *, what: str) -> Profile:
    found = list(resolved.mistakes)
    profile: Profile | None = None
    impossible = unusable(resolved.table)
    found += [
        f"{shorter('.'.join(key)) or what} ({shorter(resolved.origin(key))}): found {why}" for key, why in impossible
    ]
    if not impossible:
        try:
            profile = Profile.model_validate(resolved.table)
        except ValidationError as error:
            found += mistakes(error, resolved)
    if profile is None or found:
        count = "a mistake" if len(found) == 1 else f"{len(found)} mistakes"
        raise ProfileError(
            f"{what} has {count}", mistakes=tuple(found), hint="the README's profile reference lists every key"
        )
    return profile


def dump(profile: Profile) -> bytes:
    """The profile as complete TOML: ``load`` of it is equal to it, and it extends nothing.

    Raises:
        ProfileError: A path in it is not UTF-8.
    """
    text = tomli_w.dumps(profile.model_dump(exclude_none=True))
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise ProfileError(
            "a path of the profile is not UTF-8 text", where=profile.name, hint="rename the folder that holds it"
        ) from error


def absolute(profile: Profile) -> Profile:
    """The profile with every path in it made absolute: ``~`` expanded, the rest below the current directory.

    What a run folder keeps has to mean the same from wherever the run is resumed.
    """
    changes: dict[str, Any] = {}
    data = profile.data
    if isinstance(data, FolderData):
        changes["data"] = data.model_copy(update={"root": _absolute(data.root)})
    elif isinstance(data, CocoData):
        splits = {name: getattr(data, name) for name in ("train", "val", "test")}
        changes["data"] = data.model_copy(
            update={
                name: split.model_copy(
                    update={"images": _absolute(split.images), "annotations": _absolute(split.annotations)}
                )
                for name, split in splits.items()
                if split is not None
            }
        )
    if profile.teacher.checkpoint is not None:
        changes["teacher"] = profile.teacher.model_copy(update={"checkpoint": _absolute(profile.teacher.checkpoint)})
    return profile.model_copy(update=changes)


def _absolute(path: str) -> str:
    return str(expanded(path).absolute())
