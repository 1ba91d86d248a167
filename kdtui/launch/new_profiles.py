"""Profiles for a folder of images and labels, from what the engine's ``look`` reports about it."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdtui.errors import StoreError, TeacherError, UsageError
from kdtui.launch.engine_process import ask
from kdtui.launch.gpus import installed_gpus
from kdtui.palette import COLOUR
from kdtui.profile.class_list import is_void, split_colour
from kdtui.profile.find import OF_RUN
from kdtui.store.files import check_name
from kdtui.store.values import fits
from kdtui.text import clean, counted

if TYPE_CHECKING:
    from kdtui.profile import Profile

ROLES = ("teacher", "baseline", "distilled")
FOLDER = Path("profiles")
"""Where the profiles are written, below the working folder."""
_UNIT = 32
_AREAS = {"the CPU": 256 * 192, "the GPU": 512 * 512}
"""Pixels of an input with which an epoch of some hundred images takes minutes on the machine."""
_BATCH = 8
_ENCODERS = {"the CPU": "resnet34", "the GPU": "resnet50"}


@dataclass(frozen=True)
class FolderGuess:
    """One way to read a folder; see :class:`kdtui.engine.look.guess.Guess`."""

    keys: Mapping[str, Any]
    counts: Mapping[str, int]
    ground: Mapping[str, str] = field(default_factory=dict)
    known: str = ""
    names: tuple[str, ...] = ()
    named: bool = False
    size: tuple[int, ...] = (0, 0)
    channels: int = 3

    @property
    def words(self) -> str:
        """Layout and labels in one line, to choose between several guesses."""
        return f"{self.ground.get('layout', '')}: {self.ground.get('labels', '')}"

    def with_names(self, names: Sequence[str]) -> FolderGuess:
        """The guess with other class names.

        Raises:
            UsageError: There are not as many as before, or one occurs twice.
        """
        if len(names) != len(self.names):
            raise UsageError(
                "the number of class names differs from the number of classes",
                found=f"{len(names)} names",
                allowed=f"{len(self.names)}, for {', '.join(self.names[:5])}{', …' if len(self.names) > 5 else ''}",
            )
        if twice := [name for name in dict.fromkeys(names) if names.count(name) > 1]:
            raise UsageError("duplicate class name", found=", ".join(twice), allowed="a distinct name for each class")
        renamed = dict(zip(self.names, names, strict=True))
        keys = dict(self.keys)
        if "classes" in keys:
            keys["classes"] = [_renamed(entry, renamed) for entry in keys["classes"]]
        if "label_map" in keys:
            keys["label_map"] = {value: renamed.get(name, name) for value, name in keys["label_map"].items()}
        return FolderGuess(keys, self.counts, self.ground, self.known, tuple(names), True, self.size, self.channels)

    def without_void(self) -> FolderGuess:
        """The guess with ignored values for classes such as ``void``; unchanged if under two classes would remain."""
        void = [name for name in self.names if is_void(name)]
        rest = tuple(name for name in self.names if name not in void)
        labels = self.keys.get("labels", "numbers")
        if "classes" not in self.keys or not void or len(rest) < 2 or labels == "binary":
            return self
        entries = {split_colour(entry)[0]: entry for entry in self.keys["classes"]}
        mapped = {name: int(value) for value, name in self.keys.get("label_map", {}).items()}
        numbers = mapped or {name: number for number, name in enumerate(self.names)}
        values = {name: split_colour(entries[name])[1] if labels == "colour" else numbers[name] for name in self.names}
        keys = dict(self.keys) | {"classes": [entries[name] for name in rest]}
        keys["ignore"] = [*keys.get("ignore", ()), *(values[name] for name in void)]
        keys.pop("label_map", None)
        if labels != "colour" and [values[name] for name in rest] != list(range(len(rest))):
            keys["label_map"] = {str(values[name]): name for name in rest}
        ground = dict(self.ground) | {"ignored": ", ".join(f"{name} ({values[name]})" for name in void)}
        return replace(self, keys=keys, ground=ground, names=rest)


def _renamed(entry: str, names: Mapping[str, str]) -> str:
    """``NAME`` or ``NAME #rrggbb`` with another name."""
    name, _, colour = entry.rpartition(" ")
    return f"{names.get(name, name)} {colour}" if name and COLOUR.fullmatch(colour) else names.get(entry, entry)


def look(folder: Path, ask: Callable[..., dict[str, Any]] = ask) -> list[FolderGuess]:
    """The guesses of the engine for a folder, the best first.

    Args:
        folder: The folder.
        ask: Calls a verb of the engine.

    Raises:
        UsageError: There is no such folder.
        DataError: No layout is recognised.
    """
    if not folder.is_dir():
        raise UsageError("there is no such folder", where="FOLDER", found=folder)
    report = ask("look", str(folder.absolute()))
    guesses = report.get("guesses", [])
    return [FolderGuess(**guess) for guess in guesses if fits(FolderGuess, guess)]


