from __future__ import annotations

from typing import Any

import pytest

from kdtui.engine.losses.class_weights import balanced, effective, weights_text, with_class_weights
from kdtui.errors import UsageError
from kdtui.profile.term_tables import CrossEntropyTerm, DiceTerm, FocalTerm


def test_balanced_weights_are_inverse_frequencies() -> None:
    counts = (600, 300, 0, 100)
    weights = balanced(counts)
    assert weights[2] == 0.0
    assert sum(count * weight for count, weight in zip(counts, weights, strict=True)) == pytest.approx(1000)
    assert len({round(count * weight, 9) for count, weight in zip(counts, weights, strict=True) if count}) == 1


@pytest.mark.parametrize("beta", [0.9, 0.999, 0.999999])
def test_effective_weights_are_inverse_effective_numbers(beta: float) -> None:
    counts = (5000, 20, 0, 1)
    weights = effective(counts, beta)
    published = [(1 - beta) / (1 - beta**count) if count else 0.0 for count in counts]
    expected = [3 * weight / sum(published) for weight in published]
    assert weights == pytest.approx(expected, rel=1e-8)


def test_effective_weights_lie_between_none_and_inverse_frequencies() -> None:
    counts = (900, 90, 10)
    assert effective(counts, 1e-9) == pytest.approx([1, 1, 1])
    inverse = [3 / count / sum(1 / other for other in counts) for count in counts]
    assert effective(counts, 1 - 1e-9) == pytest.approx(inverse, rel=1e-5)


def test_a_huge_data_set_gives_finite_weights() -> None:
    assert effective((10**13, 1), 0.999999) == pytest.approx([2e-6, 2], rel=1e-5)
    assert effective((0, 0), 0.9) == balanced((0, 0)) == (0.0, 0.0)


def test_weights_replace_the_name_of_their_rule() -> None:
    table = with_class_weights(CrossEntropyTerm(class_weights="balanced"), 2, "loss.terms[0]", (3, 1))
    assert table.class_weights == (pytest.approx(2 / 3), 2.0)
    assert weights_text(table.class_weights, ("sky", "road")) == "sky 0.6667, road 2"
    for unchanged in (DiceTerm(), CrossEntropyTerm(), CrossEntropyTerm(class_weights=(1.0, 2.0)), FocalTerm(alpha=0.3)):
        assert with_class_weights(unchanged, 2, "loss.terms[0]", None) == unchanged


@pytest.mark.parametrize(
    ("table", "facts"),
    [
        (
            CrossEntropyTerm(class_weights=(1.0, 2.0)),
            {"where": "loss.terms[1].class_weights", "found": "2 weights, 3 classes"},
        ),
        (FocalTerm(alpha=0.25), {"where": "loss.terms[1].alpha", "found": "3 classes", "allowed": "2 classes"}),
    ],
)
def test_weights_that_do_not_match_the_classes_are_refused(table: Any, facts: dict[str, str]) -> None:
    with pytest.raises(UsageError) as caught:
        with_class_weights(table, 3, "loss.terms[1]", None)
    assert facts == {name: getattr(caught.value, name) for name in facts}
    assert caught.value.hint is not None
