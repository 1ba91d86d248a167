"""Golden values of distillation terms, made with the official code or an independent formula, all in f64."""

from __future__ import annotations

import pytest
import torch

from kdtui import plugins
from kdtui.engine.data import IGNORE_INDEX
from kdtui.engine.losses import DistillationLoss, Labels, StepShare
from kdtui.engine.models import Outputs
from kdtui.errors import ModelError
from kdtui.profile.term_tables import DistillationTerm, FeatureTerm, KlTerm

_I, _J = torch.arange(120, dtype=torch.float64), torch.arange(128, dtype=torch.float64)
STUDENT = Outputs(
    (2 * torch.sin(0.37 * _I)).reshape(2, 3, 4, 5),
    features={"encoder": torch.sin(0.31 * _J).reshape(2, 4, 4, 4)},
)
TEACHER = Outputs(
    (3 * torch.cos(0.23 * _I + 0.5)).reshape(2, 3, 4, 5),
    features={"encoder": (1.5 * torch.cos(0.17 * _J)).reshape(2, 4, 4, 4)},
)
LABELS = Labels((torch.arange(40) % 3).reshape(2, 4, 5), IGNORE_INDEX)
CHANNELS = {"logits": 3, "encoder": 4}
GOLDEN: list[tuple[DistillationTerm, float]] = [
    (KlTerm(temperature=2.0, standardise=True), 0.5536180696),
    (KlTerm(temperature=4.0, weight_by="correct"), 2.1210818137),
    (KlTerm(temperature=4.0, weight_by="confidence"), 2.0370101196),
    (FeatureTerm(), 1.5514949311),
    (FeatureTerm(standardise=True), 1.3813866078),
    (FeatureTerm(form="smooth_l1"), 0.6256656813),
    (FeatureTerm(form="cosine"), 0.9364787389),
]


def built(table: DistillationTerm) -> DistillationLoss:
    term: DistillationLoss = plugins.imported(table.implementation)(table, CHANNELS, CHANNELS)
    return term


def value(term: DistillationLoss, *, epoch: int = 1) -> float:
    """The loss of a step over both images."""
    share = StepShare(40, 2, masses=term.masses(TEACHER, LABELS), epoch=epoch)
    return float(term(STUDENT, TEACHER, LABELS, share))


@pytest.mark.parametrize(("table", "expected"), GOLDEN)
def test_a_term_equals_its_golden_value(table: DistillationTerm, expected: float) -> None:
    assert value(built(table)) == pytest.approx(expected, abs=1e-9)


def test_standardised_logits_of_two_classes_are_refused() -> None:
    table = KlTerm(temperature=2.0, standardise=True)
    with pytest.raises(ModelError, match="two classes"):
        plugins.imported(table.implementation)(table, {"logits": 2}, {"logits": 2})
