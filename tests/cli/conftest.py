"""A command line with a run store of its own and an engine without torch."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from kdtui.cli.app import app
from kdtui.events import Exited, Queued
from kdtui.launch.alive import probe
from kdtui.launch.local import LocalLauncher
from kdtui.launch.start import teacher_record
from kdtui.launch.teachers import find_teacher, prepare
from kdtui.store.identity import ProcessIdentity, hostname
from kdtui.store.run import EventLog, LaunchRecord, Run
from kdtui.store.state import State
from kdtui.store.store import RunStore
from tests.fake_engine import COMMAND, train
from tests.test_hints import options, unknown_options
from tests.waiting import finished

COMMANDS: Any = typer.main.get_command(app)
"""Built once: for each call again is a third of what these tests take."""
GONE = ProcessIdentity(pid=2**22 + 1, start_ticks=1, boot_id="an earlier boot")
"""A process that is not running."""
LAUNCHED: Mapping[str, Any] = {
    "attempt": 1,
    "job_id": None,
    "device": "cpu",
    "devices": 1,
    "total_epochs": None,
    "created": 1.0,
}


@dataclass(frozen=True)
class Done:
    """What a command left."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Kdtui = Callable[..., Done]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory of its own; whatever still runs in its store at the end is killed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KDTUI_ENGINE", COMMAND)
    monkeypatch.setenv("KDTUI_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("KDTUI_SLOTS", "cpu:2")
    monkeypatch.setenv("COLUMNS", "200")
    yield tmp_path
    store = RunStore(tmp_path / "runs", alive=probe)
    for run in store.runs():
        if store.summary(run).state in (State.QUEUED, State.RUNNING):
            LocalLauncher(store).stop(run, kill=True)


@pytest.fixture
def store(here: Path) -> RunStore:
    return RunStore(here / "runs", alive=probe)


@pytest.fixture
def kdtui(monkeypatch: pytest.MonkeyPatch) -> Kdtui:
    """The command line in this process, with ``typed`` at a terminal; a traceback is never an answer."""

    def call(*arguments: str, stdin: str | None = None, typed: str | None = None) -> Done:
        with CliRunner().isolation(input=stdin if typed is None else typed) as streams:
            if typed is not None:
                monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
            with pytest.raises(SystemExit) as end:
                COMMANDS.main(list(arguments), prog_name="kdtui")
            sys.stdout.flush()
            sys.stderr.flush()
            out, err = (stream.getvalue().decode().replace("\r\n", "\n") for stream in streams[:2])
        named = [name for name in (" ".join(arguments[:2]), *arguments[:1]) if name in options()][:1]
        for hint in re.findall(r"next: (.*)", err) if named else ():
            assert not list(unknown_options(hint, named, also="")), hint
        assert isinstance(end.value.code, int | None)
        return Done(end.value.code or 0, out, err)

    return call


SEVERAL = """
import itertools, sys
from kdtui.cli.app import main
for last, words in itertools.groupby(sys.argv[1:], ";;".__eq__):
    if last:
        continue
    try:
        main(list(words))
    except SystemExit as end:
        for stream in (sys.stdout, sys.stderr):
            print("\\0", end.code or 0, ";;", sep="", file=stream, flush=True)
"""
"""A program that carries out several commands one after the other: most of what one takes is its start."""


def several(*commands: Sequence[str | bytes]) -> list[str | bytes]:
    """The program and its arguments; what each command prints ends with a NUL, its exit code and ``;;``."""
    return [sys.executable, "-c", SEVERAL, *(word for command in commands for word in (*command, ";;"))]


def printed(text: str) -> list[tuple[str, int]]:
    """What each of several commands printed, and its exit code."""
    parts = [part.rpartition("\0") for part in text.split(";;\n")[:-1]]
    return [(before, int(code)) for before, _, code in parts]


Trained = Callable[..., Run]


@pytest.fixture
def trained(store: RunStore) -> Trained:
    """Make runs that the engine of these tests has trained to their end, without starting a process for it.

    What it leaves is what ``kdtui train`` leaves: for tests that need such a run, and not its making.
    """

    def make(name: str, *sets: str, profile: str = "baseline", epochs: int = 1, teacher: str | None = None) -> Run:
        words = [f"name={name}", f"training.epochs={epochs}", *sets]
        complete = prepare(profile, words, None if teacher is None else find_teacher(teacher, store))
        run = store.create(complete, teacher=teacher_record(complete, store), origin="kdtui train")
        run.write_launch_record(LaunchRecord(host=hostname(), argv=("engine",), **GONE, **LAUNCHED))
        with EventLog(run.events_path) as log:
            log.append(Queued(1, "cpu"))
        train(str(run.path), GONE)
        with EventLog(run.events_path) as log:
            log.append(Exited(1, 0))
        return run

    return make


@pytest.fixture
def process() -> Kdtui:
    """The command line as a person starts it."""

    def call(*arguments: str, **environment: str) -> Done:
        argv = [sys.executable, "-c", "from kdtui.cli.app import main; main()", *arguments]
        started = subprocess.Popen(
            argv,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
        )
        out, err = finished(started)
        return Done(started.returncode, out, err)

    return call
