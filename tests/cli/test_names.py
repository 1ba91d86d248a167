"""A name selects all its runs, a filter all that match; options of one meaning have one name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kdtui.errors import AmbiguousRun, UsageError
from kdtui.launch.teachers import expand
from kdtui.profile import load
from kdtui.store.run import Run
from kdtui.store.state import State
from kdtui.store.store import RunStore
from tests.cli.conftest import Kdtui, Trained


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


def test_each_option_has_one_name_and_keeps_its_old_one(kdtui: Kdtui, seeds: list[Run], here: Path) -> None:
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
