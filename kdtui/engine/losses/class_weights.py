"""Weights of classes from the number of their pixels in the training labels."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from kdtui.errors import UsageError
from kdtui.profile.term_tables import ClassWeightedTerm, FocalTerm, Term

BETA = 0.999999
"""β of the effective number of samples, where a profile has none."""


def need_label_counts(tables: Iterable[Term]) -> bool:
    """Whether a term has weights that are computed from the training labels."""
    return any(isinstance(table, ClassWeightedTerm) and isinstance(table.class_weights, str) for table in tables)


def balanced(counts: Sequence[int]) -> tuple[float, ...]:
    """Inverse frequency, ``N / (K · n_c)`` for the ``K`` classes that occur: the mean over all pixels is 1."""
    present = sum(count > 0 for count in counts)
    return tuple(sum(counts) / (present * count) if count else 0.0 for count in counts)


def effective(counts: Sequence[int], beta: float) -> tuple[float, ...]:
    """Inverse effective number ``(1 - β) / (1 - β^n_c)`` of Cui et al., 1901.05555; their mean over classes is 1."""
    inverse = [1 / -math.expm1(count * math.log(beta)) if count else 0.0 for count in counts]
    present = sum(count > 0 for count in counts)
    return tuple(present * value / (sum(inverse) or 1.0) for value in inverse)


def weights_text(weights: Sequence[float], classes: Sequence[str]) -> str:
    """Names and weights in the order of the labels."""
    return ", ".join(f"{name} {weight:.4g}" for name, weight in zip(classes, weights, strict=True))


def with_class_weights(table: Any, classes: int, where: str, counts: Sequence[int] | None) -> Any:
    """The table with numbers as weights of classes; unchanged if it has none.

    A class without a pixel has weight 0: it does not occur in training.

    Args:
        table: The table of a term.
        classes: Number of classes.
        where: Its key in the profile, for messages.
        counts: Number of training pixels of each class; only for weights that are computed from them.

    Raises:
        UsageError: The weights do not match the number of classes.
    """
    if isinstance(table, FocalTerm) and table.alpha is not None and classes != 2:
        raise UsageError(
            "alpha is the weight of one of two classes",
            where=f"{where}.alpha",
            found=f"{classes} classes",
            allowed="2 classes",
            hint='use class_weights, a list or "balanced", instead of alpha',
        )
    if not isinstance(table, ClassWeightedTerm) or table.class_weights is None:
        return table
    if isinstance(table.class_weights, str):
        assert counts is not None
        weights = balanced(counts) if table.class_weights == "balanced" else effective(counts, table.beta or BETA)
        return table.model_copy(update={"class_weights": weights})
    if len(table.class_weights) != classes:
        raise UsageError(
            "the number of class weights differs from the number of classes",
            where=f"{where}.class_weights",
            found=f"{len(table.class_weights)} weights, {classes} classes",
            allowed="one weight for each class, in the order of the labels",
            hint='class_weights = "balanced" computes them from the training labels',
        )
    return table
