"""The loss of the student, with or without a frozen teacher.

``L = α·L_distill + (1-α)·L_base``, each a weighted sum of terms. The teacher is frozen, in ``eval()`` and inference
mode, under the run's autocast, and not wrapped by DDP (which rejects modules without trainable parameters).
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import reduce
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from kdtui import plugins
from kdtui.engine.data import PICTURE_LABELS, SegmentationDataset
from kdtui.engine.dry_run import padded_size
from kdtui.engine.losses import DistillationLoss, Labels, StepShare, SupervisedLoss
from kdtui.engine.losses.class_weights import need_label_counts, with_class_weights
from kdtui.engine.losses.pseudo_labels import HardLabelLoss, SoftLabelLoss, confident_pixels
from kdtui.engine.models import Outputs, channels_of, one_line, outputs_of
from kdtui.engine.taps import tap_shapes, tapped
from kdtui.engine.term_memory import check_fits, device_memory
from kdtui.errors import KdtuiError, ModelError
from kdtui.profile import Loss, Profile
from kdtui.profile.base import TaskName
from kdtui.profile.data_tables import Unlabelled
from kdtui.profile.term_tables import DistillationTerm, SupervisedTerm, Term


class FrozenTeacher:
    """Frozen teacher network.

    Args:
        network: Plain smp network; its parameters are frozen here.
        task: Interpretation of its raw output.
        autocast: The run's autocast context factory.
        taps: Names of the feature maps to return.

    Attributes:
        compiled: The network's forward pass for batches of training images, if it was compiled.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        task: TaskName,
        autocast: Callable[[], AbstractContextManager[None]],
        taps: Collection[str] = (),
    ) -> None:
        self.network = network.eval().requires_grad_(False)
        self._task = task
        self.autocast = autocast
        self.taps = taps
        self.compiled: Callable[[Tensor], Any] | None = None

    def outputs(self, images: Tensor, extras: Mapping[str, Tensor] | None = None) -> Outputs:
        """Outputs for f32 images [B,3,H,W] and the further inputs of the batch, as ordinary tensors without a graph."""
        with torch.inference_mode(), self.autocast():
            features: dict[str, Tensor] = {}
            if self.compiled is not None:
                raw = self.compiled(images)
            else:
                raw, features = tapped(self.network, images, self.taps, extras)
        # Cloned outside of inference mode, as inference tensors cannot be saved for backward.
        with torch.no_grad():
            features = {name: _copied(values) for name, values in features.items()}
            return outputs_of(self.network, tree_map(_copied, raw), self._task, features)

    def composed(self, raw: Any) -> Outputs:
        """The outputs of a raw output f32 of the network."""
        with torch.no_grad():
            return outputs_of(self.network, raw, self._task)


def _copied(values: Tensor) -> Tensor:
    return values.float().clone()


@dataclass(frozen=True)
class LossTerms:
    """The loss of one micro-batch as its share of the optimizer step.

    Attributes:
        total: Scalar with graph.
        parts: Detached scalars by name (``loss``, ``loss.base``, ``loss.distill.logits``, …); they add up over the
            micro-batches of a step and average over ranks.
    """

    total: Tensor
    parts: dict[str, Tensor]


