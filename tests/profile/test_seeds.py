from __future__ import annotations

import pytest

from kdtui.errors import UsageError
from kdtui.profile import Distillation, Profile, Teacher
from kdtui.profile.matched import baseline_of, untreated
from kdtui.profile.seeds import read_seeds


@pytest.mark.parametrize(
    ("text", "seeds"), [("0", (0,)), ("0,1,2", (0, 1, 2)), ("0-4", (0, 1, 2, 3, 4)), (" 7, 1-2 ", (7, 1, 2))]
)
def test_seeds_are_numbers_and_ranges(text: str, seeds: tuple[int, ...]) -> None:
    assert read_seeds(text) == seeds


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "not a list of seeds"),
        ("0,", "not a list of seeds"),
        ("-1", "not a list of seeds"),
        ("4-0", "not a list of seeds"),
        ("1.5", "not a list of seeds"),
        ("4294967296", "not a list of seeds"),
        ("0,1,0", "listed twice"),
        ("0-3,2", "listed twice"),
        ("0-100", "too many"),
        ("0-4294967295", "too many"),
    ],
)
def test_other_texts_are_one_message(text: str, words: str) -> None:
    with pytest.raises(UsageError, match=words) as error:
        read_seeds(text)
    assert error.value.where == "--seeds"


def test_the_baseline_of_a_profile_differs_in_teacher_and_distillation_only() -> None:
    profile = Profile(
        name="mine",
        tags=("distilled", "a"),
        seed=3,
        teacher=Teacher(checkpoint="/t.pth"),
        distillation=Distillation(enabled=True, alpha=0.2),
    )
    baseline = baseline_of(profile)
    assert (baseline.name, baseline.tags, baseline.distillation.enabled) == ("mine-baseline", ("baseline", "a"), False)
    identity = {"name", "tags", "description"}
    tables = [untreated(one.model_dump(exclude=identity)) for one in (profile, baseline)]
    assert tables[0] == tables[1]
    assert baseline_of(profile.model_copy(update={"name": "people-distilled"})).name == "people-baseline"
    assert len(baseline_of(profile.model_copy(update={"name": "x" * 80})).name) == 80
