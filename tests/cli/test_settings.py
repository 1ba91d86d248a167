"""Each declared setting: its option, its profile key, its field, the displayed command and its help."""

from __future__ import annotations

import shlex
from typing import Any

import pytest

from kdtui.cli.setting_options import option_help
from kdtui.profile import amend, load
from kdtui.profile.settings import SETTINGS, Setting
from kdtui.store.store import RunStore
from kdtui.tui.form import PLACES, RunDraft, check
from kdtui.tui.form.defaults import own_texts
from kdtui.tui.form.fields import SINGLE
from kdtui.tui.screens.new_run.sections import LossSection, RunsSection, Section, TrainingSection
from kdtui.tui.screens.new_run.teacher import StudentSection, TeacherSection
from tests.cli.conftest import COMMANDS
from tests.test_hints import exists

SECTIONS: dict[str, type[Section]] = {
    "runs": RunsSection,
    "teacher": TeacherSection,
    "student": StudentSection,
    "distillation": LossSection,
    "training": TrainingSection,
}
CHANGED = {
    "encoder": "resnet18",
    "decoder": "64,32,16,16,8",
    "weights": "imagenet",
    "alpha": "0.25",
    "precision": "fp32",
    "name": "other",
}
# The settings that are named otherwise than their key.
KEYS = {
    "teacher": "teacher.checkpoint",
    "decoder": "student.decoder_channels",
    "seeds": "seed",
    "baseline": "",
    "equal_time": "",
    "trials": "",
    "prune": "",
    "extra": "",
}
each = pytest.mark.parametrize("setting", SETTINGS.values(), ids=list(SETTINGS))
each_value = pytest.mark.parametrize("setting", SINGLE, ids=[setting.name for setting in SINGLE])


def another(setting: Setting) -> str:
    """A text that is not the profile's own value."""
    return CHANGED.get(setting.name, setting.words[-1] if setting.words else "2")


def options(command: str) -> dict[str, Any]:
    return {flag: option for option in COMMANDS.commands[command].params for flag in option.opts}


@each
def test_its_key_is_one_of_the_profile(setting: Setting) -> None:
    whole = setting.key or "name"
    key = whole.rpartition(".")[2]
    assert exists(whole)
    assert setting.key == KEYS[setting.name] if setting.name in KEYS else key == setting.name


@each
def test_each_of_its_flags_is_an_option_with_its_help(setting: Setting) -> None:
    for command in ("sweep",) if setting.of_sweep else ("train", "distill"):
        known = options(command)
        if command == "distill" and setting.name == "encoder":  # a required option of its own
            assert known["--student"].help.startswith(option_help(setting)[:-1])
            continue
        for flag in setting.flags:
            assert setting.kind == "assignments" or known[flag].help.startswith(option_help(setting)[:-1])
        assert len({id(known[flag]) for flag in setting.flags}) <= 1


@each
def test_it_has_a_field_in_its_section(setting: Setting) -> None:
    assert setting.name in PLACES
    assert [name for name, section in SECTIONS.items() if setting.name in section.PLACES] == [
        setting.name and setting.section
    ]
    assert setting.help


@each_value
def test_the_displayed_command_sets_what_the_field_sets(setting: Setting, store: RunStore) -> None:
    text = another(setting)
    checked = check(RunDraft(profile="demo-baseline", **{setting.name: text}), store)
    assert not checked.mistakes
    [made] = checked.profiles
    assert own_texts(made)[setting.name] == text
    assert own_texts(load("demo-baseline"))[setting.name] != text
    with COMMANDS.commands["train"].make_context("train", shlex.split(checked.command)[2:]) as parsed:
        sets = [setting.assignment(parsed.params[setting.name])] if setting.flags else parsed.params["sets"]
    assert made == amend(load("demo-baseline"), sets)
