"""Checkpoint files from the outside, without torch: whether one is whole, and how much disk a run's take."""

from __future__ import annotations

import os
import stat
import zipfile
import zlib
from pathlib import Path

from kdtui.store.files import reading
from kdtui.store.run import Run

_ZIP = b"PK"
_PIECE = 1 << 20


def damage(path: Path) -> str | None:
    """Why a checkpoint file cannot be complete; None if nothing is wrong or if only torch could detect it.

    ``torch.save`` writes a zip of stored entries with a checksum each, which torch itself does not compare when it
    reads. The file is read once, in pieces.
    """
    try:
        with reading(path) as file:
            head = file.read(len(_ZIP))
            if not head:
                return "empty"
            if head != _ZIP:
                return None
            return _zip_damage(zipfile.ZipFile(file))
    except FileNotFoundError:
        return "missing"
    except OSError as error:
        return error.strerror or type(error).__name__
    except zipfile.BadZipFile:  # its table of contents, the end of the file, is gone
        return "cut short"


def _zip_damage(archive: zipfile.ZipFile) -> str | None:
    with archive:
        for entry in archive.infolist():
            if entry.compress_type != zipfile.ZIP_STORED:  # not what torch.save writes
                return None
            try:
                with archive.open(entry) as stored:
                    while stored.read(_PIECE):
                        pass
            except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, NotImplementedError, RuntimeError):
                return "damaged"
    return None


def disk_usage(run: Run) -> int:
    """Bytes of the checkpoints of a run; a file with several names counts once."""
    files = _files(run).values()
    return sum({(status.st_dev, status.st_ino): status.st_size for status in files}.values())


def checkpoint_sizes(run: Run) -> dict[str, int]:
    """Bytes of each checkpoint of a run by its name."""
    return {name: status.st_size for name, status in sorted(_files(run).items())}


def _files(run: Run) -> dict[str, os.stat_result]:
    found: dict[str, os.stat_result] = {}
    try:
        for path in run.checkpoints.iterdir():
            status = path.lstat()
            if stat.S_ISREG(status.st_mode) and path.suffix == ".pth":
                found[path.name] = status
    except OSError:  # never trained, being removed, or a folder without permission
        return found
    return found
