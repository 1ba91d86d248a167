"""The networks that a search considers."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from kdtui.errors import UsageError
from kdtui.profile import load
from kdtui.profile.network_tables import Model
from kdtui.sweep.search.candidates import (
    ALL_ARCHITECTURES,
    ARCHITECTURES,
    ENCODERS,
    WIDTHS,
    candidates,
    check_architectures,
    check_encoders,
    parameters_of,
    profile_of,
    read_widths,
)


def test_the_defaults_are_known_and_distinct() -> None:
    assert check_encoders(ENCODERS) == ENCODERS and check_architectures(ARCHITECTURES) == ARCHITECTURES
    found = candidates(ENCODERS, ARCHITECTURES, WIDTHS)
    assert len({one.key for one in found}) == len(found)
    assert len({(one.encoder, one.architecture, one.decoder_channels) for one in found}) == len(found)


@pytest.mark.parametrize("architecture", ALL_ARCHITECTURES)
def test_each_candidate_is_a_valid_student(architecture: str) -> None:
    base = load("demo-teacher")
    for one in candidates(["resnet18"], [architecture], WIDTHS):
        profile = profile_of(base, one, 3, normalise=True)
        assert isinstance(profile.student, Model) and profile.seed == 3
        assert Model.model_validate(profile.student.model_dump(exclude_none=True)) == profile.student
        assert profile.data == base.data and profile.training == base.training


def test_the_catalog_counts_parameters_of_unets() -> None:
    counts = [parameters_of(load("demo-teacher"), one) for one in candidates(["resnet18"], ["Unet", "FPN"], (1.0, 0.5))]
    assert counts[0] is not None and counts[1] is not None and min(counts[0]) > max(counts[1])
    assert counts[2:] == [None, None]


@pytest.mark.parametrize(
    ("check", "name", "near"),
    [(check_encoders, "resnet17", "resnet18"), (check_architectures, "unet", "Unet"), (check_encoders, "", "")],
)
def test_an_unknown_name_is_one_message_with_near_names(
    check: Callable[[list[str]], object], name: str, near: str
) -> None:
    with pytest.raises(UsageError) as error:
        check([name] if name else [])
    assert near in str(error.value.allowed)


def test_encoders_outside_of_the_catalog_are_left_to_the_engine() -> None:
    assert check_encoders(["tu-convnext_pico", "tu-convnext_pico"]) == ("tu-convnext_pico",)


@pytest.mark.parametrize("text", ["", "0", "-1", "3", "wide", "1,,0.5", "nan"])
def test_a_wrong_width_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="not a share"):
        read_widths(text)
