"""A teacher's logits of training views, computed once per run store and read by every run that sees the same views.

Values are kept in fp16. A run that uses them rounds those it computes as well, so that its results do not depend on
which of them were there.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kdtui.errors import StoreError
from kdtui.store.view_logits import (
    FOLDER,
    SUFFIX,
    ViewLogits,
    budget_bytes,
    describe,
    file_bytes,
    used_bytes,
)
from kdtui.text import counted, mebibytes, one_line

_OPEN = 4
"""Files that are open at a time: of the views of an epoch, and of images without labels."""
Ask = Callable[[Tensor], Tensor]


class LogitCache:
    """Cached logits of one teacher for the views of one run's training samples.

    Args:
        root: The run store.
        key: Hash of all that the values depend on, except sample and view.
        about: What they are, for a list.
        shape: C, h and w of the logits of a sample.
        samples: Number of samples, those without labels included.
        views: Number of views that the run sees.
        gib: ``training.cache_gib``.

    Attributes:
        views: Number of views.
        file_bytes: Size of the file of a view.
        hits: Samples that were read.
        asked: Samples that the teacher computed.
    """

    def __init__(
        self,
        root: Path,
        key: str,
        about: dict[str, Any],
        *,
        shape: tuple[int, ...],
        samples: int,
        views: int,
        gib: float | None,
    ) -> None:
        self.folder = root / FOLDER / key
        self._root, self._about, self._gib = root, about, gib
        self._shape, self._samples, self.views = shape, samples, views
        self._sample_bytes = sample_bytes(shape)
        self.file_bytes = file_bytes(samples, self._sample_bytes)
        self._files: dict[int, ViewLogits | None] = {}
        self._error: str | None = None
        self.hits = self.asked = 0

    def outputs(self, keys: Sequence[tuple[int, int]], images: Tensor, ask: Ask) -> Tensor:
        """The logits f32 [B,C,h,w] of a batch: those that are there, and the others from the teacher.

        Args:
            keys: Number and view of each sample.
            images: [B,C,H,W], on the teacher's device.
            ask: Computes the logits of images.
        """
        read = [self._read(index, view) for index, view in keys]
        missing = [place for place, values in enumerate(read) if values is None]
        self.hits, self.asked = self.hits + len(read) - len(missing), self.asked + len(missing)
        if not missing:
            return torch.stack([torch.from_numpy(values) for values in read if values is not None]).to(
                images.device, torch.float32, non_blocking=True
            )
        computed = ask(images if len(missing) == len(read) else images[missing])
        computed = self._written([keys[place] for place in missing], computed)
        if len(missing) == len(read):
            return computed
        logits = computed.new_empty(len(read), *self._shape)
        logits[missing] = computed
        for place, values in enumerate(read):
            if values is not None:
                logits[place] = torch.from_numpy(values).to(logits.device, torch.float32)
        return logits

    def _read(self, index: int, view: int) -> np.ndarray | None:
        file = self._file(view)
        if file is None:
            return None
        try:
            values = file.read(index)
        except OSError as error:
            self._give_up(error)
            return None
        return None if values is None else np.frombuffer(bytearray(values), np.float16).reshape(self._shape)

    def _written(self, keys: Sequence[tuple[int, int]], computed: Tensor) -> Tensor:
        """The logits as they are kept; those beyond the range of fp16 are not."""
        kept = computed.to(torch.float16)
        fits = torch.isfinite(kept).flatten(1).all(dim=1).tolist()
        on_host = kept.cpu().contiguous().numpy()
        for place, (index, view) in enumerate(keys):
            file = self._file(view) if fits[place] else None
            if file is None:
                fits[place] = False
                continue
            try:
                file.write(index, on_host[place].tobytes())
            except OSError as error:
                self._give_up(error)
                fits[place] = False
        mine = torch.tensor(fits, device=computed.device).view(-1, 1, 1, 1)
        return torch.where(mine, kept.float(), computed)

    def _file(self, view: int) -> ViewLogits | None:
        """The file of a view; None if it does not fit the budget, or cannot be used."""
        if self._error is not None:
            return None
        if view not in self._files:
            if len(self._files) >= _OPEN:
                self._close(next(iter(self._files)))
            self._files[view] = self._opened(self.path(view))
        return self._files[view]

    def _opened(self, path: Path) -> ViewLogits | None:
        try:
            file = ViewLogits.open(path, self._samples, self._sample_bytes)
            if file is not None or path.exists():  # one of another size or version stays and is not used
                return file
            if self.file_bytes > self.free_bytes():
                return None
            describe(self.folder, {**self._about, "shape": list(self._shape), "samples": self._samples})
            return ViewLogits.make(path, self._samples, self._sample_bytes)
        except (OSError, StoreError) as error:
            self._give_up(error)
            return None

    def _give_up(self, error: OSError | StoreError) -> None:
        """Ask the teacher from now on."""
        if self._error is None:
            self._error = one_line(str(error.strerror if isinstance(error, OSError) else error.found))
        self.close()

    def note(self) -> str | None:
        """Why nothing is cached any more; None while it is."""
        if self._error is None:
            return None
        return f"the teacher's logits are no longer cached: {self.folder}: {self._error}; the training continues"

    def path(self, view: int) -> Path:
        """The file of a view."""
        return self.folder / f"view-{view:06d}{SUFFIX}"

    def free_bytes(self) -> int:
        """What files of the store may still take."""
        return max(0, budget_bytes(self._root, self._gib) - used_bytes(self._root))

    def described(self, fitting: int) -> str:
        """How much the views of this run take.

        Args:
            fitting: How many of them are cached, see :func:`fitting_views`.
        """
        existing = sum(1 for view in range(self.views) if self.path(view).exists())
        text = f"teacher logits: {counted(fitting, 'view')} of {counted(self._samples, 'sample')} cached"
        text += f", {mebibytes(self.file_bytes)} each in the run store"
        if existing:
            text += f"; {existing} already there"
        if fitting < self.views:
            text += f"; the other {self.views - fitting} are computed live (training.cache_gib)"
        return text

    def close(self) -> None:
        """Close the files; they are opened again when they are needed."""
        for view in list(self._files):
            self._close(view)

    def _close(self, view: int) -> None:
        file = self._files.pop(view)
        if file is not None:
            with contextlib.suppress(OSError):
                file.close()


def sample_bytes(shape: Sequence[int]) -> int:
    """Bytes of the fp16 logits of a sample."""
    return 2 * int(np.prod(shape))


def fitting_views(caches: Sequence[LogitCache]) -> list[int]:
    """How many views of a run are cached, for each of the caches that share the budget of its store.

    Args:
        caches: Of each teacher of the run, in the order in which they make the file of a view.
    """
    free, fitting = caches[0].free_bytes(), [0] * len(caches)
    for view in range(caches[0].views):
        for place, cache in enumerate(caches):
            there = cache.path(view).exists()
            if there or cache.file_bytes <= free:
                fitting[place] += 1
                free -= 0 if there else cache.file_bytes
    return fitting
