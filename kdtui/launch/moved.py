"""New locations of a run's files: the settings that ``--set`` may change for an existing run.

``profile.toml`` is written once. Later changes are kept in ``overrides.toml`` next to it, and every reader of the run's
profile applies them.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdtui.errors import DataError, UsageError
from kdtui.store.checkpoint_files import file_of
from kdtui.store.files import sha256_of
from kdtui.store.run import flat

if TYPE_CHECKING:
    from kdtui.profile import Profile
    from kdtui.profile.base import PathKey
    from kdtui.store.run import Run

_COMPUTING = (
    *(f"training.{key}" for key in ("workers", "threads", "devices", "accelerator", "cache_gib")),
    "data.cache_gib",
)
"""Keys for the devices and the memory of a run; like its paths, none of them changes what is trained."""


@dataclass(frozen=True)
class Moved:
    """A run's profile with its overrides.

    Attributes:
        profile: Complete, with absolute paths.
        changes: The values of ``--set`` as nested tables; empty without ``--set``.
        once: Whether the profile has further changes, for one evaluation; they are not recorded.
    """

    profile: Profile
    changes: Mapping[str, Any] = field(default_factory=dict)
    once: bool = False

    def record(self, run: Run) -> None:
        """Write the changes to the run's ``overrides.toml``."""
        if self.changes:
            run.write_overrides(self.changes)


def moved(run: Run, sets: Sequence[str] = ()) -> Moved:
    """The profile of a run with ``--set`` texts applied.

    Raises:
        UsageError: A key that would change what is trained, or a different teacher.
        ProfileError: An invalid value.
    """
    from kdtui.profile import absolute, amend
    from kdtui.profile.loading import read_sets

    profile = run.profile()
    if not sets:
        return Moved(profile)
    table, _, _ = read_sets(sets)
    keys = [key for key, _ in flat(table)]
    for key in keys:
        _check_key(run, profile, key)
    changed = absolute(amend(profile, sets, what=run.id))
    if "teacher.checkpoint" in keys:
        _check_copy(run, "teacher", "teacher.checkpoint", changed.teacher.checkpoint, run.manifest().teacher)
    if "student.weights" in keys:
        path = getattr(changed.student, "weights", None)
        _check_copy(run, "checkpoint of weights", "student.weights", path, run.manifest().weights)
    tables = changed.model_dump(mode="json")
    changes: dict[str, Any] = {}
    for key in keys:
        *parents, last = key.split(".")
        source, target = tables, changes
        for parent in parents:
            source, target = source[parent], target.setdefault(parent, {})
        target[last] = source[last]
    return Moved(changed, changes)


def for_evaluation(run: Run, sets: Sequence[str] = ()) -> Moved:
    """As :func:`moved`, and with keys of the data that only change how a network is evaluated.

    Raises:
        UsageError: As :func:`moved`.
        ProfileError: As :func:`moved`.
    """
    from kdtui.profile import absolute, amend

    keys = tuple(f"data.{key}=" for key in run.profile().data.evaluation_keys) if sets else ()
    once = [text for text in sets if text.replace(" ", "").startswith(keys)] if keys else []
    now = moved(run, [text for text in sets if text not in once])
    if not once:
        return now
    return Moved(absolute(amend(now.profile, once, what=run.id)), now.changes, once=True)


@contextlib.contextmanager
def profile_file(run: Run, now: Moved) -> Iterator[Path]:
    """A file with the profile including its overrides; the run's ``profile.toml`` if there are none."""
    from kdtui.profile import dump

    if not now.changes and not now.once and not run.overrides():
        yield run.profile_path
        return
    with tempfile.TemporaryDirectory(prefix="kdtui-") as folder:
        file = Path(folder) / "profile.toml"
        file.write_bytes(dump(now.profile))
        yield file


def check_places(run: Run, profile: Profile, verb: str, splits: Sequence[str], *, teacher: bool = False) -> None:
    """Check that the files that a command reads exist, before the engine is started.

    Args:
        run: The run.
        profile: The run's profile with its overrides.
        verb: The kdtui command, for the hint.
        splits: The splits that are read.
        teacher: Whether the teacher is read too.

    Raises:
        DataError: A file or folder is missing.
    """
    for key, path, placeholder in _places(profile, splits, teacher=teacher):
        if not Path(path).exists():
            what = "teacher's checkpoint is" if key == "teacher.checkpoint" else "run's data are"
            raise DataError(
                f"the {what} not at the recorded location",
                where=key,
                found=path,
                hint="restore it"
                if "[" in key  # an item of a list, which --set cannot change
                else f"restore it, or set its new location: kdtui {verb} {run.id} --set {key}={placeholder}",
            )


def _places(profile: Profile, splits: Sequence[str], *, teacher: bool) -> Iterator[PathKey]:
    from kdtui.profile.base import paths_of

    yield from profile.data.places(splits)
    if teacher and profile.distillation.enabled:
        yield from paths_of(profile.teacher, "teacher")


def _check_key(run: Run, profile: Profile, key: str) -> None:
    from kdtui.profile.base import paths_of

    settable = [*(place.key for place in paths_of(profile)), *_COMPUTING]
    written = {name for name, _ in flat(profile.model_dump(mode="json", exclude_none=True))}
    own = [name for name in settable if name in {*written, *_COMPUTING}]
    if key not in own:
        raise UsageError(
            f"{key} cannot be changed for an existing run: it would change what is trained",
            where="--set",
            found=key,
            allowed=", ".join(own),
            hint=f"kdtui train {run.profile_path} --set {key}=VALUE trains a new run",
        )


def _check_copy(run: Run, noun: str, key: str, path: str | None, recorded: Mapping[str, Any] | None) -> None:
    """Check that a checkpoint in its new location is the one that the run was created with."""
    known = (recorded or {}).get("sha256")
    file = file_of(path or "")
    if known is None or not file.is_file():
        return
    found = sha256_of(file)
    if found != known:
        raise UsageError(
            f"this is not the {noun} that the run was created with",
            where=f"--set {key}={path}",
            found=f"sha256 {found[:12]}…",
            allowed=f"a copy of the same {noun}, sha256 {str(known)[:12]}…",
            hint=f"kdtui train {run.profile_path} --set {key}={path} trains a new run",
        )
