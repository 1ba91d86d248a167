"""Checkpoints of untrained networks, which take the place of those that are not trained yet in a check."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from kdtui.engine import checkpoint
from kdtui.engine.data import build_dataset
from kdtui.engine.network import build_student, stride_of
from kdtui.profile import Profile
from kdtui.store.run import Run


@contextlib.contextmanager
def stand_ins(profile: Profile, awaited: Mapping[str, Profile]) -> Iterator[tuple[Profile, dict[str, str]]]:
    """The profile with an untrained network in place of each checkpoint that does not exist yet.

    Also these checkpoints by the file in their place.

    Args:
        profile: Its teachers and initial weights may be in ``awaited``.
        awaited: The profile that trains a network, by its checkpoint.

    Raises:
        KdtuiError: The data of such a profile cannot be read, or its network cannot be built.
    """
    with tempfile.TemporaryDirectory(prefix="kdtui-") as folder:
        files = {
            name: _untrained(trained, Path(folder) / f"{number}-{trained.name}.pth")
            for number, (name, trained) in enumerate(awaited.items())
        }
        first, *others = (
            one.model_copy(update={"checkpoint": files.get(one.checkpoint or "", one.checkpoint)})
            for one in profile.teacher.members
        )
        teachers = first.model_copy(update={"ensemble": tuple(others) or None})
        student = profile.student
        if (weights := getattr(student, "weights", None)) in files:
            student = student.model_copy(update={"weights": files[weights]})
        yield (
            profile.model_copy(update={"teacher": teachers, "student": student}),
            {file: name for name, file in files.items()},
        )


def with_names(answer: Any, names: Mapping[str, str]) -> Any:
    """A JSON value whose texts have names instead of files."""
    if isinstance(answer, str):
        for file, name in names.items():
            answer = answer.replace(file, name)
    elif isinstance(answer, Mapping):
        return {key: with_names(value, names) for key, value in answer.items()}
    elif isinstance(answer, list | tuple):
        return [with_names(value, names) for value in answer]
    return answer


def _untrained(profile: Profile, file: Path) -> str:
    """Write a checkpoint of a profile's student with random weights."""
    data = build_dataset(profile.data, "val", stride=stride_of(profile), seed=profile.seed)
    task, channels = profile.data.task, profile.data.image_channels
    network = build_student(profile.student, task=task, classes=len(data.classes), channels=channels, download=False)
    checkpoint.save(
        file, checkpoint.student_payload(Run(file.parent), profile, network, data.classes, asdict(data.pixels))
    )
    return str(file)
