"""Completion of paths to checkpoints."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from kdtui.errors import UsageError
from kdtui.launch.teachers import ENDINGS
from kdtui.profile.find import expanded

MOST = 500
"""Most entries listed per folder."""
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
        path: In the spelling of the typed folder, ready to be completed further.
        teaches: Whether it can be used as a teacher; otherwise it is a folder to open.
        bytes: Size of a file; None for a folder.
    """

    path: str
    name: str
    teaches: bool
    bytes: int | None = None


def is_path(text: str) -> bool:
    """Whether a text is a path, and not the id or name of a run."""
    return text.startswith(("~", ".")) or os.sep in text


def is_checkpoint_folder(path: Path) -> bool:
    """Whether a folder is a checkpoint: of ``save_pretrained``, or a run."""
    return any((path / name).is_file() for name in _SAVED)


def entries(text: str) -> list[FolderEntry]:
    """Folders and checkpoints that start with ``text``, folders first; call in a thread, as disks may be slow.

    Args:
        text: A path whose last part may be incomplete; hidden files are listed if it starts with a dot.

    Raises:
        UsageError: The folder cannot be read.
    """
    front, slash, begin = text.rpartition(os.sep)
    if not slash:  # `~` and `..` are folders that are not entered yet
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
    except OSError:  # a broken link, or no permission
        return None
    return None
