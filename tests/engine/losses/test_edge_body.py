from __future__ import annotations

import pytest

from kdtui.engine.losses import StepShare
from kdtui.engine.losses.edge_body import EdgeBodyLoss
from kdtui.engine.models import Outputs
from kdtui.profile.term_tables import EdgeBodyTerm
from tests.engine.losses.blob import LABELS, STUDENT, TEACHER

LOGITS = {"logits": 3}


def edge_body(**keys: object) -> float:
    term = EdgeBodyLoss(EdgeBodyTerm.model_validate(keys), LOGITS, LOGITS)
    share = StepShare(80, 1, masses=term.masses(Outputs(TEACHER), LABELS))
    return float(term(Outputs(STUDENT), Outputs(TEACHER), LABELS, share))


def test_edge_and_body_equal_the_golden_values() -> None:
    edge = edge_body(temperature=1.0, body_weight=0.0)
    body = edge_body(temperature=1.0, edge_weight=0.0)
    assert edge == pytest.approx(0.8376197797, abs=1e-9)
    assert body == pytest.approx(1.1500214388, abs=1e-9)
    assert (46 * edge + 34 * body) / 80 == pytest.approx(0.9703904848, abs=1e-9)
    assert edge_body(temperature=1.0) == pytest.approx(edge + body)
    assert edge_body(temperature=4.0, body="cwd", edge_weight=0.0) == pytest.approx(3.0734859318, abs=1e-9)
