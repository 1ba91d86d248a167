"""Profiles and settings that no person means: one message each, in bounded time and memory."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdtui.errors import ProfileError
from kdtui.profile import dump, load
from kdtui.profile.find import parse_tables

DIGITS = "9" * 5000
HEX = "0x" + "f" * 9000

FILES = [
    f"seed = {DIGITS}",
    f"seed = {HEX}",
    f"extends = {HEX}",
    f"tags = [{HEX}]",
    f"nokey = [{HEX}]",
    f"nokey = {HEX}",
    "nokey = " + "[" * 300 + "]" * 300,
    "seed = " + "[" * 5000,
    "seed = " + "{a=" * 5000,
    "a" + ".a" * 100_000 + " = 1",
    '"a"' + '."a"' * 100_000 + " = 1",
    "[a" + ".a" * 100_000 + "]",
    'data = {kind = "folder", root = "a\\u0000b"}',
    'name = "a\\u0000"',
    '"a\\u0000" = 1',
    'teacher = {checkpoint = "\\u0000"}',
    "training = {learning_rate = 1e999}",
    f"training = {{learning_rate = {HEX}}}",
    f"data = {{kind = {HEX}}}",
]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("text", FILES, ids=range(len(FILES)))
def test_a_hostile_file_is_one_short_message(here: Path, text: str) -> None:
    (here / "mine.toml").write_text(text)
    with pytest.raises(ProfileError) as caught:
        load("mine")
    assert len(caught.value.message) < 2000
    assert "mine.toml" in caught.value.message


@pytest.mark.parametrize("data", [b"\xff\xfe", b'name = "\xe9"', b"\x00", b"seed = 1\x00"])
def test_a_file_that_is_no_text_is_one_message(here: Path, data: bytes) -> None:
    (here / "mine.toml").write_bytes(data)
    with pytest.raises(ProfileError, match=r"UTF-8|not valid TOML"):
        load("mine")


@pytest.mark.parametrize(
    "text",
    [
        f"seed={DIGITS}",
        f"seed={HEX}",
        f"tags=[{HEX}]",
        "seed=" + "[" * 5000,
        "a" + ".a" * 100_000 + "=1",
        "seed=a" + ".a" * 100_000,
        "description=\udcff",
        "data.root=\udcff",
        "\udcff=1",
        "description=a\0b",
    ],
    ids=range(10),
)
def test_a_hostile_setting_is_one_short_message(text: str) -> None:
    with pytest.raises(ProfileError) as caught:
        load("baseline", [text])
    assert len(caught.value.message) < 2000
    caught.value.message.encode()


def test_a_dotted_text_is_no_deep_key() -> None:
    assert parse_tables('a = "one. two. three."\nb.c.d = 1\n')["b"] == {"c": {"d": 1}}


@given(
    text=st.text(max_size=60),
    key=st.sampled_from(["name", "description", "tags", "seed", "data", "data.root", "student.encoder"]),
)
def test_any_setting_is_a_profile_that_can_be_written_or_a_message(text: str, key: str) -> None:
    with contextlib.suppress(ProfileError):
        dump(load("baseline", [f"{key}={text}"])).decode()
