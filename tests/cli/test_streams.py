"""Streams, places and stores as a careless shell hands them over."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from kdtui.profile import load
from kdtui.store.run import Notes
from kdtui.store.store import RunStore
from tests.cli.conftest import Kdtui, Trained, printed, several
from tests.waiting import finished

KDTUI = [sys.executable, "-c", "from kdtui.cli.app import main; main()"]


@pytest.mark.parametrize("encoding", ["ascii", "ascii:strict"])
def test_a_terminal_without_the_letters_gets_question_marks_and_json_gets_escapes(
    store: RunStore, encoding: str
) -> None:
    run = store.create(load("baseline"))
    run.write_notes(Notes(text="größe α"))
    commands = (["runs"], ["show", run.id], ["compare", run.id], ["runs", "--json"])
    environment = os.environ | {"PYTHONIOENCODING": encoding}
    done = subprocess.run(several(*commands), capture_output=True, text=True, env=environment, check=True)
    assert "Traceback" not in done.stderr
    answers = printed(done.stdout)
    assert [code for _, code in answers] == [0, 0, 0, 0]
    assert all("baseline" in text for text, _ in answers)
    assert json.loads(answers[3][0])[0]["notes"] == "größe α"


@pytest.mark.parametrize(
    ("closed", "command", "code"),
    [
        ("<&-", "remove latest", 2),
        (">&-", "runs", 0),
        ("2>&-", "show nothing", 2),
        ("<&- >&- 2>&-", "train baseline --epochs 1 --detach", 0),
    ],
)
def test_closed_streams_change_no_answer(store: RunStore, closed: str, command: str, code: int) -> None:
    store.create(load("baseline"))
    line = f'exec "$@" {command} {closed}'
    command_line = subprocess.Popen(["sh", "-c", line, "sh", *KDTUI], stderr=subprocess.PIPE)
    _, err = finished(command_line)
    assert (command_line.returncode, b"Traceback" in err) == (code, False)
    assert len(store.runs()) == (2 if command.startswith("train") else 1)


@pytest.mark.parametrize(
    "arguments",
    [
        ["train", "~no-such-user/x.toml"],
        ["train", "baseline", "--teacher", "~no-such-user/x.pth"],
        ["train", "baseline", "--resume", "~no-such-user/x.pth"],
        ["inspect", "~no-such-user/x.pth"],
        ["evaluate", "~no-such-user/x.pth"],
    ],
)
def test_a_home_that_is_not_known_is_a_place_without_files(kdtui: Kdtui, arguments: list[str]) -> None:
    done = kdtui(*arguments)
    assert done.code == 2
    assert "no-such-user" in done.err


def test_a_path_that_is_not_there_is_no_badly_named_run(kdtui: Kdtui) -> None:
    for flag in ("--resume", "--teacher"):
        done = kdtui("train", "baseline", flag, "nowhere/x.pth")
        assert done.code == 2
        assert "neither a file nor a run" in done.err
        assert "checkpoint" in done.err.split("allowed: ")[1]


def test_a_store_that_is_a_file_is_not_called_empty(kdtui: Kdtui, here: Path) -> None:
    (here / "runs").write_text("")
    for arguments in (["runs"], ["show", "latest"], ["train", "baseline"], ["teachers"]):
        done = kdtui(*arguments)
        assert done.code == 3
        assert "Not a directory" in done.err
        assert "--runs-dir" in done.err
    assert kdtui("doctor").code == 4
    (here / "runs").unlink()  # the fixture looks for runs that still live


def test_a_store_that_cannot_be_written_is_still_compared(kdtui: Kdtui, store: RunStore) -> None:
    run = store.create(load("baseline"))
    (store.root / "experiment_runs.json").mkdir()
    done = kdtui("compare", run.id, "--format", "json")
    assert done.code == 0
    assert done.json["rows"][0]["id"] == run.id
    assert "could not write the comparison" in done.err


def test_output_names_a_file(kdtui: Kdtui, store: RunStore, here: Path) -> None:
    run = store.create(load("baseline"))
    done = kdtui("compare", run.id, "--to", str(here))
    assert done.code == 2
    assert "--to is a folder" in done.err


def test_resume_of_a_finished_run_reports_that_nothing_is_left(kdtui: Kdtui, trained: Trained) -> None:
    trained("done")
    told = "nothing left to train"
    assert told in kdtui("resume", "done").err
    assert told not in kdtui("resume", "done", "--total-epochs", "2").err


def test_a_full_disk_is_named_when_a_run_cannot_be_started(kdtui: Kdtui, store: RunStore, here: Path) -> None:
    """On a full disk the supervisor cannot write its error either."""
    if os.geteuid() != 0:
        pytest.skip("mounting takes root")
    small = here / "small"
    small.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(small)], capture_output=True)
    if mounted.returncode:
        pytest.skip("mounting is not allowed here")
    try:
        run = RunStore(small).create(load("baseline"))
        run.worker_log.touch()
        with (small / "filler").open("wb", buffering=0) as filler, pytest.raises(OSError, match="space"):
            while filler.write(bytes(4096)):
                pass
        done = kdtui("resume", run.id, "--runs-dir", str(small))
        assert done.code == 3
        assert "No space left on device" in done.err and "free some space" in done.err
    finally:
        subprocess.run(["umount", "-l", str(small)], check=True)
