"""The teacher's logits of training views, computed once per run store and read by every run that sees the same views.

Values are kept in fp16. A run that uses them rounds those it computes as well, so that its results do not depend on
which of them were there.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kdtui.engine.dry_run import padded_size
from kdtui.engine.models import logit_channels, unwrapped
from kdtui.engine.objective import FrozenTeacher
from kdtui.engine.setup import TrainingSetup
from kdtui.engine.teacher import LoadedTeacher, identity
from kdtui.errors import StoreError
from kdtui.profile import DataTable, Profile
from kdtui.profile.data_tables import size_and_time
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

_FORMAT = 1
"""Changes with anything that the key does not contain, such as the numbers of the views."""
_NOT_IN_KEY = {"views", "view_seed", "cache_gib", "val_limit", "evaluation", "window", "overlap"}
"""Keys of the data that change neither the views of a sample nor their numbers; the seed of the views is in the key."""
_OPEN = 4
"""Files that are open at a time: of the views of an epoch, and of images without labels."""
Ask = Callable[[Tensor], Tensor]


class LogitCache:
    """Cached raw logits of one teacher for the views of one run's training samples.

    Args:
        root: The run store.
        key: Hash of all that the values depend on, except sample and view.
        about: What they are, for a list.
        shape: C, h and w of the raw logits of a sample.
        samples: Number of samples, those without labels included.
        views: Number of views that the run sees.
        gib: ``training.cache_gib``.
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
        self._shape, self._samples, self._views = shape, samples, views
        self._sample_bytes = sample_bytes(shape)
        self._files: dict[int, ViewLogits | None] = {}
        self._error: str | None = None
        self.hits = self.asked = 0

    def outputs(self, keys: Sequence[tuple[int, int]], images: Tensor, ask: Ask) -> Tensor:
        """The raw logits f32 [B,C,h,w] of a batch: those that are there, and the others from the teacher.

        Args:
            keys: Number and view of each sample.
            images: [B,C,H,W], on the teacher's device.
            ask: Computes the raw logits of images.
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
            self._files[view] = self._opened(self.folder / f"view-{view:06d}{SUFFIX}")
        return self._files[view]

    def _opened(self, path: Path) -> ViewLogits | None:
        try:
            file = ViewLogits.open(path, self._samples, self._sample_bytes)
            if file is not None or path.exists():  # one of another size or version stays and is not used
                return file
            size = file_bytes(self._samples, self._sample_bytes)
            if used_bytes(self._root) + size > budget_bytes(self._root, self._gib):
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

    def described(self) -> str:
        """How much the views of this run take, and how many of them fit the budget."""
        size = file_bytes(self._samples, self._sample_bytes)
        existing = sum(1 for view in range(self._views) if (self.folder / f"view-{view:06d}{SUFFIX}").exists())
        free = max(0, budget_bytes(self._root, self._gib) - used_bytes(self._root))
        fitting = min(self._views, existing + free // size)
        text = f"teacher logits: {counted(fitting, 'view')} of {counted(self._samples, 'sample')} cached"
        text += f", {mebibytes(size)} each in the run store"
        if existing:
            text += f"; {existing} already there"
        if fitting < self._views:
            text += f"; the other {self._views - fitting} are computed live (training.cache_gib)"
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


def cached_views(profile: Profile, teacher: LoadedTeacher, epochs: int) -> int:
    """The views of each sample for which a run keeps the logits of its teacher; 0 if the teacher sees every image.

    That is so for terms on features, several teachers, networks with further inputs or outputs of their own, and views
    that no run sees again: new ones in every epoch are seen again only by runs that share ``data.view_seed``.

    Args:
        profile: The run's.
        teacher: Its teacher.
        epochs: Number of epochs.
    """
    data = profile.data
    if profile.teacher.cache == "off" or not _seen_again(data) or why_not_cached(profile, teacher):
        return 0
    return min(data.views, epochs) if data.views else epochs


def _seen_again(data: DataTable) -> bool:
    """Whether a later epoch or another run sees the same views."""
    return bool(data.views) or (data.view_seed is not None and data.image_sampling == "uniform")


def why_not_cached(profile: Profile, teacher: LoadedTeacher) -> str:
    """Why the teacher has to see every image although views are seen again; empty if there is no reason."""
    data, network = profile.data, unwrapped(teacher.network)
    if profile.teacher.cache == "off" or not _seen_again(data):
        return ""
    if teacher.members:
        return "there are several teachers"
    if hasattr(network, "compose") or getattr(network, "extra_inputs", None):
        return "its outputs are not one map of logits per image"
    needs = {name for table in profile.distillation.active_terms(data.task) for name in table.teacher_needs}
    others = sorted(needs - logit_channels(data.task, 1).keys())
    return f"terms read {', '.join(others)}" if others else ""


def logit_shape(profile: Profile, frozen: FrozenTeacher, device: torch.device) -> tuple[int, ...]:
    """C, h and w of the teacher's raw logits for one training image."""
    height, width = padded_size(profile)
    images = torch.zeros(1, profile.data.image_channels, height, width, device=device)
    return tuple(frozen.raw(images).shape[1:])


def logit_cache(stage: TrainingSetup, teacher: LoadedTeacher, frozen: FrozenTeacher) -> LogitCache | None:
    """The cache of a run; None if its teacher has to see every image, see :func:`cached_views`."""
    profile = stage.profile
    views = cached_views(profile, teacher, stage.total_epochs)
    if not views:
        return None
    data, report = profile.data, teacher.report
    content = [
        _FORMAT,
        report.sha256,
        identity(teacher),
        data.model_dump(mode="json", exclude=_NOT_IN_KEY),
        data.fingerprint("train"),
        stage.train_set.seed,
        stage.train_set.stride,
        stage.precision,
        stage.fabric.device.type,
        [] if stage.unlabelled is None else [(path.name, *size_and_time(path)) for path in stage.unlabelled.files],
    ]
    key = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:24]
    about = {
        "teacher": str(teacher.settings.checkpoint),
        "encoder": report.encoder or report.architecture,
        "data": stage.train_set.describe(),
        "view_seed": stage.train_set.seed,
    }
    samples = len(stage.train_set) + (0 if stage.unlabelled is None else len(stage.unlabelled))
    shape = logit_shape(profile, frozen, stage.fabric.device)
    root, gib = stage.run.path.parent, profile.training.cache_gib
    return LogitCache(root, key, about, shape=shape, samples=samples, views=views, gib=gib)
