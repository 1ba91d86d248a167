"""Golden values of terms on channels and features; made with the official code."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from kdtui.engine.data import IGNORE_INDEX
from kdtui.engine.losses import Labels, StepShare
from kdtui.engine.losses.cwd import CwdLoss
from kdtui.engine.losses.feature import FeatureLoss
from kdtui.engine.models import Outputs
from kdtui.profile.term_tables import CwdTerm, FeatureTerm


def labels(side: tuple[int, int]) -> Labels:
    return Labels(torch.zeros(2, *side, dtype=torch.long), IGNORE_INDEX)


@pytest.mark.parametrize(("temperature", "expected"), [(1.0, 1.6013116661), (4.0, 2.4773907945)])
def test_channel_wise_distillation_equals_the_golden_values(temperature: float, expected: float) -> None:
    i = torch.arange(120, dtype=torch.float64)
    student, teacher = (
        (2 * torch.sin(0.37 * i)).reshape(2, 3, 4, 5),
        (3 * torch.cos(0.23 * i + 0.5)).reshape(2, 3, 4, 5),
    )
    term = CwdLoss(CwdTerm(temperature=temperature), {"logits": 3}, {"logits": 3})
    value = term(Outputs(student), Outputs(teacher), labels((4, 5)), StepShare(40, 2))
    assert float(value) == pytest.approx(expected, abs=1e-9)


def maps() -> tuple[Tensor, Tensor]:
    j = torch.arange(128, dtype=torch.float64)
    return torch.sin(0.31 * j).reshape(2, 4, 4, 4), (1.5 * torch.cos(0.17 * j)).reshape(2, 4, 4, 4)


def test_mean_squared_difference_of_features_equals_the_golden_value() -> None:
    student, teacher = (Outputs(values, features={"encoder": values}) for values in maps())
    term = FeatureLoss(FeatureTerm(), {"encoder": 4}, {"encoder": 4})
    assert float(term(student, teacher, labels((32, 32)), StepShare(2 * 32 * 32, 2))) == pytest.approx(
        1.5514949311, abs=1e-9
    )
    assert not list(term.parameters())


def test_a_cell_counts_as_much_as_it_has_valid_pixels() -> None:
    """Half-ignored images cost what their valid half costs."""
    ours, theirs = maps()
    term = FeatureLoss(FeatureTerm(), {"encoder": 4}, {"encoder": 4})
    half = labels((32, 32))
    half.masks[:, 16:] = IGNORE_INDEX
    value = term(
        Outputs(ours, features={"encoder": ours}),
        Outputs(theirs, features={"encoder": theirs}),
        half,
        StepShare(32 * 32, 2),
    )
    torch.testing.assert_close(value, (ours - theirs)[:, :, :2].square().mean())


def test_features_of_other_widths_and_grids_are_projected_and_resized() -> None:
    term = FeatureLoss(FeatureTerm(on="decoder", teacher_on="encoder.3"), {"decoder": 4}, {"encoder.3": 6})
    student = Outputs(torch.zeros(2, 3, 32, 32), features={"decoder": torch.randn(2, 4, 16, 16)})
    teacher = Outputs(torch.zeros(2, 3, 32, 32), features={"encoder.3": torch.randn(2, 6, 4, 4)})
    value = term(student, teacher, labels((32, 32)), StepShare(2 * 32 * 32, 2))
    value.backward()
    assert [parameter.shape for parameter in term.parameters()] == [(6, 4, 1, 1), (6,)]
    assert all(parameter.grad is not None for parameter in term.parameters())
