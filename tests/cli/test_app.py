"""The group: help, version, exit codes, completion."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer

import kdtui as package
from kdtui.cli.app import app
from kdtui.cli.console import complete_encoder, complete_profile, complete_run, emit
from kdtui.profile import load
from kdtui.store.store import RunStore
from kdtui.text import clean, span, width
from tests.cli.conftest import Kdtui

COMMANDS = sorted(typer.main.get_command(app).commands)  # type: ignore[attr-defined]
PROMISED = """
    cockpit keys demo init train distill runs show watch logs stop resume remove note compare evaluate inspect teachers
    encoders profiles methods data doctor export measure predict cache gc sweep search
"""


def test_every_promised_command_is_there() -> None:
    below = {f"{group} {verb}" for group in ("sweep", "search") for verb in ("list", "show", "stop", "resume")}
    assert set(COMMANDS) == {*PROMISED.split(), *below}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(kdtui: Kdtui, command: str) -> None:
    done = kdtui(*command.split(), "--help")
    assert done.code == 0
    assert done.out.startswith("Usage: ")
    assert kdtui(*command.split(), "-h").out == done.out


def test_version_and_help(kdtui: Kdtui, process: Kdtui) -> None:
    assert kdtui("--version").out == f"kdtui {package.__version__}\n"
    assert process("--help").out.startswith("Usage: kdtui ")
    assert "Usage" in kdtui().out + kdtui().err


@pytest.mark.parametrize(
    "arguments",
    [
        ["nosuchcommand"],
        ["train"],
        ["train", "baseline", "--nosuchoption"],
        ["train", "baseline", "--epochs", "many"],
        ["train", "baseline", "--epochs", "0"],
        ["train", "baseline", "-T", "0"],
        ["train", "baseline", "-T", "nan"],
        ["train", "baseline", "-a", "1.5"],
        ["train", "baseline", "--set", "nonsense"],
        ["train", "baseline", "--name", "../../x"],
        ["train", "baseline", "--name", "\x1b[31m"],
        ["train", "baseline", "--seed", "-1"],
        ["train", "basline"],
        ["train", "missing.toml"],
        ["train", "baseline", "--teacher", "missing.pth"],
        ["train", "baseline", "--resume", "missing"],
        ["train", "baseline", "demo-baseline", "--name", "one"],
        ["resume", "baseline", "--total-epochs", "0"],
        ["compare"],
        ["compare", "missing", "--format", "yaml"],
    ],
)
def test_bad_usage_ends_with_2_and_makes_nothing(
    process: Kdtui, kdtui: Kdtui, here: Path, arguments: list[str]
) -> None:
    done = kdtui(*arguments)
    assert done.code == 2
    assert done.out == ""
    assert done.err
    assert "Traceback" not in done.err
    assert "\x1b" not in done.err
    assert not (here / "runs").exists()


def single_options() -> list[tuple[str, str]]:
    """Every option of every command that takes one value: command and option."""
    group = typer.main.get_command(app)
    return [
        (name, next(flag for flag in param.opts if flag.startswith("--")))
        for name, command in sorted(group.commands.items())  # type: ignore[attr-defined]
        for param in command.params
        if param.param_type_name == "option" and not param.multiple and not param.is_flag
    ]


@pytest.mark.parametrize(("command", "option"), single_options())
def test_an_option_of_one_value_is_refused_when_given_twice(
    kdtui: Kdtui, here: Path, command: str, option: str
) -> None:
    done = kdtui(*command.split(), option, "1", f"{option}=2")
    assert done.code == 2
    assert f"{option} takes one value but is given 2 times" in done.err
    assert done.out == ""
    assert not (here / "runs").exists()


def test_two_seeds_are_refused_with_the_command_that_trains_both(kdtui: Kdtui) -> None:
    done = kdtui("train", "baseline", "--seed", "0", "--seed", "1")
    assert done.code == 2
    assert "--seeds 0,1,2" in done.err
    assert kdtui("runs", "--filter", "a", "--filter", "b").code == 2
    assert kdtui("train", "baseline", "-T", "1", "--temperature", "2").code == 2
    assert kdtui("runs", "--json", "--json").code == 0


@pytest.mark.parametrize("command", [["train", "baseline"], ["profiles", "baseline"], ["distill"]])
def test_one_key_set_twice_is_refused(kdtui: Kdtui, command: list[str]) -> None:
    done = kdtui(*command, "--set", "training.epochs=1", "--set", " training . epochs=2")
    assert done.code == 2
    assert "training.epochs" in done.err
    assert "1, 2" in done.err


def test_every_mistake_of_a_profile_is_reported(process: Kdtui, here: Path) -> None:
    (here / "mine.toml").write_text("sede = 1\n[training]\nepochs = 0\n[distillation]\ntempurature = 2\n")
    done = process("train", "mine.toml", "--dry-run")
    assert done.code == 2
    for said in ("did you mean seed?", "training.epochs", "did you mean temperature?", "mine.toml"):
        assert said in done.err
    assert "Traceback" not in done.err


def test_a_failure_of_the_machine_is_no_traceback(kdtui: Kdtui, store: RunStore, here: Path) -> None:
    run = store.create(load("baseline", ["name=one"]))
    run.worker_log.mkdir()
    done = kdtui("logs", "one")
    assert done.code == 3
    assert "worker.txt" in done.err


def test_completion_offers_runs_profiles_and_encoders(store: RunStore) -> None:
    run = store.create(load("baseline", ["name=one"]))
    assert complete_run("") == ["latest", "one", run.id]
    assert complete_run("o") == ["one"]
    assert complete_run(run.id[:5]) == [run.id]
    assert complete_run("zzz") == []
    assert "baseline" in complete_profile("base")
    assert all(name.startswith("resnet") for name in complete_encoder("resnet"))


def test_completion_survives_a_store_that_is_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("not a folder")
    with monkeypatch.context() as patch:
        patch.setenv("KDTUI_RUNS", str(tmp_path / "file"))
        assert complete_run("la") == ["latest"]


def test_the_shell_gets_completions(store: RunStore, here: Path) -> None:
    run = store.create(load("baseline", ["name=one"]))
    environment = {"_KDTUI_COMPLETE": "complete_bash", "COMP_WORDS": "kdtui show 2", "COMP_CWORD": "2"}
    done = subprocess.run(
        [sys.executable, "-c", "from kdtui.cli.app import main; main()"],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.id in done.stdout.split()


def test_clean_takes_out_what_a_terminal_would_obey() -> None:
    assert clean("a\x1b[31mb\x07\x9b\u202e\nc\td") == "a[31mb\nc\td"


def test_json_never_holds_nan(capsys: pytest.CaptureFixture[str]) -> None:
    emit({"a": [math.nan, 1.5, (math.inf,)], "b": {"c": -math.inf, "d": 0}})
    assert json.loads(capsys.readouterr().out) == {"a": [None, 1.5, [None]], "b": {"c": None, "d": 0}}


def test_widths_and_spans() -> None:
    assert (width("abc"), width("日本"), width("e\u0301")) == (3, 4, 1)
    assert [span(s) for s in (None, 0.4, 59.6, 61, 3661, 90000)] == ["-", "0s", "1m00s", "1m01s", "1h01m", "1d01h"]
