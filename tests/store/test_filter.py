"""Filters: which runs match, and the message about an invalid one."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdtui.errors import FilterError
from kdtui.store.filter import parse
from kdtui.store.state import RunSummary, State

RUN = RunSummary(
    id="20260821-143002-distill-b0",
    name="distill-b0",
    path=Path("/runs/x"),
    state=State.FAILED,
    encoder="timm-efficientnet-b0",
    architecture="Unet",
    temperature=4.0,
    alpha=0.7,
    distilled=True,
    best_miou=0.66,
    retention=0.89,
    parameters=6_251_904,
    epoch=3,
    seed=0,
    tags=("people", "first try"),
    notes="out of memory",
)


def but(**changes: Any) -> RunSummary:
    return dataclasses.replace(RUN, **changes)


@pytest.mark.parametrize(("expression", "matches"), [("score>.7", 2), ("target_iou>.7", 1), ("miou>.7", 1)])
def test_the_score_is_that_which_determines_the_best_epoch(expression: str, matches: int) -> None:
    own = {"target_iou": 0.8}
    runs = [but(best_miou=0.75), but(best_miou=0.5, metrics=own | {"best_target_iou": 0.8}, best_metrics=own), RUN]
    assert sum(map(parse(expression), runs)) == matches


@pytest.mark.parametrize(
    "expression",
    [
        "",
        "student:b0 T>=4 miou>.65 state:failed",
        "encoder:EFFICIENT",
        "student=timm-efficientnet-b0",
        "student!=resnet18",
        "T=4",
        "T:4",
        "temperature<5",
        "α=.7",
        "alpha<=0.7",
        "miou<66.5%",
        "params>6M params<6.3M",
        "retention>=89%",
        "seed=0",
        "seed:0",
        "tag:people",
        "'tag=first try'",
        "tag='first try'",
        "notes:memory",
        "state:fail",
        "state:✗",
        "-state:running",
        "!T<4",
        "state!=finished",
        "distilled:yes",
        "distilled=true",
        "distilled!=no",
        "distill",
        "-resnet",
        "people",
        "id:20260821",
    ],
)
def test_matches(expression: str) -> None:
    assert parse(expression)(RUN)


@pytest.mark.parametrize(
    "expression",
    [
        "student:b3",
        "student=b0",
        "T>4",
        "T<4",
        "T!=4",
        "miou>.66",
        "state:running",
        "-state:failed",
        "state!=failed",
        "tag=peopl",
        "distilled:no",
        "resnet",
        "-people",
        "student:b0 T>4",
        "loss>0",
        "loss<=0",
        "teacher:x",
    ],
)
def test_does_not_match(expression: str) -> None:
    assert not parse(expression)(RUN)


def test_a_value_that_is_not_there_matches_no_comparison() -> None:
    for operator in ("<", ">", "<=", ">=", "=", "!="):
        assert not parse(f"T{operator}4")(but(temperature=None))


def test_miou_and_retention_are_the_best_and_last_is_the_last() -> None:
    run = but(miou=0.2, best_miou=0.6, retention=0.25, teacher_miou=0.8)
    assert parse("miou>.5 best>.5 last<.3 retention>70%")(run)
    assert not parse("last>.3")(run)
    assert not parse("retention<70%")(run)


def test_zero_is_a_value() -> None:
    assert parse("alpha=0")(but(alpha=0.0))
    assert parse("miou<=0")(but(best_miou=0.0))


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ("stat:failed", "state"),
        ("studnt:b0", "student"),
        ("state:faild", "failed"),
        ("T>=four", "not a number"),
        ("T>", "no value"),
        ("student>3", "cannot be compared"),
        ("distilled:perhaps", "neither yes nor no"),
        ("tag='open", "unclosed quote"),
        ("foo=1", "no field"),
    ],
)
def test_mistakes_are_explained(expression: str, said: str) -> None:
    with pytest.raises(FilterError, match=said) as caught:
        parse(expression)
    assert caught.value.exit_code == 2


@given(st.text(max_size=30))
def test_any_text_is_read_or_refused(expression: str) -> None:
    try:
        predicate = parse(expression)
    except FilterError:
        return
    assert predicate(RUN) in (True, False)


@given(st.floats(0, 10), st.floats(0, 10))
def test_comparisons_mean_what_they_say(value: float, bound: float) -> None:
    run = but(temperature=value)
    assert parse(f"T>={bound}")(run) is (value >= bound)
    assert parse(f"T<{bound}")(run) is not parse(f"T>={bound}")(run)
    assert parse(f"-T<{bound}")(run) is not parse(f"T<{bound}")(run)
