"""Packages that extend kdtui, installed by hand: a folder for ``PYTHONPATH`` with modules and their ``dist-info``."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path


def install(
    folder: Path, package: str, files: Mapping[str, str], entry_points: Mapping[str, Mapping[str, str]]
) -> None:
    """Put a package into a folder, as an installer would.

    Args:
        folder: What is on the path.
        package: Its name, also that of its module.
        files: Text of its files by name.
        entry_points: For each group the references by name.
    """
    (folder / package).mkdir(parents=True)
    for name, text in files.items():
        (folder / package / name).write_text(text)
    about = folder / f"{package}-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    lines = []
    for group, entries in entry_points.items():
        lines += [f"[{group}]", *(f"{name} = {reference}" for name, reference in entries.items())]
    (about / "entry_points.txt").write_text("\n".join(lines) + "\n")


def on_path(folder: Path) -> str:
    """``PYTHONPATH`` with a folder in front."""
    return os.pathsep.join(filter(None, (str(folder), os.environ.get("PYTHONPATH"))))
