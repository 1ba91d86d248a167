"""Checkpoint files without torch: whether one is intact, and the disk usage of a run's checkpoints."""

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


def file_of(checkpoint: str) -> Path:
    """The file whose hash identifies a checkpoint; of a folder, that with its weights."""
    path = Path(checkpoint)
    if path.is_dir():
        named = [path / name for name in ("model.safetensors", "pytorch_model.bin")]
        path = next((file for file in named if file.is_file()), path)
    return path


def damage(path: Path) -> str | None:
    """Describe the damage of a checkpoint file; None if it is intact or if only torch could detect the damage.

    ``torch.save`` writes a zip archive of stored entries with checksums, which ``torch.load`` does not verify. The file
    is read once, in pieces.
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
    except zipfile.BadZipFile:  # the central directory at the end of the file is missing
        return "truncated"


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
    """Bytes of the checkpoints of a run; hard links to one file are counted once."""
    files = _files(run).values()
    return sum({(status.st_dev, status.st_ino): status.st_size for status in files}.values())


def checkpoint_sizes(run: Run) -> dict[str, int]:
    """Bytes of each checkpoint of a run by file name."""
    return {name: status.st_size for name, status in sorted(_files(run).items())}


def _files(run: Run) -> dict[str, os.stat_result]:
    found: dict[str, os.stat_result] = {}
    try:
        for path in run.checkpoints.iterdir():
            status = path.lstat()
            if stat.S_ISREG(status.st_mode) and path.suffix == ".pth":
                found[path.name] = status
    except OSError:  # never trained, being removed, or no permission
        return found
    return found