class Objective(nn.Module):
    """The loss as a module, including trainable parameters of its terms.

    Args:
        base: Supervised terms with their weights, by name.
        distill: Distillation terms with their weights, by name; empty without distillation.
        alpha: Weight of the distillation terms, in [0, 1].
        temperature: T of the terms without one of their own.
        follow_temperature: Names of these terms, whose T a schedule changes.
        unlabelled: Terms on images without labels with their weights, by name; a module may be one of ``distill``.
        threshold: Probability of the teacher's class from which a pixel without label is confident.
        student_taps: Names of the student's feature maps that the terms read.
        teacher_taps: Names of the teacher's feature maps that the terms read.
        of_pictures: Keys of the terms on outputs of whole pictures, ``base_NAME`` or ``distill_NAME``, where label maps
            are of parts of them.
        stage1_alpha: Weight of the distillation terms among these; by default ``alpha``.

    Attributes:
        class_weights: Weights of classes that were computed from the training labels, by the name of the term.
        relation_bytes: Memory of the relations between cells, by the name of the term that computes them.
    """

    def __init__(
        self,
        base: Mapping[str, tuple[float, SupervisedLoss]],
        distill: Mapping[str, tuple[float, DistillationLoss]],
        *,
        alpha: float,
        temperature: float = 1.0,
        follow_temperature: Collection[str] = (),
        unlabelled: Mapping[str, tuple[float, DistillationLoss]] | None = None,
        threshold: float = 1.0,
        student_taps: Collection[str] = (),
        teacher_taps: Collection[str] = (),
        of_pictures: Collection[str] = (),
        stage1_alpha: float | None = None,
    ) -> None:
        super().__init__()
        self.of_pictures, self._stage1_alpha = frozenset(of_pictures), stage1_alpha
        self.alpha, self.temperature, self._follow_temperature = alpha, temperature, follow_temperature
        self.student_taps, self.teacher_taps = student_taps, teacher_taps
        self.class_weights: dict[str, tuple[float, ...]] = {}
        self.relation_bytes: dict[str, int] = {}
        self.base_weights = {name: weight for name, (weight, _) in base.items()}
        self.distill_weights = {name: weight for name, (weight, _) in distill.items()}
        unlabelled = unlabelled or {}
        self.unlabelled_weights = {name: weight for name, (weight, _) in unlabelled.items()}
        own = {name: term for name, (_, term) in unlabelled.items() if term is not distill.get(name, (0.0, None))[1]}
        self._unlabelled_keys = {name: f"{'unlabelled' if name in own else 'distill'}_{name}" for name in unlabelled}
        self._threshold = threshold
        # The prefix avoids names of attributes of ModuleDict, which it rejects.
        self.terms = nn.ModuleDict(
            {f"base_{name}": term for name, (_, term) in base.items()}
            | {f"distill_{name}": term for name, (_, term) in distill.items()}
            | {f"unlabelled_{name}": term for name, term in own.items()}
        )

    def schedule(self, *, temperature: float, alpha: float) -> None:
        """Set T of the terms without one of their own, and α."""
        self.temperature, self.alpha = temperature, alpha
        for name in self._follow_temperature:
            term = self.terms[f"distill_{name}"]
            assert isinstance(term, DistillationLoss)
            term.temperature = temperature

    def forward(self, student: Outputs, teacher: Outputs | None, labels: Labels, share: StepShare) -> LossTerms:
        """The loss of one micro-batch.

        Args:
            student: The student's outputs, with graph.
            teacher: The teacher's outputs; None without distillation.
            labels: Labels of the same images, on the same device.
            share: Totals of the optimizer step.
        """
        base = {
            name: weight * self.terms[key](student, *self._share_of(key, labels, share))
            for name, weight in self.base_weights.items()
            for key in [f"base_{name}"]
        }
        total = base_total = reduce(torch.add, base.values())
        parts = {"loss.base": base_total, **{f"loss.base.{name}": value for name, value in base.items()}}
        if teacher is not None and self.distill_weights:
            distill = {
                name: weight * self.terms[key](student, teacher, *self._share_of(key, labels, share))
                for name, weight in self.distill_weights.items()
                for key in [f"distill_{name}"]
            }
            distill_total = torch.stack(list(distill.values())).sum()
            if self._stage1_alpha is None or not self.of_pictures:
                total = self.alpha * distill_total + (1 - self.alpha) * base_total
            else:
                total = self._weighted(base, distill)
            parts["loss.distill"] = distill_total
            parts.update({f"loss.distill.{name}": value for name, value in distill.items()})
        return LossTerms(total, {name: value.detach() for name, value in {"loss": total, **parts}.items()})

    def _share_of(self, key: str, labels: Labels, share: StepShare) -> tuple[Labels, StepShare]:
        """Labels and totals for a term: of whole pictures if it reads their outputs."""
        if key in self.of_pictures:
            assert labels.pictures is not None
            assert share.pictures is not None
            labels, share = labels.pictures, dataclasses.replace(share.pictures, masses=share.masses)
        return labels, _own(share, f"{key}.")

    def _weighted(self, base: Mapping[str, Tensor], distill: Mapping[str, Tensor]) -> Tensor:
        """The sum of all terms; those on outputs of whole pictures have an α of their own."""
        assert self._stage1_alpha is not None
        weighted = []
        for prefix, terms in (("distill", distill), ("base", base)):
            for name, value in terms.items():
                alpha = self._stage1_alpha if f"{prefix}_{name}" in self.of_pictures else self.alpha
                weighted.append((alpha if prefix == "distill" else 1 - alpha) * value)
        return torch.stack(weighted).sum()

    def unlabelled(self, student: Outputs, teacher: Outputs, labels: Labels, share: StepShare) -> LossTerms:
        """The loss of one micro-batch without labels, to be added to that of the others.

        Args:
            student: The student's outputs for its views, with graph.
            teacher: The teacher's outputs for its own views.
            labels: Which pixels count; their classes have no meaning.
            share: Totals of the images without labels in the optimizer step.
        """
        terms = {}
        for name, weight in self.unlabelled_weights.items():
            key = self._unlabelled_keys[name]
            term: nn.Module = self.terms[key]
            terms[f"loss.unlabelled.{name}"] = weight * term(student, teacher, labels, _own(share, f"{key}."))
        loss = torch.stack(list(terms.values())).sum()
        total = self.alpha * loss
        confident = confident_pixels(teacher, labels, self._threshold).sum() / share.pixels
        parts = {"loss": total, "loss.unlabelled": loss, **terms, "confident": confident}
        return LossTerms(total, {name: value.detach() for name, value in parts.items()})

    @property
    def names(self) -> list[str]:
        """Names of the terms, as in the names of their curves: ``base.ce``, ``distill.logits``, …."""
        return [key.replace("_", ".", 1) for key in self.terms]

    @property
    def parameters_of_terms(self) -> dict[str, int]:
        """Trained parameters of each term that has any, by the names of :attr:`names`."""
        counts = {
            name: sum(parameter.numel() for parameter in term.parameters())
            for name, term in zip(self.names, self.terms.values(), strict=True)
        }
        return {name: count for name, count in counts.items() if count}

    def has_masses(self, *, unlabelled: bool = False) -> bool:
        """Whether a term defines masses, which must be summed before the first backward pass of a step."""
        return self._defines_masses(SupervisedLoss, unlabelled) or self.has_teacher_masses(unlabelled=unlabelled)

    def has_teacher_masses(self, *, unlabelled: bool = False) -> bool:
        """Whether a mass depends on the teacher, whose outputs are then kept for all micro-batches of a step."""
        return self._defines_masses(DistillationLoss, unlabelled)

    def _defines_masses(self, base: type[SupervisedLoss] | type[DistillationLoss], unlabelled: bool) -> bool:
        terms = self._terms_on(unlabelled).values()
        return any(isinstance(term, base) and type(term).masses is not base.masses for term in terms)

    def _terms_on(self, unlabelled: bool) -> dict[str, nn.Module]:
        """The terms on images with or without labels, by their keys."""
        if unlabelled:
            return {key: self.terms[key] for key in self._unlabelled_keys.values()}
        return {key: term for key, term in self.terms.items() if not key.startswith("unlabelled_")}

    def masses(self, teacher: Outputs | None, labels: Labels, *, unlabelled: bool = False) -> dict[str, Tensor]:
        """The masses of the terms in one micro-batch, for :class:`StepShare`."""
        masses: dict[str, Tensor] = {}
        for key, term in self._terms_on(unlabelled).items():
            seen = labels.pictures if key in self.of_pictures else labels
            assert seen is not None
            if isinstance(term, SupervisedLoss):
                own = term.masses(seen)
            elif isinstance(term, DistillationLoss) and teacher is not None:
                own = term.masses(teacher, seen)
            else:
                own = {}
            masses |= {f"{key}.{name}": mass.detach().float() for name, mass in own.items()}
        return masses


