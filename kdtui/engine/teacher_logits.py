"""Which logits of a run's teachers are kept, and what of their forward pass."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn

from kdtui.engine.dry_run import padded_size
from kdtui.engine.logit_cache import LogitCache, fitting_views, sample_bytes
from kdtui.engine.models import logit_channels, unwrapped
from kdtui.engine.setup import TrainingSetup
from kdtui.engine.teacher import LoadedTeacher, identity
from kdtui.engine.upsampling import upsampled, upsampling_of, with_logits_before
from kdtui.profile import DataTable, Profile
from kdtui.profile.data_tables import size_and_time

_FORMAT = 1
"""Changes with anything that the key does not contain, such as the numbers of the views."""
_NOT_IN_KEY = {"views", "view_seed", "cache_gib", "val_limit", "evaluation", "window", "overlap"}
"""Keys of the data that change neither the views of a sample nor their numbers; the seed of the views is in the key."""


class KeptLogits:
    """What is kept of a teacher's forward pass.

    This is its raw output, or the logits before its last upsampling if these are fewer: most networks that upsample do
    it by 4 or 8, so that a sample takes a 16th or a 64th. What follows them is computed for each image that is read.

    Args:
        network: In eval mode and frozen; not an ensemble.
        autocast: The run's autocast context factory.
        image: f32 [1,C,H,W] with the size of training images, on the network's device.

    Attributes:
        shape: Channels, height and width of what is kept for an image.
        is_upsampled: Whether it is upsampled after reading.
    """

    def __init__(self, network: nn.Module, autocast: Callable[[], AbstractContextManager[None]], image: Tensor) -> None:
        self._network, self._autocast = network, autocast
        self._upsampling = upsampling_of(network)
        raw, before = self._passed(image)
        self.is_upsampled = before is not None and before.numel() < raw.numel()
        kept = before if before is not None and self.is_upsampled else raw
        self.shape = tuple(kept.shape[1:])

    @property
    def sample_bytes(self) -> int:
        """Bytes of an image in fp16."""
        return sample_bytes(self.shape)

    def computed(self, images: Tensor) -> Tensor:
        """What is kept of images f32 [B,C,H,W], f32 with :attr:`shape` for each."""
        raw, before = self._passed(images)
        kept = before if before is not None and self.is_upsampled else raw
        return kept.float().clone()

    def _passed(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """The raw output, and the logits before the last upsampling of a network that has one."""
        with torch.inference_mode(), self._autocast():
            if self._upsampling is None:
                return self._network(images), None
            return with_logits_before(self._network, images, self._upsampling)

    def raw(self, kept: Tensor, height: int, width: int) -> Tensor:
        """The raw output f32 [B,K,h,w] for images of a height and width, from what was kept of them."""
        if not self.is_upsampled:
            return kept
        with torch.no_grad():
            return upsampled(self._network, kept, height, width)


class TeacherLogits:
    """The logits of a run's teachers for its training views, each read or computed.

    Args:
        teachers: Of each teacher what is kept, and where.
        together: Whether they are members of an ensemble.
    """

    def __init__(self, teachers: Sequence[tuple[KeptLogits, LogitCache]], *, together: bool) -> None:
        self._teachers, self._together = teachers, together

    def raw(self, keys: Sequence[tuple[int, int]], images: Tensor) -> Any:
        """The raw output of the run's network of teachers for a batch.

        Args:
            keys: Number and view of each sample.
            images: [B,C,H,W], on the teachers' device.
        """
        each = tuple(
            kept.raw(cache.outputs(keys, images, kept.computed), *images.shape[-2:]) for kept, cache in self._teachers
        )
        return each if self._together else each[0]

    def share_read(self) -> float | None:
        """The share of the logits that were read since the last call; None without any."""
        caches = [cache for _, cache in self._teachers]
        hits, asked = sum(cache.hits for cache in caches), sum(cache.asked for cache in caches)
        for cache in caches:
            cache.hits = cache.asked = 0
        return hits / (hits + asked) if hits + asked else None

    def note(self) -> str | None:
        """Why logits are not cached any more; None while they are."""
        return next((note for _, cache in self._teachers if (note := cache.note()) is not None), None)

    def described(self) -> str:
        """How much the views of this run take, and how many of them fit the budget, one line for each teacher."""
        caches = [cache for _, cache in self._teachers]
        lines = [cache.described(views) for cache, views in zip(caches, fitting_views(caches), strict=True)]
        if self._together:
            lines = [f"teacher {number}: {line}" for number, line in enumerate(lines, 1)]
        return "\n".join(lines)


def cached_views(profile: Profile, teacher: LoadedTeacher, epochs: int) -> int:
    """The views of each sample for which a run keeps the logits of its teachers; 0 if they see every image.

    That is so for terms on features, networks with further inputs or outputs of their own, and views that no run sees
    again: new ones in every epoch are seen again only by runs that share ``data.view_seed``.

    Args:
        profile: The run's.
        teacher: Its teacher, or all of them.
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
    """Why the teachers have to see every image although views are seen again; empty if there is no reason."""
    data = profile.data
    if profile.teacher.cache == "off" or not _seen_again(data):
        return ""
    networks = [unwrapped(one.network) for one in _each(teacher)]
    if any(hasattr(network, "compose") or getattr(network, "extra_inputs", None) for network in networks):
        return f"{'their' if teacher.members else 'its'} outputs are not one map of logits per image"
    needs = {name for table in profile.distillation.active_terms(data.task) for name in table.teacher_needs}
    others = sorted(needs - logit_channels(data.task, 1).keys())
    return f"terms read {', '.join(others)}" if others else ""


