"""The options of an export: one table for the command line, the menu and the engine."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from kdtui.errors import UsageError
from kdtui.export_options import OPTIONS, ExportOptions, checked, from_json, option, suffix


def test_every_field_stands_in_the_menu_once_with_a_line() -> None:
    assert sorted(line.name for line in OPTIONS) == sorted(field.name for field in dataclasses.fields(ExportOptions))
    for line in OPTIONS:
        assert 20 < len(line.says) < 110
        line.check(line.default)


def test_the_defaults_need_no_flag() -> None:
    assert ExportOptions().flags() == []
    assert ExportOptions().command(["latest"]) == "kdtui export latest"


def test_flags_state_what_differs() -> None:
    options = ExportOptions(precision="int8", parts=True, limit=0.5)
    assert options.flags() == ["--precision", "int8", "--parts", "--limit", "0.5"]


def test_json_and_back() -> None:
    options = ExportOptions(checkpoint="3", dynamic="size", batch=4, slim=True)
    assert from_json(json.loads(json.dumps(options.to_json()))) == options
    assert from_json({}) == ExportOptions()


@pytest.mark.parametrize(
    "wrong",
    [
        {"precision": "fp8"},
        {"dynamic": "yes"},
        {"checkpoint": "newest"},
        {"checkpoint": "0"},
        {"batch": 0},
        {"batch": True},
        {"opset": 12},
        {"opset": 18.5},
        {"limit": float("nan")},
        {"limit": -1.0},
        {"parts": 1},
        {"height": 64},
        {"colour": "red"},
    ],
)
def test_what_is_not_allowed_is_refused_and_what_is_allowed_is_said(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError) as caught:
        from_json(wrong)
    assert caught.value.allowed


def test_an_epoch_is_a_checkpoint_and_a_whole_number_a_limit() -> None:
    assert checked(ExportOptions(checkpoint="12", limit=2)).limit == 2


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("batch", " 4 ", 4),
        ("limit", "0.5", 0.5),
        ("parts", "yes", True),
        ("slim", "off", False),
        ("input", "uint8", "uint8"),
    ],
)
def test_what_a_person_types(name: str, text: str, value: object) -> None:
    assert option(name).read(text) == value


@pytest.mark.parametrize(
    ("name", "text"), [("batch", "four"), ("parts", "maybe"), ("output", "Logits"), ("opset", "99")]
)
def test_what_a_person_mistypes(name: str, text: str) -> None:
    with pytest.raises(UsageError, match="invalid value for") as caught:
        option(name).read(text)
    assert caught.value.where == f"--{name}"


def test_names_of_files() -> None:
    assert [suffix(precision) for precision in ("fp32", "fp16", "int8")] == [".onnx", ".fp16.onnx", ".int8.onnx"]


def test_a_number_of_an_epoch_has_an_end() -> None:
    with pytest.raises(UsageError):
        option("checkpoint").check("9" * 5000)
