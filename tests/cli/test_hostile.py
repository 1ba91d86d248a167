"""Foreign text and values on the command line's streams: JSON stays valid, nothing is obeyed, one message each."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
from pathlib import Path

import pytest

from kdtui.profile import load
from kdtui.store.run import Run
from kdtui.store.store import RunStore
from tests.cli.conftest import Kdtui, printed, several

OBEYED = "a\u009b31m\u202eb\u2066c\u0007\u200f"
SIGNS = set(OBEYED) - set("abc31m")


@pytest.fixture
def runs(store: RunStore) -> list[Run]:
    """Two runs, one of them with everything that a hand can write into its files."""
    one, other = (store.create(load("baseline", [f"name={name}"])) for name in ("one", "other"))
    one.notes_path.write_text(f'tags = ["{OBEYED[:4]}"]\nnotes = {json.dumps(OBEYED)}\n'.replace("\x07", ""))
    table = one.profile_path.read_text().replace("seed = 0\n", "seed = 0\nodd = nan\nlarge = 0x" + "f" * 9000 + "\n", 1)
    one.profile_path.write_text(f"text = {json.dumps(OBEYED)}\n{table}")
    return [one, other]


@pytest.mark.parametrize(
    "words",
    [
        ["runs", "--json"],
        ["show", "one", "--json"],
        ["watch", "one", "--once", "--json"],
        ["compare", "one", "other", "--json"],
        ["compare", "one", "other", "--format", "json"],
        ["profiles", "--json"],
        ["profiles", "mine", "--json"],
        ["teachers", "--json"],
        ["keys", "--json"],
        ["train", "mine", "--dry-run", "--json"],
    ],
)
def test_json_is_ascii_and_valid(kdtui: Kdtui, runs: list[Run], here: Path, words: list[str]) -> None:
    (here / "mine.toml").write_text(f'extends = "baseline"\ndescription = {json.dumps(OBEYED)}\n')
    done = kdtui(*words)
    assert done.code == 0, done.err
    assert done.out.isascii()
    assert SIGNS.isdisjoint(done.out)

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    json.loads(done.out, parse_constant=refuse)


def test_the_text_is_the_same_after_json(kdtui: Kdtui, runs: list[Run]) -> None:
    assert kdtui("show", "one", "--json").json["profile"]["text"] == OBEYED


@pytest.mark.parametrize(
    "words",
    [
        ["runs"],
        ["show", "one"],
        ["watch", "one", "--once"],
        ["compare", "one", "other"],
        ["compare", "one", "other", "--format", "csv"],
        ["compare", "one", "other", "--format", "markdown"],
        ["show", OBEYED],
        ["runs", "--filter", OBEYED + "=1"],
        ["train", OBEYED],
        ["train", "baseline", "--set", OBEYED],
        ["train", "baseline", "--set", OBEYED + "=1"],
        ["train", "baseline", "--tag", OBEYED],
        ["train", "baseline", "--name", OBEYED],
        ["train", "baseline", "--" + OBEYED],
        ["--" + OBEYED],
        ["train", "baseline", "--epochs", OBEYED],
        ["train", "baseline", "--teacher", OBEYED],
        ["evaluate", OBEYED],
        ["inspect", OBEYED],
        ["encoders", OBEYED],
        [OBEYED],
    ],
)
def test_text_is_cleaned(kdtui: Kdtui, runs: list[Run], words: list[str]) -> None:
    done = kdtui(*words)
    assert done.code in (0, 2)
    assert SIGNS.isdisjoint(done.out + done.err)


def test_files_of_a_comparison_are_clean_and_whole(kdtui: Kdtui, runs: list[Run], here: Path) -> None:
    for form in ("json", "csv", "markdown"):
        assert kdtui("compare", "one", "other", "--format", form, "--to", f"out.{form}").code == 0
        assert SIGNS.isdisjoint((here / f"out.{form}").read_text())
    rows = list(csv.DictReader(io.StringIO((here / "out.csv").read_text())))
    assert {row["id"] for row in rows} == {run.id for run in runs}
    assert (here / "runs" / "experiment_runs.json").read_bytes().isascii()


@pytest.mark.parametrize("tag", ["two words", "", "-x", "a" * 41, "a\n", "é", "a,b"])
def test_a_tag_that_is_none_starts_nothing(kdtui: Kdtui, store: RunStore, tag: str) -> None:
    for command in (["train", "baseline"], ["train", "baseline", "--dry-run"], ["train", "baseline", "--detach"]):
        done = kdtui(*command, f"--tag={tag}")
        assert done.code == 2
        assert "letters, digits and . _ : + = -" in done.err
    assert store.runs() == []


BYTES = [
    [b"note", b"one", b"\xff"],
    [b"train", b"baseline", b"--tag", b"\xff"],
    [b"train", b"baseline", b"--name", b"\xff"],
    [b"train", b"baseline", b"--set", b"description=\xff"],
    [b"train", b"baseline", b"--set", b"data={kind='folder',root='\xff'}"],
    [b"train", b"baseline", b"--teacher", b"\xff.pth"],
    [b"show", b"\xff"],
]


def test_bytes_that_are_no_text_are_one_message(store: RunStore, runs: list[Run]) -> None:
    Path(os.fsdecode(b"\xff.pth")).write_text("x")
    done = subprocess.run(several(*BYTES), capture_output=True, check=True, stdin=subprocess.DEVNULL, text=True)
    for words, (said, code) in zip(BYTES, printed(done.stderr), strict=True):
        assert code == 2, words
        assert said.startswith("error: ")
        assert "Traceback" not in said
    assert len(store.runs()) == 2
