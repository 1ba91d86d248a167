"""The same for the parsers of the engine, whose import takes seconds."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fuzz.engine_targets import ENGINE_TARGETS
from tests.fuzz.targets import check
from tests.fuzz.test_corpus import CORPUS, refused_in_one_message


@pytest.mark.parametrize("name", sorted(ENGINE_TARGETS))
def test_what_is_no_valid_input_is_refused_in_one_message(name: str) -> None:
    refused_in_one_message(ENGINE_TARGETS[name])


@pytest.mark.parametrize("name", sorted(ENGINE_TARGETS))
def test_what_is_valid_is_read(name: str, tmp_path: Path) -> None:
    for number, example in enumerate(ENGINE_TARGETS[name].examples):
        (tmp_path / str(number)).mkdir()
        check(ENGINE_TARGETS[name], example, tmp_path / str(number))


@pytest.mark.parametrize("name", sorted(ENGINE_TARGETS))
def test_what_once_failed(name: str, tmp_path: Path) -> None:
    for file in sorted((CORPUS / name).glob("*")):
        (tmp_path / file.name).mkdir()
        check(ENGINE_TARGETS[name], file.read_bytes(), tmp_path / file.name)
