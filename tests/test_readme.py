from __future__ import annotations

import re
import shlex
import tomllib

import pytest

from tests.readme import README, commands, filled, kdtui

TEXT = README.read_text(encoding="utf-8")


def test_commands_and_profile_keys_are_documented_as_they_are() -> None:
    assert filled(TEXT) == TEXT, "the README lags behind the code: make docs"


def predecessors_table() -> list[str]:
    """Every ``kdtui …`` in the right column of the table of the predecessor's commands."""
    section = TEXT.split("## Coming from the predecessor")[1].split("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("|")][2:]
    assert len(rows) > 12
    return [command for row in rows for command in re.findall(r"`(kdtui [^`]+)`", row.split(" | ")[1])]


@pytest.mark.parametrize("command", sorted({line.split()[1] for line in predecessors_table()}))
def test_every_command_that_replaces_one_exists(command: str) -> None:
    assert command in commands()
    assert kdtui(command, "--help").startswith(f"Usage: kdtui {command}")


def test_every_option_in_the_readme_exists() -> None:
    helps = {name: kdtui(name, "--help") for name in commands()}
    said = re.findall(r"^(?:\$ )?(kdtui [^\n#]+)", TEXT, flags=re.MULTILINE) + predecessors_table()
    checked = 0
    for line in said:
        words = shlex.split(line.replace("…", "").replace("[", "").replace("]", ""))
        if len(words) < 2 or words[1] not in helps:
            continue
        for word in words[2:]:
            if word.startswith("--"):
                assert re.search(rf"{re.escape(word.split('=')[0])}\b", helps[words[1]]), line
                checked += 1
    assert checked > 15


def test_profiles_in_the_readme_are_toml() -> None:
    blocks = re.findall(r"```toml\n(.*?)```", TEXT, flags=re.DOTALL)
    assert blocks
    for block in blocks:
        tomllib.loads(block)
