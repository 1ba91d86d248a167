from __future__ import annotations

import pytest
import torch
from torch import Tensor

from kdtui.engine.data import IGNORE_INDEX
from kdtui.engine.losses import Labels, StepShare
from kdtui.engine.losses.dist import DistLoss
from kdtui.engine.models import Outputs
from kdtui.profile.term_tables import DistTerm

_I = torch.arange(120, dtype=torch.float64)
GOLDEN = (2 * torch.sin(0.37 * _I)).reshape(2, 3, 4, 5), (3 * torch.cos(0.23 * _I + 0.5)).reshape(2, 3, 4, 5)


def dist(logits: tuple[Tensor, Tensor], masks: Tensor, **keys: float) -> float:
    student, teacher = logits
    labels = Labels(masks, IGNORE_INDEX)
    channels = {"logits": student.shape[1]}
    term = DistLoss(DistTerm.model_validate(keys), channels, channels)
    share = StepShare(float(labels.valid.sum()), len(masks))
    return float(term(Outputs(student), Outputs(teacher), labels, share))


@pytest.mark.parametrize(
    ("weights", "expected"),
    [({}, 1.7329566406), ({"gamma": 0.0}, 0.8725892115), ({"beta": 0.0}, 0.8603674291)],
)
def test_dist_equals_the_golden_values(weights: dict[str, float], expected: float) -> None:
    masks = torch.zeros(2, 4, 5, dtype=torch.long)
    # The published code adds 1e-8 to the product of norms.
    assert dist(GOLDEN, masks, **weights) == pytest.approx(expected, abs=3e-9)


def test_dist_is_the_correlation_of_rows_and_columns_of_valid_pixels() -> None:
    masks = torch.zeros(2, 4, 5, dtype=torch.long)
    masks[0, :2], masks[1, :, 3] = IGNORE_INDEX, IGNORE_INDEX
    ours, theirs = ((logits / 2).softmax(dim=1).permute(0, 2, 3, 1)[masks != IGNORE_INDEX].numpy() for logits in GOLDEN)
    rows = [torch.corrcoef(torch.tensor([a, b]))[0, 1] for a, b in zip(ours.tolist(), theirs.tolist(), strict=True)]
    columns = [
        torch.corrcoef(torch.tensor([a, b]))[0, 1] for a, b in zip(ours.T.tolist(), theirs.T.tolist(), strict=True)
    ]
    expected = 4 * ((1 - sum(rows) / len(rows)) + 0.5 * (1 - sum(columns) / len(columns)))
    assert dist(GOLDEN, masks, temperature=2.0, gamma=0.5) == pytest.approx(float(expected), rel=1e-5)


def test_dist_of_two_classes_compares_pixels_only() -> None:
    student, teacher = (logits[:, :2] for logits in GOLDEN)
    masks = torch.zeros(2, 4, 5, dtype=torch.long)
    assert dist((student, teacher), masks) == dist((student, teacher), masks, beta=0.0) > 0