class Trainable(nn.Module):
    """The student and the trainable parameters of the loss, as one module for DDP and the optimizer.

    Args:
        student: The network; its parameters come first.
        objective: The loss, whose terms may have projections.

    Attributes:
        compiled: The student's forward pass for batches of training images, if it was compiled.
    """

    def __init__(self, student: nn.Module, objective: Objective) -> None:
        super().__init__()
        self.student = student
        self.objective = objective
        self.compiled: Callable[[Tensor], Any] | None = None

    def forward(self, images: Tensor, extras: Mapping[str, Tensor] | None = None) -> tuple[Any, dict[str, Tensor]]:
        """The student's raw output, and the features that the terms read, by name."""
        if self.compiled is not None:
            return self.compiled(images), {}
        return tapped(self.student, images, self.objective.student_taps, extras)


def _own(share: StepShare, prefix: str) -> StepShare:
    """The share with the masses of one term only, without the prefix of their names."""
    if not share.masses:
        return share
    masses = {name.removeprefix(prefix): mass for name, mass in share.masses.items() if name.startswith(prefix)}
    return dataclasses.replace(share, masses=masses)


def build_objective(
    profile: Profile,
    classes: int,
    student: nn.Module,
    teacher: nn.Module | None,
    label_counts: Callable[[], Sequence[int]] | None = None,
) -> Objective:
    """Build the loss of a profile.

    Args:
        profile: Its terms and weights; with ``distillation.enabled = false`` only the supervised terms are used.
        classes: Number of classes of the task.
        student: The student, whose features the terms may read.
        teacher: The teacher; None without distillation.
        label_counts: Returns the number of training pixels of each class; called only if a term needs it.

    Raises:
        UsageError: The module of a term cannot be imported, or its weights do not match the classes.
        ModelError: A term reads an output that the student or the teacher does not have, or needs too much memory.
    """
    distillation = profile.distillation
    tables = (profile.loss or Loss()).active_terms()
    counts = label_counts() if label_counts is not None and need_label_counts(tables) else None
    base = [with_class_weights(table, classes, f"loss.terms[{at}]", counts) for at, table in enumerate(tables)]
    distill = distillation.active_terms(profile.data.task) if distillation.enabled and teacher is not None else ()
    channels: dict[str, Mapping[str, int]] = {}
    sizes: dict[str, tuple[int, int]] = {}
    taps: dict[str, list[str]] = {}
    for role, network, needs in (
        ("student", student, [*(table.student_needs for table in (*distill, *base))]),
        ("teacher", teacher, [table.teacher_needs for table in distill]),
    ):
        logits = {} if network is None else channels_of(network, profile.data.task, classes)
        channels[role] = logits
        if network is not None and not logits.keys() >= set().union(*needs):
            shapes = tap_shapes(network, *padded_size(profile))
            channels[role] = logits | {name: shape[0] for name, shape in shapes.items()}
            if role == "student":
                sizes = {name: shape[1:] for name, shape in shapes.items()}
        taps[role] = sorted(set().union(*needs) - logits.keys())
        places = [(f"distillation.terms[{index}]", table) for index, table in enumerate(distill)]
        places += [(f"loss.terms[{index}]", table) for index, table in enumerate(base)]
        for names, (key, table) in zip(needs, places, strict=False):
            _check_outputs(role, names, channels[role], key, table)
    relation_bytes = _relation_bytes(profile, distill, sizes)
    terms = {
        table.label: (
            table.weight,
            _built(table, f"distillation.terms[{index}]", channels["student"], channels["teacher"]),
        )
        for index, table in enumerate(distill)
    }
    images = profile.data.unlabelled
    objective = Objective(
        {
            table.label: (
                table.weight,
                _built(table, f"loss.terms[{index}]", *([channels["student"]] if table.student_needs else [])),
            )
            for index, table in enumerate(base)
        },
        terms,
        alpha=distillation.alpha,
        temperature=distillation.temperature,
        follow_temperature=[
            table.label
            for table in distillation.listed_terms(profile.data.task)
            if distill and getattr(table, "temperature", 0.0) is None
        ],
        unlabelled=None if images is None or not distill else _without_labels(images, distill, terms),
        threshold=1.0 if images is None else images.threshold,
        student_taps=taps["student"],
        teacher_taps=taps["teacher"],
        of_pictures=_of_pictures(student, base, distill),
        stage1_alpha=distillation.stage1_alpha,
    )
    objective.relation_bytes = relation_bytes
    objective.class_weights = {
        f"base.{table.label}": complete.class_weights
        for table, complete in zip(tables, base, strict=True)
        if need_label_counts([table]) and isinstance(complete.class_weights, tuple)
    }
    return objective


