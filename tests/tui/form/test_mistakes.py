"""What the engine and the launcher say for the command line, as the form says it."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import kdtui
from kdtui.tui.form.mistakes import in_form


def hints() -> list[tuple[Path, str]]:
    return [
        (path.relative_to(Path(kdtui.__file__).parent), word.value.value)
        for path in sorted(Path(kdtui.__file__).parent.rglob("*.py"))
        for word in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(word, ast.keyword)
        and word.arg == "hint"
        and isinstance(word.value, ast.Constant)
        and isinstance(word.value.value, str)
    ]


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("choose the data with --profile NAME; kdtui profiles lists the profiles", "choose the data with PROFILE"),
        ("kdtui teachers lists the checkpoints of this run store", ""),
        ("`kdtui show RUN` shows its state", ""),
        ("`kdtui doctor` checks the engine's environment", "`kdtui doctor` checks the engine's environment"),
        ("try --set training.learning_rate=0.0001", "try learning rate 0.0001"),
        ("--set data.train.images=FOLDER", "data.train.images FOLDER"),
        ("""--set 'teacher.classes=["a", "b"]' names them""", """teacher.classes ["a", "b"] names them"""),
        ("choose another with --name", "choose another with name"),
        (
            "--teacher CKPT|RUN, or --set distillation.enabled=false",
            "teacher, or other keys: distillation.enabled false",
        ),
        ("a smaller --batch-size", "a smaller batch size"),
        ("a - b, 2 -- 3", "a - b, 2 -- 3"),
        ("free some space", "free some space"),
    ],
)
def test_hints_use_the_labels_of_the_form(said: str, shown: str) -> None:
    assert in_form(said) == shown


def test_no_hint_of_the_code_names_an_option_or_a_command_on_the_form() -> None:
    given = hints()
    assert len(given) > 50
    shown = [(path, in_form(said).replace("kdtui doctor", "")) for path, said in given]
    assert [(path, words) for path, words in shown if "--" in words or "kdtui " in words] == []
