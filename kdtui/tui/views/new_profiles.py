"""Profiles for a folder: what was typed and recognised, the equivalent command, and the report on the data."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kdtui.errors import KdtuiError, UsageError
from kdtui.launch.data_check import headline
from kdtui.launch.new_profiles import (
    FolderGuess,
    check_prefix,
    chosen,
    commands,
    facts,
    named,
    profile_files,
    profile_name,
    with_teacher,
)
from kdtui.profile.find import expanded
from kdtui.text import counted, one_line
from kdtui.tui.values import TextLines

FOLDER, TEACHER, PREFIX, LAYOUT, CLASSES = "folder", "teacher", "prefix", "layout", "classes"
FIELDS: Mapping[str, str] = {
    FOLDER: "folder of the images and their labels",
    TEACHER: "existing teacher, a checkpoint or a run; empty: a profile for one is written",
    PREFIX: "first part of the profiles' names; empty: the name of the folder",
    LAYOUT: "number of the layout above; 1 is the best",
    CLASSES: "names of the classes in order, separated by commas; empty: those of the guess",
}
"""The fields and their descriptions."""


@dataclass(frozen=True)
class RecognisedFolder:
    """What the engine recognised.

    Attributes:
        asked: The texts of folder and teacher.
        guesses: Ways to read the folder, the best first.
        on: Where a training runs, see :func:`kdtui.launch.new_profiles.machine`.
        teacher: Checkpoint of the teacher; None without one.
        inspected: Result of the engine's ``inspect`` for it.
    """

    asked: tuple[str, str]
    guesses: Sequence[FolderGuess]
    on: str
    teacher: Path | None = None
    inspected: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ProfilesDraft:
    """The read texts.

    Attributes:
        folder: The folder.
        name: First part of the profiles' names.
        guess: How the folder is read; None if it was not recognised yet, or an answer cannot be used.
        mistakes: Messages by field.
        unnamed: Whether the names of the classes are a question.
        command: The equivalent command line; empty without a folder.
    """

    folder: Path = Path()
    name: str = ""
    guess: FolderGuess | None = None
    mistakes: Mapping[str, str] = field(default_factory=dict)
    unnamed: bool = False
    command: str = ""


def asked(texts: Mapping[str, str]) -> tuple[str, str]:
    """The texts of folder and teacher."""
    return texts[FOLDER].strip(), texts[TEACHER].strip()


def read(texts: Mapping[str, str], seen: RecognisedFolder | None) -> ProfilesDraft:
    """Read the texts of the fields, without accessing the disk.

    Args:
        texts: Text of each field.
        seen: What was recognised in this folder with this teacher.
    """
    text, teacher = asked(texts)
    if not text:
        return ProfilesDraft(mistakes={FOLDER: "choose a folder"})
    folder, mistakes = expanded(text), {}
    name = texts[PREFIX].strip() or profile_name(folder)
    words = ["kdtui", "init", str(folder)]
    words += ["--teacher", teacher] if teacher else []
    words += ["--prefix", name] if texts[PREFIX].strip() else []
    try:
        check_prefix(name)
    except UsageError as error:
        mistakes[PREFIX] = _fault(error)
    guess, unnamed = None, False
    if seen is not None:
        number, at = texts[LAYOUT].strip() or "1", LAYOUT
        words += ["--layout", number] if len(seen.guesses) > 1 else []
        try:
            guess = chosen(seen.guesses, int(number) if number.isdecimal() else 0)
            at = TEACHER
            guess = guess if seen.teacher is None else with_teacher(guess, seen.teacher, seen.inspected)
            at, unnamed = CLASSES, not guess.named
            if unnamed:
                names = texts[CLASSES].strip() or ", ".join(guess.names)
                words += ["--classes", names]
                guess = named(guess, names)
        except KdtuiError as error:
            mistakes[at] = _fault(error)
            guess = None
    return ProfilesDraft(folder, name, guess, mistakes, unnamed, shlex.join(words))


def _fault(error: KdtuiError) -> str:
    parts = [error.what, error.found and f"found {error.found}", error.allowed and f"allowed: {error.allowed}"]
    return " · ".join(one_line(part) for part in parts if part)


def layouts(seen: RecognisedFolder | None) -> TextLines:
    """The layouts to choose from, if there are several."""
    if seen is None or len(seen.guesses) < 2:
        return []
    return [[(f"{number}  ", "strong"), (guess.words, "")] for number, guess in enumerate(seen.guesses, 1)]


def recognised(draft: ProfilesDraft, seen: RecognisedFolder | None) -> TextLines:
    """What was recognised, and the files that are written."""
    if draft.guess is None or seen is None:
        return []
    files = profile_files(draft.name, teacher=seen.teacher is not None)
    rows = [*facts(draft.guess, seen.on), ("writes", ", ".join(map(str, files.values())))]
    return [[(f"{label:<9}", "muted"), (text, "")] for label, text in rows]


def failure(error: KdtuiError) -> TextLines:
    """An error with its next step."""
    lines: TextLines = [[("✗ ", "bad"), (" · ".join(map(one_line, error.message.splitlines())), "bad")]]
    return [*lines, *([[("  next: ", "muted"), (one_line(error.hint), "")]] if error.hint else [])]


def data_report(report: Mapping[str, Any], name: str, teacher: Path | None) -> TextLines:
    """What was found in the data, and the commands to run next."""
    findings = report["findings"]
    mark, tone = ("✓ ", "good") if report["ok"] else ("✗ ", "bad")
    count = counted(len(findings), "finding") if findings else "nothing wrong was found"
    lines: TextLines = [[(mark, tone), (f"{headline(report)}: {count}", tone)]]
    for finding in findings:
        mark, tone = ("✗ ", "bad") if finding["level"] == "error" else ("! ", "warn")
        lines.append([(mark, tone), (" · ".join(map(one_line, finding["message"].splitlines())), tone)])
        if finding["hint"]:
            lines.append([("  next: ", "muted"), (one_line(finding["hint"]), "")])
    if report["sheet"]:
        lines.append([("contact sheet: ", "muted"), (report["sheet"], "")])
    then = "next: " if report["ok"] else "correct the data, then: "
    return [*lines, *([(then, "muted"), (command, "strong")] for command in commands(name, teacher=teacher))]