def machine() -> str:
    """``the GPU`` or ``the CPU``, whichever a training on this machine uses."""
    return "the GPU" if installed_gpus() else "the CPU"


def input_size(size: Sequence[int], on: str) -> tuple[int, int]:
    """Width and height of the network's input: about the aspect of the images, and not larger than they are.

    Args:
        size: Median width and height of the images.
        on: See :func:`machine`.
    """
    width, height = (max(1, side) for side in size)
    scale = min(1.0, math.sqrt(_AREAS[on] / (width * height)))
    return _multiple(width * scale), _multiple(height * scale)


def _multiple(side: float) -> int:
    return max(_UNIT, round(side / _UNIT) * _UNIT)


def profile_name(folder: Path) -> str:
    """A name for the profiles of a folder."""
    return re.sub(r"[^a-z0-9]+", "-", folder.absolute().name.lower()).strip("-")[:40] or "data"


def check_prefix(prefix: str) -> str:
    """Return the first part of the profiles' names if it is valid.

    Raises:
        UsageError: It contains characters that are not allowed, or is too long.
    """
    try:
        check_name(f"{prefix}-{max(ROLES, key=len)}")
    except UsageError as error:
        raise UsageError(
            "not a valid prefix",
            found=prefix,
            allowed="up to 70 letters, digits and . _ + -, starting with a letter or digit, without '..'",
        ) from error
    return prefix


def chosen(guesses: Sequence[FolderGuess], number: int) -> FolderGuess:
    """The guess with a number, from 1.

    Raises:
        UsageError: There is none.
    """
    if not 1 <= number <= len(guesses):
        raise UsageError("there is no such layout", found=number, allowed=f"1 to {len(guesses)}")
    return guesses[number - 1]


def named(guess: FolderGuess, text: str) -> FolderGuess:
    """The guess with class names from a text, separated by commas; classes such as ``void`` become ignored values.

    Raises:
        UsageError: There are not as many as classes, or one occurs twice.
    """
    return guess.with_names([part.strip() for part in text.split(",") if part.strip()]).without_void()


def with_teacher(guess: FolderGuess, checkpoint: Path, report: Mapping[str, Any]) -> FolderGuess:
    """The guess, with the class names of a teacher where no file names them.

    Args:
        guess: The guess.
        checkpoint: The teacher.
        report: Result of the engine's ``inspect``.

    Raises:
        TeacherError: The teacher has another number of classes.
    """
    classes, names = report.get("classes"), report.get("class_names")
    if isinstance(classes, int) and classes != len(guess.names):
        raise TeacherError(
            "the teacher has another number of classes than the data",
            where=checkpoint,
            found=f"{classes} classes",
            allowed=f"{len(guess.names)}: {', '.join(guess.names[:8])}{', …' if len(guess.names) > 8 else ''}",
            hint="`kdtui init FOLDER` makes profiles without it; then set teacher.class_map in the distilled one",
        )
    usable = isinstance(names, list) and len(names) == len(guess.names) and all(isinstance(name, str) for name in names)
    return guess.with_names(list(map(str, names or ()))) if usable and not guess.named else guess


def facts(guess: FolderGuess, on: str) -> list[tuple[str, str]]:
    """What was recognised, as labels and texts.

    Args:
        guess: The guess.
        on: See :func:`machine`.
    """
    counts = ", ".join(f"{count} {split}" for split, count in guess.counts.items())
    names = ", ".join(guess.names[:8]) + (", …" if len(guess.names) > 8 else "")
    width, height = input_size(guess.size, on)
    return [
        *guess.ground.items(),
        ("pairs", counts or "none without a mistake"),
        ("classes", f"{len(guess.names)}: {clean(names)}"),
        ("images", f"{guess.size[0]}x{guess.size[1]} (median), {counted(guess.channels, 'channel')}"),
        ("input", f"{width}x{height}, for a training on {on}"),
    ]


def profile_files(name: str, *, teacher: bool) -> dict[str, Path]:
    """The file of each profile, by the name of the profile.

    Args:
        name: First part of the names.
        teacher: Whether there is a teacher already; then no profile for one is made.
    """
    stems = [f"{name}-{role}" for role in ROLES if not (teacher and role == "teacher")]
    return {stem: FOLDER / f"{stem}.toml" for stem in stems}


