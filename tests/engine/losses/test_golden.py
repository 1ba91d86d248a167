"""Golden values of distillation terms, made with the official code or an independent formula, all in f64."""

from __future__ import annotations

import pytest
import torch

from kdtui import plugins
from kdtui.engine.data import IGNORE_INDEX
from kdtui.engine.losses import DistillationLoss, Labels, StepShare
from kdtui.engine.models import Outputs
from kdtui.errors import ModelError
from kdtui.profile.term_tables import (
    AfDcdTerm,
    AttentionTerm,
    CirkdTerm,
    DistillationTerm,
    DkdTerm,
    FeatureTerm,
    IfvdTerm,
    KlTerm,
    MgdTerm,
    PkdTerm,
    RelationTerm,
    SkdPairwiseTerm,
)

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
    (RelationTerm(), 1.0918656272),
    (CirkdTerm(), 7.9333653108),
    (SkdPairwiseTerm(), 0.0368897192),
    (AttentionTerm(), 0.0108168365),
    (PkdTerm(), 0.9073370725),
    (IfvdTerm(), 0.3782074793),
    (AfDcdTerm(groups=2, patch=2), 14.5682512828),
    (DkdTerm(temperature=4.0, warmup=0), 11.7045438904),
    (DkdTerm(temperature=4.0, warmup=0, beta=0.0), 0.9859707225),
]


def built(table: DistillationTerm) -> DistillationLoss:
    term: DistillationLoss = plugins.imported(table.implementation)(table, CHANNELS, CHANNELS)
    return term


def value(term: DistillationLoss, *, epoch: int = 1) -> float:
    """The loss of a step over both images."""
    share = StepShare(40, 2, masses=term.masses(TEACHER, LABELS), epoch=epoch)
    return float(term(STUDENT, TEACHER, LABELS, share).detach())


@pytest.mark.parametrize(("table", "expected"), GOLDEN)
def test_a_term_equals_its_golden_value(table: DistillationTerm, expected: float) -> None:
    assert value(built(table)) == pytest.approx(expected, abs=1e-9)


def test_standardised_logits_of_two_classes_are_refused() -> None:
    table = KlTerm(temperature=2.0, standardise=True)
    with pytest.raises(ModelError, match="two classes"):
        plugins.imported(table.implementation)(table, {"logits": 2}, {"logits": 2})


def test_masked_generation_equals_its_golden_value_with_an_identity_as_generator() -> None:
    table = MgdTerm(masked=0.0)
    term = built(table).double()
    for name, parameter in term.named_parameters():
        torch.nn.init.dirac_(parameter) if name.endswith("weight") else torch.nn.init.zeros_(parameter)
    assert table.weight * value(term) == pytest.approx(0.0017109982, abs=1e-9)


def test_decoupled_distillation_warms_up() -> None:
    term = built(DkdTerm(temperature=4.0, warmup=20))
    whole = value(term, epoch=20)
    assert [value(term, epoch=epoch) / whole for epoch in (1, 5, 19, 300)] == pytest.approx([0.05, 0.25, 0.95, 1.0])
