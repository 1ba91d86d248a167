"""What once failed, and a few new inputs for each parser; `make fuzz` tries them for a minute each."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.mutation import inputs
from tests.fuzz.targets import TARGETS, Target, check

CORPUS = Path(__file__).with_name("corpus")
FAILED = sorted(file for name in TARGETS for file in (CORPUS / name).glob("*"))


def refused_in_one_message(target: Target) -> None:
    """Try a few inputs that are nearly right."""

    @settings(max_examples=6, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
    @given(st.one_of(inputs(target.examples), st.binary(max_size=40)))
    def some(data: bytes) -> None:
        with tempfile.TemporaryDirectory() as folder:
            check(target, data, Path(folder))

    some()


@pytest.mark.parametrize("name", sorted(TARGETS))
def test_what_is_no_valid_input_is_refused_in_one_message(name: str) -> None:
    refused_in_one_message(TARGETS[name])


@pytest.mark.parametrize("name", sorted(TARGETS))
def test_what_is_valid_is_read(name: str, tmp_path: Path) -> None:
    for number, example in enumerate(TARGETS[name].examples):
        (tmp_path / str(number)).mkdir()
        check(TARGETS[name], example, tmp_path / str(number))


@pytest.mark.parametrize("file", FAILED, ids=lambda file: f"{file.parent.name}-{file.name}")
def test_what_once_failed(file: Path, tmp_path: Path) -> None:
    check(TARGETS[file.parent.name], file.read_bytes(), tmp_path)
