"""init."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from kdtui.errors import UsageError
from kdtui.launch.new_profiles import FolderGuess, input_size, profile_name
from kdtui.profile import load
from tests.cli.conftest import Kdtui, Trained
from tests.docs import ROOT
from tests.waiting import eventually

GUESS = FolderGuess({"classes": ["a", "b #112233"], "label_map": {"1": "a", "2": "b"}}, {"train": 2}, names=("a", "b"))


@pytest.fixture
def folder(here: Path) -> Path:
    (here / "City 2").mkdir()
    (here / "City 2/1.png").touch()
    return here / "City 2"


def test_profiles_are_written_checked_and_the_commands_named(kdtui: Kdtui, folder: Path) -> None:
    done = kdtui("init", "City 2", "--yes")
    assert done.code == 0, done.err
    assert done.out.rstrip().endswith(
        "next:\n  kdtui train city-2-teacher city-2-baseline city-2-distilled\n"
        "  kdtui compare city-2-teacher city-2-baseline city-2-distilled"
    )
    baseline, distilled = load("city-2-baseline"), load("city-2-distilled")
    assert (baseline.data.height, baseline.data.width) == (192, 256)
    assert baseline.data == distilled.data and distilled.distillation.enabled and not baseline.distillation.enabled
    assert baseline.training.batch_size == 6 and distilled.student == baseline.student
    assert distilled.teacher.checkpoint == "run:city-2-teacher"
    assert "# labels: numbers 0, 5" in Path("profiles/city-2-baseline.toml").read_text()
    assert kdtui("data", "city-2-baseline").code == 0


def test_profiles_are_never_replaced_without_asking(kdtui: Kdtui, folder: Path) -> None:
    assert kdtui("init", "City 2", "--yes").code == 0
    before = Path("profiles/city-2-teacher.toml").read_bytes()
    done = kdtui("init", "City 2", "--yes")
    assert done.code == 2 and "these profiles exist" in done.err and "--prefix NAME" in done.err
    assert Path("profiles/city-2-teacher.toml").read_bytes() == before
    assert kdtui("init", "City 2", "--yes", "--prefix", "other").code == 0


def test_without_a_terminal_nothing_is_asked(kdtui: Kdtui, folder: Path) -> None:
    done = kdtui("init", "City 2")
    assert done.code == 2 and "stdin is not a terminal" in done.err and "--yes" in done.err
    assert not Path("profiles").exists()


class TestQuestions:
    def test_layout_and_names_are_asked_and_used(self, kdtui: Kdtui, folder: Path) -> None:
        (folder / "two").touch()
        done = kdtui("init", "City 2", typed="2\nsky, road\n")
        assert done.code == 0, done.err
        assert "  1: images and masks: numbers 0, 5\n  2: images and masks: numbers 0, 5\n" in done.err
        data = load("city-2-baseline").data
        assert data.class_names() == ("sky", "road")
        assert "other/{split}/{name}" in Path("profiles/city-2-baseline.toml").read_text()

    def test_options_answer_the_questions(self, kdtui: Kdtui, folder: Path) -> None:
        (folder / "two").touch()
        assert kdtui("init", "City 2", "--prefix", "typed", typed="2\nsky, road\n").code == 0
        done = kdtui("init", "City 2", "--layout", "2", "--classes", "sky,road", "--yes")
        assert done.code == 0, done.err
        assert load("city-2-baseline").data == load("typed-baseline").data

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (["--layout", "3"], "there is no such layout"),
            (["--classes", "a,b"], "the classes have names already"),
            (["--prefix", "a b"], "not a valid prefix"),
        ],
    )
    def test_options_that_cannot_be_used(self, kdtui: Kdtui, folder: Path, options: list[str], message: str) -> None:
        (folder / "classes.txt").touch()
        done = kdtui("init", "City 2", *options, "--yes")
        assert done.code == 2 and message in done.err
        assert not Path("profiles").exists()

    def test_empty_answers_take_the_best_guess(self, kdtui: Kdtui, folder: Path) -> None:
        (folder / "two").touch()
        assert kdtui("init", "City 2", "--yes", "--prefix", "guess").code == 0
        assert kdtui("init", "City 2", typed="\n\n").code == 0
        assert load("city-2-baseline").data == load("guess-baseline").data

    def test_classes_with_names_in_a_file_are_not_asked(self, kdtui: Kdtui, folder: Path) -> None:
        (folder / "classes.txt").touch()
        assert kdtui("init", "City 2", typed="").code == 0

    @pytest.mark.parametrize(
        ("answers", "message"),
        [
            ("3\n", "there is no such layout"),
            ("two\n1\nsky\n", "the number of class names differs"),
            ("1\na,a\n", "duplicate class name"),
        ],
    )
    def test_answers_that_cannot_be_used(self, kdtui: Kdtui, folder: Path, answers: str, message: str) -> None:
        (folder / "two").touch()
        done = kdtui("init", "City 2", typed=answers)
        assert done.code == 2 and message in done.err
        assert not Path("profiles").exists()

    def test_existing_profiles_are_replaced_only_after_a_yes(self, kdtui: Kdtui, folder: Path) -> None:
        assert kdtui("init", "City 2", typed="sky,road\n").code == 0
        for answer in ("n\n", "\n"):
            done = kdtui("init", "City 2", typed=answer)
            assert done.code == 2 and "these profiles exist" in done.err
        assert load("city-2-baseline").data.class_names() == ("sky", "road")
        assert kdtui("init", "City 2", typed="y\nsun,rain\n").code == 0
        assert load("city-2-baseline").data.class_names() == ("sun", "rain")

    @pytest.mark.parametrize("answers", ["", "1\n"])
    def test_the_end_of_the_input_writes_nothing(self, kdtui: Kdtui, folder: Path, answers: str) -> None:
        (folder / "two").touch()
        done = kdtui("init", "City 2", typed=answers)
        assert done.code == 130 and done.err.endswith("\nerror: cancelled; nothing was changed\n")
        assert not Path("profiles").exists()


def test_ctrl_c_at_a_question_writes_nothing(folder: Path) -> None:
    keyboard, terminal = pty.openpty()
    argv = [sys.executable, "-c", "from kdtui.cli.app import main; main()", "init", "City 2"]
    with Path("err").open("wb") as err:
        process = subprocess.Popen(argv, stdin=terminal, stdout=terminal, stderr=err)
    try:
        eventually(lambda: "Class names" in Path("err").read_text(), "the question")
        process.send_signal(signal.SIGINT)
        assert process.wait() == 130
    finally:
        process.kill()
        os.close(keyboard)
        os.close(terminal)
    assert Path("err").read_text().endswith("\nerror: cancelled; nothing was changed\n")
    assert not Path("profiles").exists()


def test_an_existing_teacher(kdtui: Kdtui, folder: Path, trained: Trained) -> None:
    run = trained("big")
    done = kdtui("init", "City 2", "--teacher", "big", "--yes")
    assert done.code == 0, done.err
    assert "city-2-teacher" not in done.out and not Path("profiles/city-2-teacher.toml").exists()
    assert load("city-2-distilled").teacher.checkpoint == str(run.best)
    assert done.out.rstrip().endswith(
        "  kdtui train city-2-baseline city-2-distilled\n  kdtui compare city-2-baseline city-2-distilled"
    )


def test_data_with_a_mistake_end_in_an_error_after_the_profiles(kdtui: Kdtui, folder: Path) -> None:
    (folder / "broken.png").touch()
    done = kdtui("init", "City 2", "--yes")
    assert done.code == 4 and "correct the data, then:" in done.out and Path("profiles/city-2-teacher.toml").exists()


@pytest.mark.parametrize("name", ["nowhere", "empty"])
def test_a_folder_that_cannot_be_used(kdtui: Kdtui, here: Path, name: str) -> None:
    (here / "empty").mkdir()
    done = kdtui("init", name, "--yes")
    assert done.code in (2, 4) and len(done.err.split("error: ")) == 2 and not (here / "profiles").exists()


def test_a_folder_instead_of_a_profile(kdtui: Kdtui, folder: Path) -> None:
    assert kdtui("data", "City 2").code == 0


def test_other_names_of_classes() -> None:
    named = GUESS.with_names(["sky", "road"])
    assert named.keys == {"classes": ["sky", "road #112233"], "label_map": {"1": "sky", "2": "road"}} and named.named
    with pytest.raises(UsageError, match="the number of class names"):
        GUESS.with_names(["sky"])


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"classes": ["a", "b", "c"]}, {"classes": ["sky", "road"], "ignore": [2]}),
        (
            {"classes": ["a", "b", "c"], "label_map": {"1": "a", "5": "b", "7": "c"}, "ignore": [255]},
            {"classes": ["sky", "road"], "ignore": [255, 7], "label_map": {"1": "sky", "5": "road"}},
        ),
        (
            {"labels": "colour", "classes": ["a #000000", "b #112233", "c #445566"]},
            {"labels": "colour", "classes": ["sky #000000", "road #112233"], "ignore": ["#445566"]},
        ),
    ],
)
def test_a_class_that_the_user_calls_void_is_an_ignored_value(keys: dict[str, Any], expected: dict[str, Any]) -> None:
    guess = FolderGuess(keys, {"train": 2}, names=("a", "b", "c")).with_names(["sky", "road", "Void"]).without_void()
    assert guess.keys == expected and guess.names == ("sky", "road")
    assert guess.ground["ignored"] == f"Void ({expected['ignore'][-1]})"


@pytest.mark.parametrize(
    ("size", "on", "expected"),
    [
        ((2048, 1024), "the CPU", (320, 160)),
        ((2048, 1024), "the GPU", (736, 352)),
        ((48, 32), "the CPU", (64, 32)),
        ((0, 0), "the CPU", (32, 32)),
    ],
)
def test_the_size_of_the_input(size: tuple[int, int], on: str, expected: tuple[int, int]) -> None:
    assert input_size(size, on) == expected


def test_names_of_profiles() -> None:
    assert [profile_name(Path(name)) for name in ("/a/My City", "/a/ümläut", "/a/…")] == ["my-city", "ml-ut", "data"]


def test_the_commands_of_the_readme(kdtui: Kdtui, here: Path, trained: Trained) -> None:
    section = (ROOT / "README.md").read_text(encoding="utf-8").split("## Your own data in ten minutes")[1]
    lines = [line.split("#")[0].split()[1:] for line in section.split("```")[1].strip().splitlines()]
    (here / "data/mycity").mkdir(parents=True)
    (here / "data/mycity/1.png").touch()
    first, *trainings, compared, exported = lines
    assert kdtui(*first, "--yes").code == 0
    for words in trainings:
        done = kdtui(*words, "--dry-run")
        assert done.code == 0 and not done.err, done.err
        for name in words[1:]:
            trained(name, profile=name)
    assert kdtui(*compared).code == 0
    assert exported[0] == "export" and load(exported[1]).distillation.enabled
