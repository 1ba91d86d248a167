"""What the teacher says of the validation set, asked once and kept.

Kept below ``runs/.cache/teachers`` by (teacher hash, data, split, size, precision): the scores, and the predicted
classes, which every later run with this teacher compares its student with (agreement). May be deleted at any time.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Callable
from dataclasses import asdict, fields
from pathlib import Path

import numpy as np

from kdtui.engine.metrics import Scores
from kdtui.profile import CocoData, Data, FolderData
from kdtui.store.files import aside, reading
from kdtui.store.run import write_atomically
from kdtui.store.values import fits, parse_json

# What touches the training split alone leaves the validation set, and so the teacher's answer, as it is.
_TRAINING_ONLY = {"augmentation", "views", "train_limit", "train_samples", "label_coarseness", "label_noise"}
_MOST_BYTES = 2**20


def _stamp(path: Path) -> tuple[str, int, int]:
    status = path.stat()
    return path.name, status.st_size, status.st_mtime_ns


def data_fingerprint(data: Data, split: str) -> str:
    """Changes when the files behind a split do, by name, size and time (contents are not read)."""
    if isinstance(data, CocoData):
        part = getattr(data, split) or data.train  # without a split of its own it is held out of the training images
        stamps = [_stamp(Path(part.annotations))]
    elif isinstance(data, FolderData):
        root = Path(data.root)
        folders = [root / "images" / split, root / "masks" / split]
        stamps = [_stamp(path) for folder in folders for path in sorted(folder.iterdir())]
        stamps.append(_stamp(root / "classes.txt"))
    else:
        stamps = []
    description = data.model_dump(mode="json", exclude=_TRAINING_ONLY)
    if description.get("value_range", ...) is None:  # as what was kept before there was such a key
        del description["value_range"]
    return json.dumps([description, split, stamps], sort_keys=True)


class TeacherCache:
    """The kept evaluation of one teacher on one split, for one rank of so many.

    Args:
        folder: ``runs/.cache/teachers``.
        teacher_sha256: Hash of the teacher's file.
        fingerprint: Of the data, see :func:`data_fingerprint`.
        precision: Predictions differ a little between precisions.
        rank: This rank keeps the predictions of its own share.
        world_size: How many shares there are.
    """

    def __init__(
        self, folder: Path, *, teacher_sha256: str, fingerprint: str, precision: str, rank: int, world_size: int
    ) -> None:
        key = hashlib.sha256(f"1|{teacher_sha256}|{fingerprint}|{precision}".encode()).hexdigest()[:24]
        self._scores = folder / f"{key}.of{world_size}.json"
        self._predictions = folder / f"{key}.{rank}of{world_size}.npy"

    def read(self, shape: tuple[int, int, int]) -> tuple[Scores, np.ndarray] | None:
        """What was kept; None when it is absent, not whole, not readable, or not what :meth:`write` writes.

        Args:
            shape: [N,H,W] of this rank's predictions.
        """
        try:
            with reading(self._scores) as file:
                body = parse_json(file.read(_MOST_BYTES))
            predictions = np.load(self._predictions, mmap_mode="r", allow_pickle=False)
        except (OSError, EOFError, ValueError):
            return None
        names = {f.name for f in fields(Scores)}
        usable = isinstance(body, dict) and body.keys() == names and fits(Scores, body)
        if not usable or predictions.dtype != np.uint8 or predictions.shape != shape:
            return None
        return Scores(**body), predictions

    def write(
        self, shape: tuple[int, int, int], ask: Callable[[np.ndarray], Scores], *, last: bool
    ) -> tuple[Scores, np.ndarray]:
        """Ask the teacher and keep the answer, where the run store has room for it and lets this user write.

        Args:
            shape: [N,H,W] of this rank's predictions.
            ask: Fills the array and returns the scores (over all ranks).
            last: Whether this rank writes the scores, which make the entry valid.
        """
        written = aside(self._predictions)
        try:
            predictions = self._file(written, shape)
        except OSError as error:
            return self._without_file(shape, ask, error)
        try:
            scores = ask(predictions)
            if isinstance(predictions, np.memmap):
                predictions.flush()
            written.replace(self._predictions)
        finally:
            written.unlink(missing_ok=True)
        if last:
            write_atomically(self._scores, json.dumps(asdict(scores)).encode())
        return scores, predictions

    def _file(self, path: Path, shape: tuple[int, int, int]) -> np.ndarray:
        """A mapped file of that shape, with its blocks: a full disk is an error here, not a signal in a later write."""
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            if 0 in shape:  # a rank without a sample: a file of no bytes cannot be mapped
                with path.open("wb") as file:
                    np.save(file, np.zeros(shape, np.uint8))
                return np.zeros(shape, np.uint8)
            predictions = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)
            with path.open("rb+") as file:
                os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
        except OSError:
            path.unlink(missing_ok=True)
            raise
        return predictions

    def _without_file(
        self, shape: tuple[int, int, int], ask: Callable[[np.ndarray], Scores], error: OSError
    ) -> tuple[Scores, np.ndarray]:
        print(f"the teacher's answer is not kept: {self._predictions.parent}: {error.strerror}", file=sys.stderr)
        predictions = np.zeros(shape, np.uint8)
        return ask(predictions), predictions
