"""data."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Kdtui


@pytest.fixture
def profile(here: Path) -> Path:
    (here / "city").mkdir()
    file = here / "own.toml"
    file.write_text('extends = "camvid-baseline"\n[data]\nroot = "city"\n')
    return file


def test_a_report(kdtui: Kdtui, profile: Path) -> None:
    done = kdtui("data", "own")
    assert done.code == 0
    assert done.out.startswith("4 samples (2 train, 2 val), 2 classes; 3 samples read earlier\n")
    assert "64x48 to 96x48  " in done.out and "nothing wrong was found" in done.out
    assert 'class_weights = [1, 1]  # "balanced"' in done.out and done.out.rstrip().endswith(".cache/data/x.png")
    assert all(len(line) <= 80 for line in done.out.splitlines() if not line.startswith("contact sheet"))
    assert "reading train" in done.err


def test_what_makes_training_impossible_ends_in_an_error(kdtui: Kdtui, profile: Path, here: Path) -> None:
    (here / "city/broken.png").touch()
    done = kdtui("data", "own")
    assert done.code == 4
    assert "FAIL an image cannot be read (1 of 2 train samples): broken.png\n     found: nothing\n" in done.out
    assert "next: save it again" in done.out


def test_options_reach_the_engine(kdtui: Kdtui, profile: Path) -> None:
    done = kdtui("data", "own", "--split", "val", "--sheet", "s.png", "--set", "data.root=city", "--json")
    assert (done.code, [*done.json["splits"]], Path(done.json["sheet"]).name) == (0, ["val"], "s.png")


def test_an_unknown_split(kdtui: Kdtui, profile: Path) -> None:
    done = kdtui("data", "own", "--split", "training")
    assert done.code == 2 and "no such split" in done.err and "train, val, test" in done.err
