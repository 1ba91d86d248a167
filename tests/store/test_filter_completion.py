from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdtui.store.filter import FIELDS, complete, parse
from kdtui.store.state import RunSummary
from tests.tui.scenes import people


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> list[RunSummary]:
    return people(tmp_path_factory.mktemp("rows")).store.summaries()


@pytest.mark.parametrize(
    ("typed", "completed"),
    [
        ("stu", "student"),
        ("T>=4 stu", "T>=4 student"),
        ("-sta", "-state"),
        ("!sta", "!state"),
        ("student:timm-efficientnet-b3", None),  # whole already
        ("student:timm", "student:timm-efficientnet-b0"),
        ("student=res", "student=resnet18"),
        ("miou>.65 state:f", "miou>.65 state:finished"),
        ("state:nev", "state:never-launched"),
        ("name:b0-al", "name:b0-alone"),
        ("tag:base", "tag:baseline"),
        ("T:1", "T:16"),
        ("alpha:", "alpha:0.5"),
        ("distilled:", "distilled:yes"),
        ("error:D", "error:DivergedError"),
        ("", None),
        ("-", None),
        ("stu ", None),
        ("zzz", None),
        ("student:zzz", None),
        ("loss:", None),  # no two runs share a loss
        ("T>=", None),
    ],
)
def test_real_fields_and_values_are_offered(typed: str, completed: str | None, rows: list[RunSummary]) -> None:
    assert complete(typed, rows) == completed


@pytest.mark.parametrize("field", FIELDS)
def test_every_field_is_offered_by_its_beginning(field: str, rows: list[RunSummary]) -> None:
    if len(field) == 1:
        return
    offered = complete(field[:-1], rows)
    assert offered is not None and offered.startswith(field[:-1]) and offered in FIELDS


def test_every_offered_completion_is_a_filter_with_matches(rows: list[RunSummary]) -> None:
    for field in ("student", "architecture", "name", "id", "tag", "error", "seed", "T", "alpha", "state", "distilled"):
        offered = complete(f"{field}:", rows)
        assert offered is not None
        assert any(parse(offered)(row) for row in rows)


@given(st.text(alphabet="studen:=!-> T\"'\\α\x1b4", max_size=12))
def test_what_is_typed_is_only_added_to(typed: str) -> None:
    offered = complete(typed, [])
    assert offered is None or (offered.startswith(typed) and offered != typed)
