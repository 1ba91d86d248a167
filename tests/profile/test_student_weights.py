"""The keys of a student's initial weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kdtui.errors import ProfileError
from kdtui.profile import Model, Profile, absolute, amend, dump, load


def student(profile: Profile) -> dict[str, Any]:
    return profile.student.model_dump(exclude_none=True)


@pytest.mark.parametrize("weights", ["none", "imagenet"])
def test_published_weights_are_written_as_before_there_were_files(weights: str) -> None:
    new = load("baseline", [f"student.weights={weights}"])
    assert dump(new) == dump(load("baseline", [f"student.encoder_weights={weights}"]))
    assert b"weights_part" not in dump(new)
    assert dump(load("baseline")) == dump(load("baseline", ["student.weights=none"]))


def test_the_last_of_both_keys_counts(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text('extends = "baseline"\n[student]\nweights = "w.pth"\nweights_part = "encoder"\n')
    (tmp_path / "b.toml").write_text('extends = "a"\n[student]\nencoder_weights = "imagenet"\n')
    (tmp_path / "c.toml").write_text('extends = "b"\n[student]\nweights = "v.pth"\n')
    first, second, third = (load(tmp_path / f"{name}.toml") for name in "abc")
    assert (student(first)["weights"], student(first)["weights_part"]) == ("w.pth", "encoder")
    assert student(second) == student(load("baseline", ["student.encoder_weights=imagenet"]))
    assert (student(third)["weights"], student(third)["encoder_weights"]) == ("v.pth", "none")
    assert student(amend(first, ["student.weights=none"])) == student(load("baseline"))
    assert load_again(third, tmp_path) == third


def load_again(profile: Profile, folder: Path) -> Profile:
    (folder / "again.toml").write_bytes(dump(profile))
    return load(folder / "again.toml")


def test_a_file_becomes_absolute_and_a_run_does_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for weights, expected in (("w.pth", str(tmp_path / "w.pth")), ("run:city", "run:city")):
        made = absolute(load("baseline", [f"student.weights={weights}"])).student
        assert isinstance(made, Model)
        assert made.weights == expected


@pytest.mark.parametrize(
    "sets",
    [
        ["student.weights=w.pth", "student.encoder_weights=imagenet"],
        ["student.weights_part=encoder"],
        ["student.weights=w.pth", "student.weights_part=decoder"],
        ["student.weights="],
    ],
)
def test_contradictions_are_refused_at_their_key(sets: list[str]) -> None:
    with pytest.raises(ProfileError) as refused:
        load("baseline", sets)
    assert len(refused.value.mistakes) == 1
    assert refused.value.mistakes[0].startswith("student")