def write_profiles(name: str, folder: Path, guess: FolderGuess, *, teacher: Path | None, on: str) -> dict[str, Path]:
    """Write the profiles of a folder; returns their files by name.

    Args:
        name: First part of their names.
        folder: The images and labels; relative to the working folder in the profiles if it is below.
        guess: How it is read.
        teacher: Checkpoint of an existing teacher; then no profile for one is made.
        on: See :func:`machine`.

    Raises:
        StoreError: A file cannot be written.
    """
    path, here = folder.absolute(), Path.cwd()
    root = path.relative_to(here) if path.is_relative_to(here) and path != here else path
    files = profile_files(name, teacher=teacher is not None)
    try:
        FOLDER.mkdir(exist_ok=True)
        for stem, text in profile_texts(name, root, guess, teacher=teacher, on=on).items():
            files[stem].write_text(text, encoding="utf-8")
    except OSError as error:
        raise StoreError(
            "the profiles cannot be written",
            where=error.filename,
            found=error.strerror,
            hint="start kdtui in a folder where you may write",
        ) from error
    return files


def profile_texts(name: str, root: Path, guess: FolderGuess, *, teacher: Path | None, on: str) -> dict[str, str]:
    """The profiles as TOML with comments, by their names without ending.

    Args:
        name: First part of their names.
        root: The folder, as it is to be written.
        guess: How it is read.
        teacher: Checkpoint of an existing teacher; then no profile for one is made.
        on: See :func:`machine`.
    """
    texts = {f"{name}-baseline": _baseline(name, root, guess, on)}
    if teacher is None:
        texts[f"{name}-teacher"] = _teacher(name, on)
    texts[f"{name}-distilled"] = _distilled(name, teacher)
    return {key: texts[key] for role in ROLES if (key := f"{name}-{role}") in texts}


def _baseline(name: str, root: Path, guess: FolderGuess, on: str) -> str:
    import tomli_w

    width, height = input_size(guess.size, on)
    keys = {key: value for key, value in guess.keys.items() if key not in ("kind", "height", "width")}
    data = {"kind": guess.keys.get("kind", "folder"), "height": height, "width": width}
    if data["kind"] == "folder":
        data["root"] = str(root)
    table = tomli_w.dumps({"data": data | keys})
    grounds = "".join(f"# {label}: {text}\n" for label, text in guess.ground.items())
    train = guess.counts.get("train", 0)
    batch = _BATCH if train >= _BATCH else max(1, train - train % 2)
    return (
        f"# Written by `kdtui init`. A small student without a teacher: the baseline of {name}-distilled.\n"
        f"{grounds}"
        f"# size: for a training on {on}; the images have {guess.size[0]}x{guess.size[1]}\n"
        f'description = "{name}: a small student alone"\n'
        f'tags = ["{name}"]\n\n'
        f"{table}\n"
        "# `kdtui encoders` lists encoders with their sizes\n"
        "[student]\n"
        'architecture = "Unet"\n'
        'encoder = "resnet18"\n'
        "decoder_channels = [64, 32, 32, 16, 16]\n"
        '# encoder_weights = "imagenet"  # downloads pretrained weights: better with few images\n\n'
        "[training]\n"
        "epochs = 40\n"
        f"batch_size = {batch}\n"
        "learning_rate = 1e-3\n"
    )


def _teacher(name: str, on: str) -> str:
    return (
        f"# Written by `kdtui init`. The teacher: a larger network on the same data as {name}-baseline.\n"
        f'extends = "{name}-baseline"\n'
        f'description = "{name}: the teacher"\n'
        f'tags = ["{name}", "teacher"]\n\n'
        "[student]\n"
        f'encoder = "{_ENCODERS[on]}"\n'
        "decoder_channels = [256, 128, 64, 32, 16]\n"
    )


def _distilled(name: str, teacher: Path | None) -> str:
    import tomli_w

    checkpoint = f"{OF_RUN}{name}-teacher" if teacher is None else str(teacher)
    where = f"the teacher is the run {name}-teacher" if teacher is None else "the teacher is an existing checkpoint"
    return (
        f"# Written by `kdtui init`. The student of {name}-baseline, distilled; {where}.\n"
        f'extends = "{name}-baseline"\n'
        f'description = "{name}: the student, distilled"\n'
        f'tags = ["{name}", "distilled"]\n'
        f"\n{tomli_w.dumps({'teacher': {'checkpoint': checkpoint}})}\n"
        "[distillation]\n"
        "enabled = true\n"
        "temperature = 4.0\n"
        "alpha = 0.7    # weight of the teacher; the labels have 1 - alpha\n"
    )


def commands(name: str, *, teacher: Path | None) -> list[str]:
    """The commands to run next."""
    names = " ".join(f"{name}-{role}" for role in ROLES if not (teacher and role == "teacher"))
    return [f"kdtui train {names}", f"kdtui compare {names}"]


def profile_of_folder(folder: Path) -> Profile:
    """A profile for the best guess of a folder, not written anywhere.

    Raises:
        DataError: No layout is recognised.
    """
    from kdtui.profile import Profile

    guess = look(folder)[0]
    data = {"kind": "folder", **guess.keys}
    if data["kind"] == "folder":
        data["root"] = str(folder.absolute())
    return Profile.model_validate({"name": profile_name(folder), "data": data})