def check_labels(objective: Objective, dataset: SegmentationDataset) -> None:
    """Check that the data have labels of whole pictures, if a supervised term reads an output of them.

    Raises:
        ModelError: They have none.
    """
    reading = sorted(key for key in objective.of_pictures if key.startswith("base_"))
    if reading and PICTURE_LABELS not in dataset.collate([dataset[0, 0]]).extras:
        raise ModelError(
            "this loss term needs labels of whole pictures, which these data do not have",
            where="loss.terms",
            found=reading[0].removeprefix("base_"),
            allowed="terms on the masks of boxes",
            hint="leave out the term",
        )


def _of_pictures(student: nn.Module, base: Sequence[SupervisedTerm], distill: Sequence[DistillationTerm]) -> list[str]:
    """Keys of the terms on outputs of whole pictures, for a student whose label maps are of parts of them.

    Raises:
        ModelError: A term reads outputs of both kinds.
    """
    outputs: Collection[str] = getattr(student, "picture_outputs", ())
    keys = []
    for prefix, place, tables in (("base", "loss", base), ("distill", "distillation", distill)):
        for index, table in enumerate(tables):
            read = table.student_needs & set(outputs)
            if read and read != table.student_needs:
                raise ModelError(
                    "this term reads outputs of whole pictures and of parts of them",
                    where=f"{place}.terms[{index}]",
                    found=", ".join(sorted(table.student_needs)),
                    allowed="outputs of one kind",
                )
            if read:
                keys.append(f"{prefix}_{table.label}")
    return keys