def _each(teacher: LoadedTeacher) -> tuple[LoadedTeacher, ...]:
    return teacher.members or (teacher,)


def kept_logits(
    profile: Profile,
    teacher: LoadedTeacher,
    autocast: Callable[[], AbstractContextManager[None]],
    device: torch.device,
) -> list[KeptLogits]:
    """What is kept of each teacher of a profile, found by a forward pass of each.

    Args:
        profile: For the size of training images.
        teacher: The teacher, or all of them.
        autocast: The run's autocast context factory.
        device: That of the networks.
    """
    image = torch.zeros(1, profile.data.image_channels, *padded_size(profile), device=device)
    return [KeptLogits(one.network, autocast, image) for one in _each(teacher)]


def teacher_logits(stage: TrainingSetup, teacher: LoadedTeacher) -> TeacherLogits | None:
    """The logits of a run's teachers; None if they have to see every image, see :func:`cached_views`."""
    views = cached_views(stage.profile, teacher, stage.total_epochs)
    if not views:
        return None
    kept = kept_logits(stage.profile, teacher, stage.fabric.autocast, stage.fabric.device)
    caches = [_cache(stage, one, its, views) for one, its in zip(_each(teacher), kept, strict=True)]
    return TeacherLogits(list(zip(kept, caches, strict=True)), together=bool(teacher.members))


def _cache(stage: TrainingSetup, teacher: LoadedTeacher, kept: KeptLogits, views: int) -> LogitCache:
    """The cache of one teacher, which runs with and without other teachers share."""
    about = {
        "teacher": str(teacher.settings.checkpoint),
        "encoder": teacher.report.encoder or teacher.report.architecture,
        "data": stage.train_set.describe(),
        "view_seed": stage.train_set.seed,
    }
    return LogitCache(
        stage.run.path.parent,
        _key(stage, teacher, kept),
        about,
        shape=kept.shape,
        samples=len(stage.train_set) + (0 if stage.unlabelled is None else len(stage.unlabelled)),
        views=views,
        gib=stage.profile.training.cache_gib,
    )


def _key(stage: TrainingSetup, teacher: LoadedTeacher, kept: KeptLogits) -> str:
    """Hash of all that the values depend on, except sample and view."""
    data = stage.profile.data
    content = [
        _FORMAT,
        teacher.report.sha256,
        identity(teacher, weighted=False),
        data.model_dump(mode="json", exclude=_NOT_IN_KEY),
        data.fingerprint("train"),
        stage.train_set.seed,
        stage.train_set.stride,
        stage.precision,
        stage.fabric.device.type,
        [] if stage.unlabelled is None else [(path.name, *size_and_time(path)) for path in stage.unlabelled.files],
    ]
    if kept.is_upsampled:
        content.append("before the last upsampling")
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:24]
