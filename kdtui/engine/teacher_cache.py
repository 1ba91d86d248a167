"""The evaluation of a teacher on the validation set, cached in the run store, and what its form displays."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, fields
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from kdtui.engine.metrics import Scores
from kdtui.store.aside import aside
from kdtui.store.files import reading
from kdtui.store.run import write_atomically
from kdtui.store.values import fits, parse_json

_MOST_BYTES = 2**20


class TeacherCache:
    """Cached evaluation of one teacher on one split, for one rank.

    Args:
        folder: ``runs/.cache/teachers``.
        teacher_sha256: Hash of the teacher's file.
        fingerprint: Hash of the data, see :meth:`kdtui.profile.data_tables.DataTable.fingerprint`.
        precision: Precision of the run, as predictions differ slightly between precisions.
        rank: This rank, which caches the predictions of its share.
        world_size: Number of ranks.
    """

    def __init__(
        self, folder: Path, *, teacher_sha256: str, fingerprint: str, precision: str, rank: int, world_size: int
    ) -> None:
        key = hashlib.sha256(f"1|{teacher_sha256}|{fingerprint}|{precision}".encode()).hexdigest()[:24]
        self._scores = folder / f"{key}.of{world_size}.json"
        self._predictions = folder / f"{key}.{rank}of{world_size}.npy"

    def read(self, shape: tuple[int, int, int]) -> tuple[Scores, np.ndarray] | None:
        """Read the cache; None if it is missing, incomplete, unreadable or not written by :meth:`write`.

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
        usable = isinstance(body, dict) and body.keys() | {"metrics"} == names and fits(Scores, body)
        if not usable or predictions.dtype != np.uint8 or predictions.shape != shape:
            return None
        return Scores(**body), predictions

    def write(
        self, shape: tuple[int, int, int], ask: Callable[[np.ndarray], Scores], *, last: bool
    ) -> tuple[Scores, np.ndarray]:
        """Evaluate the teacher and cache the result, if the run store has space and is writable.

        Args:
            shape: [N,H,W] of this rank's predictions.
            ask: Evaluates the teacher: fills the array and returns the scores over all ranks.
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
            body = asdict(scores)
            if not scores.metrics:  # as earlier versions read it
                del body["metrics"]
            write_atomically(self._scores, json.dumps(body).encode())
        return scores, predictions

    def _file(self, path: Path, shape: tuple[int, int, int]) -> np.ndarray:
        """A memory-mapped file with allocated blocks, so that a full disk raises here instead of SIGBUS later."""
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            if 0 in shape:  # a rank without samples: an empty file cannot be mapped
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
        message = f"the teacher's predictions are not cached: {self._predictions.parent}: {error.strerror}"
        print(message, file=sys.stderr)
        predictions = np.zeros(shape, np.uint8)
        return ask(predictions), predictions


def unsure_pixel(logits: Tensor, classes: Sequence[str]) -> dict[str, float]:
    """Class probabilities of the pixel at the 75th percentile of the entropy.

    The effect of a temperature is visible where the teacher is not certain. Six significant digits are kept, also of
    tiny values, which a high temperature enlarges.

    Args:
        logits: f32 [C,H,W] of one image.
        classes: The C class names.
    """
    probabilities = logits.float().flatten(1).softmax(dim=0)
    entropies = torch.special.entr(probabilities).sum(dim=0)
    at = int(entropies.argsort()[int(0.75 * (len(entropies) - 1))])
    return {name: float(f"{value:.6g}") for name, value in zip(classes, probabilities[:, at].tolist(), strict=True)}