def _without_labels(
    images: Unlabelled, distill: Sequence[DistillationTerm], terms: Mapping[str, tuple[float, DistillationLoss]]
) -> dict[str, tuple[float, DistillationLoss]]:
    """The terms on images without labels, with their weights."""
    if images.target == "hard":
        return {"hard": (images.weight, HardLabelLoss(images.threshold))}
    names = [table.label for table in distill if not table.needs_labels]
    if not names:
        return {"soft": (images.weight, SoftLabelLoss())}
    return {name: (images.weight * terms[name][0], terms[name][1]) for name in names}


def _relation_bytes(
    profile: Profile, distill: Sequence[DistillationTerm], sizes: Mapping[str, tuple[int, int]]
) -> dict[str, int]:
    """Memory for relations between cells of each term that computes them, checked; ``sizes`` are those of features."""
    logits, memory = padded_size(profile), device_memory(profile)
    all_bytes = {
        f"distill.{table.label}": check_fits(
            table, sizes.get(table.on, logits), profile, f"distillation.terms[{index}]", memory
        )
        for index, table in enumerate(distill)
    }
    return {name: count for name, count in all_bytes.items() if count}


def _built(table: Term, key: str, *channels: Mapping[str, int]) -> Any:
    """Build the module of a term with this key; exceptions of other packages are converted."""
    implementation = plugins.imported(table.implementation)
    base = DistillationLoss if isinstance(table, DistillationTerm) else SupervisedLoss
    try:
        module = implementation(table, *channels)
    except KdtuiError as error:
        error.where = error.where or key
        raise
    except Exception as error:
        raise ModelError(
            f"the loss term '{table.label}' cannot be built",
            where=table.implementation,
            found=f"{type(error).__name__}: {one_line(error)}",
        ) from error
    if not isinstance(module, base):
        raise ModelError(
            f"the module of the loss term '{table.label}' has the wrong base class",
            where=table.implementation,
            found=type(module).__name__,
            allowed=f"{base.__module__}.{base.__name__}",
        )
    return module


def _check_outputs(role: str, needs: Collection[str], channels: Mapping[str, int], key: str, table: Term) -> None:
    missing = sorted(set(needs) - channels.keys())
    if missing:
        close = difflib.get_close_matches(missing[0], channels, n=1)
        hint = f"did you mean {close[0]}?" if close else None
        if role == "teacher" and "teacher_on" in type(table).model_fields:
            hint = "set teacher_on of this term to " + (f'"{close[0]}"' if close else "one of these names")
        raise ModelError(
            f"the {role} has no output of this name",
            where=".".join([key, *(name for name, value in table if value == missing[0])][:2]),
            found=missing[0],
            allowed=", ".join(channels),
            hint=hint,
        )
