"""A name selects all its runs, a filter all that match; options of one meaning have one name."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from kdtui.cli.console import FORMER_NAMES, with_present_names
from kdtui.errors import AmbiguousRun, UsageError
from kdtui.launch.teachers import expand
from kdtui.profile import load
from kdtui.store.run import Run
from kdtui.store.state import State
from kdtui.store.store import RunStore
from tests.cli.conftest import COMMANDS, Kdtui, Trained


@pytest.fixture
def seeds(store: RunStore) -> list[Run]:
    """Three seeds of one name, and another run."""
    sets = [["name=city", f"seed={seed}"] for seed in range(3)] + [["name=other", "seed=7"]]
    runs = [store.create(load("baseline", words)) for words in sets]
    for run in runs:
        run.best.write_text("weights")
    return runs


def test_a_name_of_several_runs_is_all_of_them(store: RunStore, seeds: list[Run], here: Path) -> None:
    ids = [run.id for run in seeds]
    (here / "teacher.pth").write_text("x")
    assert expand(["city", "other"], store) == [*ids[:3], "other"]
    assert expand(["./teacher.pth", "teacher.pth", "nothing"], store) == ["./teacher.pth", "teacher.pth", "nothing"]
    assert expand([], store, "seed>0") == [ids[1], ids[2], ids[3]]
    assert expand(["city", "teacher.pth"][:1], store, "seed>0") == ids[1:3]
    with pytest.raises(AmbiguousRun):
        expand([ids[0][:4]], store)
    for texts, expression in (([], ""), (["city"], "seed>5"), ([], "seed>99")):
        with pytest.raises(UsageError):
            expand(texts, store, expression)


@pytest.mark.parametrize("words", [["city"], ["--filter", "name=city"]])
def test_verbs_of_several_runs_take_a_name_or_a_filter(kdtui: Kdtui, seeds: list[Run], words: list[str]) -> None:
    ids = {run.id for run in seeds[:3]}
    assert {row["id"] for row in kdtui("compare", *words, "--json").json["rows"]} == ids
    assert set(kdtui("measure", *words, "--json").json) == ids
    assert kdtui("measure", *words).err.count("first to third quartile") == 1
    evaluated = kdtui("evaluate", *words, "--json").json
    assert {answer["run"] for answer in evaluated} == ids
    assert kdtui("evaluate", *words).out.count("mIoU") == 3
    exported = kdtui("export", *words, "--json")
    assert {Path(made["path"]).parent.parent.name for made in exported.json} == ids
    stopped = kdtui("stop", *words)
    assert stopped.code == 2
    assert stopped.err.count("error:") == 3  # none of them is running


def test_one_run_is_answered_as_before(kdtui: Kdtui, seeds: list[Run]) -> None:
    assert kdtui("evaluate", "other", "--json").json["miou"] == 0.5


@pytest.mark.parametrize("verb", ["compare", "measure", "evaluate", "export", "stop"])
def test_no_run_and_no_filter_is_refused(kdtui: Kdtui, seeds: list[Run], verb: str) -> None:
    for words, message in (([], "no run given"), (["--filter", "seed>99"], "no run matches the filter")):
        done = kdtui(verb, *words)
        assert (done.code, done.out) == (2, "")
        assert message in done.err
        assert "--filter EXPR" in done.err


def test_stop_takes_the_running_ones_of_a_name(kdtui: Kdtui, store: RunStore, trained: Trained) -> None:
    trained("city")
    (store.root.parent / "slower.toml").write_text('extends = "baseline"\n')
    run = store.find(kdtui("train", "slower", "--epochs", "99", "--detach").out.strip())
    done = kdtui("stop", "--kill", "--filter", "epochs>0")
    assert done.code == 0, done.err
    assert "city" not in done.err
    assert store.summary(run).state is State.STOPPED


OPTIONS = [
    (command, option)
    for command, made in COMMANDS.commands.items()
    for option in made.params
    if option.param_type_name == "option" and not option.hidden
]
NAMES = sorted({flag for _, option in OPTIONS for flag in (*option.opts, *option.secondary_opts)})


def meaning(option: Any) -> tuple[Any, ...]:
    """What has to be equal: all names, how a value is read and displayed, and the help up to its first mark."""
    kind = option.type.name.split()[0]  # without a range
    return {*option.opts}, option.metavar, kind, option.is_flag, re.split(r"[;.:]", option.help)[0]


@pytest.mark.parametrize("flag", NAMES)
def test_an_option_means_the_same_in_every_command(flag: str) -> None:
    """An option that takes a value in most commands may take a list of them in a sweep."""
    options = [option for _, option in OPTIONS if flag in (*option.opts, *option.secondary_opts)]
    meanings = [meaning(option) for option in options]
    if any(option.metavar != "LIST" for option in options):
        lists = [meaning for meaning in meanings if meaning[1] == "LIST"]
        meanings = [meaning for meaning in meanings if meaning[1] != "LIST"]
        assert all(one[3:] == meanings[0][3:] for one in lists), lists
    assert all(one == meanings[0] for one in meanings), meanings


FORMER = [(command, old, new) for command, names in FORMER_NAMES.items() for old, new in names.items()]


@pytest.mark.parametrize(("command", "old", "new"), FORMER)
def test_a_former_name_works_with_a_note(command: str, old: str, new: str, capsys: pytest.CaptureFixture[str]) -> None:
    params = {flag: param for param in COMMANDS.commands[command].params for flag in param.opts}
    assert old not in params
    words = [old, "x", f"{old}=y", "--", old]
    assert with_present_names(words, FORMER_NAMES[command]) == [new, "x", f"{new}=y", "--", old]
    assert capsys.readouterr().err.count(f"{old} is called {new} now") == 1
    assert params[new].type is not None


def test_former_names_do_what_the_present_ones_do(kdtui: Kdtui, seeds: list[Run], here: Path) -> None:
    for flag in ("--teacher", "--teacher-checkpoint"):
        planned = kdtui("train", "demo-baseline", flag, "other", "--lr", "0.5", "--dry-run", "--json").json["runs"][0]
        assert planned["teacher"] == str(seeds[3].best)
        assert kdtui("distill", flag, "other", "--student", "resnet18", "--dry-run").code == 0
    for flag in ("--lr", "--learning-rate"):
        done = kdtui("train", "baseline", flag, "1e9", "--dry-run")
        assert done.code == 2
        assert "training.learning_rate" in done.err
    for place, flag in enumerate(("--to", "-o", "--output")):
        assert kdtui("compare", "city", "--format", "json", flag, f"{place}.json").code == 0
        assert len(json.loads((here / f"{place}.json").read_text())["rows"]) == 3
    for flag in ("--to", "-o"):
        assert kdtui("export", "other", flag, ".").code == 0
    assert kdtui("measure", "other", "--markdown").out == kdtui("measure", "other", "--format", "markdown").out
    assert kdtui("measure", "other", "--format", "json").json == kdtui("measure", "other", "--json").json


@pytest.mark.parametrize(
    "words",
    [
        ["compare", "city", "--json", "--format", "csv"],
        ["measure", "city", "--json", "--markdown"],
        ["measure", "city", "--format", "table", "--markdown"],
    ],
)
def test_two_formats_are_refused(kdtui: Kdtui, seeds: list[Run], words: list[str]) -> None:
    done = kdtui(*words)
    assert (done.code, done.out) == (2, "")
    assert "exclude each other" in done.err
