"""Checkpoints by their path: what a typed beginning of a path could go on with."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from kdtui.errors import UsageError
from kdtui.launch.teachers import ENDINGS
from kdtui.profile.find import expanded

MOST = 500
"""Entries of one folder that are offered."""
_SAVED = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
    "profile.toml",
)


@dataclass(frozen=True)
class FolderEntry:
    """One entry of a folder.

    Attributes:
        path: As it would be typed on: in the typed folder's own spelling.
        teaches: Whether it can be taken as a teacher; else it is a folder to go on into.
        bytes: Size of a file.
    """

    path: str
    name: str
    teaches: bool
    bytes: int | None = None


def is_path(text: str) -> bool:
    """Whether a text means a place in the file system, and no run's id or name."""
    return text.startswith(("~", ".")) or os.sep in text


def is_checkpoint_folder(path: Path) -> bool:
    """Whether a folder is a checkpoint itself: of ``save_pretrained``, or a run."""
    return any((path / name).is_file() for name in _SAVED)


def entries(text: str) -> list[FolderEntry]:
    """Folders and checkpoints that begin as ``text`` does; folders first. For a thread: a disk may be far away.

    Args:
        text: A path whose last part may be unfinished; what begins with a dot is offered if the dot is typed.

    Raises:
        UsageError: Its folder cannot be read.
    """
    front, slash, begin = text.rpartition(os.sep)
    if not slash:  # `~` and `..` are folders still to be entered
        front, begin = (text, "") if text in ("~", ".", "..") else (".", text)
    folder = expanded(f"{front}{os.sep}" if slash else front)
    try:
        with os.scandir(folder) as listing:
            names = sorted(entry.name for entry in listing)
    except OSError as error:
        raise UsageError("this folder cannot be read", where=folder, found=error.strerror) from error
    wanted = [name for name in names if name.lower().startswith(begin.lower())]
    shown = [name for name in wanted if name.startswith(".") <= begin.startswith(".")]
    found = [entry for name in shown if (entry := _found(front, folder / name)) is not None]
    return sorted(found, key=lambda entry: entry.bytes is not None)[:MOST]


def _found(front: str, path: Path) -> FolderEntry | None:
    typed = f"{front.rstrip(os.sep)}{os.sep}{path.name}"
    try:
        if path.is_dir():
            teaches = is_checkpoint_folder(path)
            return FolderEntry(typed if teaches else typed + os.sep, path.name + os.sep, teaches)
        if path.suffix in ENDINGS and path.is_file():
            return FolderEntry(typed, path.name, True, path.stat().st_size)
    except OSError:  # a link that leads nowhere, or where nobody may look
        return None
    return None
