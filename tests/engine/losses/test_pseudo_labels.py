from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from kdtui.engine.data import IGNORE_INDEX
from kdtui.engine.losses import DistillationLoss, Labels, StepShare
from kdtui.engine.losses.pseudo_labels import HardLabelLoss, SoftLabelLoss
from kdtui.engine.models import Outputs
from tests.engine.losses.test_golden import LABELS, STUDENT, TEACHER

PIXELS = 40
THRESHOLDS = [(0.7, 1.2153255475, 0.9418772993), (0.9, 1.1266225434, 0.5914768353), (0.95, 0.7948592864, 0.2583292681)]


def value(term: DistillationLoss, student: Outputs = STUDENT, labels: Labels = LABELS, **masses: float) -> Tensor:
    """The loss of a step over both images."""
    own: dict[str, Any] = {name: torch.tensor(mass) for name, mass in masses.items()}
    loss: Tensor = term(student, TEACHER, labels, StepShare(PIXELS, 2, masses=own or term.masses(TEACHER, labels)))
    return loss


def test_soft_labels_equal_their_golden_value() -> None:
    assert float(value(SoftLabelLoss())) == pytest.approx(1.2990084554, abs=1e-9)


@pytest.mark.parametrize(("threshold", "of_confident", "of_all"), THRESHOLDS)
def test_hard_labels_equal_their_golden_values(threshold: float, of_confident: float, of_all: float) -> None:
    assert float(value(HardLabelLoss(threshold))) == pytest.approx(of_confident, abs=1e-7)
    assert float(value(HardLabelLoss(threshold), confident=PIXELS)) == pytest.approx(of_all, abs=1e-9)


@pytest.mark.parametrize("term", [SoftLabelLoss(), HardLabelLoss(0.5)])
def test_only_valid_and_confident_pixels_have_a_gradient(term: DistillationLoss) -> None:
    masks = torch.zeros(2, 4, 5, dtype=torch.long)
    masks[0, :2] = IGNORE_INDEX
    logits = STUDENT.main.clone().requires_grad_()
    value(term, Outputs(logits), Labels(masks, IGNORE_INDEX)).backward()
    assert logits.grad is not None
    learnt = logits.grad.abs().sum(dim=1) > 0
    confident = TEACHER.main.softmax(dim=1).amax(dim=1) >= 0.5
    expected = confident if isinstance(term, HardLabelLoss) else torch.ones_like(confident)
    assert torch.equal(learnt, expected & (masks != IGNORE_INDEX))


def test_a_step_without_confident_pixels_has_no_loss() -> None:
    logits = STUDENT.main.clone().requires_grad_()
    loss = value(HardLabelLoss(1.0), Outputs(logits))
    loss.backward()
    assert logits.grad is not None
    assert loss.item() == 0.0 and torch.count_nonzero(logits.grad) == 0
