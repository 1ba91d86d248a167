"""Which profiles can be named here, and which file a name means."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kdtui.errors import ProfileError
from kdtui.profile import load
from kdtui.profile.find import LARGEST, listing, locate, names


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_profiles_here_and_in_profiles_are_listed_and_found_by_name(here: Path) -> None:
    (here / "profiles").mkdir()
    (here / "mycity.toml").write_text('extends = "baseline"\ndescription = "of mine"\n')
    (here / "profiles" / "other.toml").write_text("seed = 3\n")
    listed = {file.name: file for file in listing()}
    assert listed["mycity"].path == here / "mycity.toml"
    assert (listed["mycity"].description, listed["mycity"].shipped) == ("of mine", False)
    assert listed["other"].path == here / "profiles" / "other.toml"
    assert {"mycity", "other", "baseline"} <= set(names())
    assert locate("mycity") == here / "mycity.toml"
    assert load("mycity").name == "mycity"
    assert load("other").seed == 3


def test_a_local_file_is_used_and_the_hidden_profile_is_reported(here: Path) -> None:
    (here / "profiles").mkdir()
    for folder in (here, here / "profiles"):
        (folder / "baseline.toml").write_text('extends = "baseline"\nseed = 9\n')
    (baseline,) = [file for file in listing() if file.name == "baseline"]
    assert baseline.path == locate("baseline") == here / "baseline.toml"
    assert [path.parent for path in baseline.hides] == [here / "profiles", Path(locate("demo-teacher").parent)]
    assert load("baseline").seed == 9


def test_other_toml_files_of_the_working_folder_are_no_profiles(here: Path) -> None:
    (here / "pyproject.toml").write_text('[project]\nname = "x"\ndescription = "y"\n')
    (here / "notes.toml").write_text('tags = ["a"]\nnotes = ""\n')
    os.mkfifo(here / "pipe.toml")
    (here / "broken.toml").write_bytes(b"\xff\xfe")
    (here / "large.toml").write_text("seed = 1\n" + "#" * LARGEST)
    listed = {file.name: file.description for file in listing() if not file.shipped}
    assert listed == {"pipe": "(not a file)", "broken": "(cannot be read)", "large": "(cannot be read)"}
    with pytest.raises(ProfileError, match="KiB"):
        load("large")


def test_what_is_offered_for_a_wrong_parent_can_be_one(here: Path) -> None:
    (here / "mycity.toml").write_text('extends = "lab-base"\n')
    (here / "profiles").mkdir()
    (here / "profiles" / "lab-base.toml").write_text("seed = 1\n")
    with pytest.raises(ProfileError, match="neither in its folder nor shipped") as caught:
        load("mycity")
    assert "did you mean" not in caught.value.what
