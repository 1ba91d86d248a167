"""A launch target of another package: used by every command on its runs, and not loaded for runs of this machine."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from kdtui.launch.local import LocalLauncher
from kdtui.launch.targets import launcher_of, open_store
from kdtui.store.identity import ProcessIdentity, hostname, identity_of
from kdtui.store.run import LaunchRecord, Run
from kdtui.store.state import State
from kdtui.store.store import RunStore
from tests.cli.conftest import GONE, LAUNCHED, Trained, printed, several

TABLE = '''
from pathlib import Path
from typing import ClassVar, Literal

from kdtui.profile.launch_tables import LaunchTable

with Path("loaded").open("a") as file:
    file.write("table\\n")


class MoonLaunch(LaunchTable):
    """Train on the moon."""

    target: Literal["moon"] = "moon"
    crater: str = "Tycho"
    implementation: ClassVar[str] = "moon.launcher:MoonLauncher"
'''
LAUNCHER = '''
import json
import time
from pathlib import Path

from kdtui.events import Queued, Stopped
from kdtui.launch.launcher import Check
from kdtui.store.run import EventLog, LaunchRecord
from kdtui.store.state import Liveness


class MoonLauncher:
    """Records its calls; whether a job is running is read from a file."""

    def __init__(self, store):
        self.store = store

    def launch(self, run, *, total_epochs=None):
        former = run.launch_record()
        attempt = former.attempt + 1 if former else 1
        crater = run.profile().launch.crater
        job = f"job-{attempt}"
        record = LaunchRecord(attempt, crater, 0, 0, "", job, (), "gpu", 1, total_epochs, time.time(), (), "moon")
        run.clear_stop()
        run.write_launch_record(record)
        with EventLog(run.events_path) as log:
            log.append(Queued(attempt, "gpu"))
        Path(job).write_text("alive")
        return record

    def stop(self, run, *, kill=False):
        with EventLog(run.events_path) as log:
            log.append(Stopped(0, 0, reason="killed" if kill else "asked"))

    def liveness(self, record):
        answer = Path(record.job_id).read_text()
        if answer == "raise":
            raise RuntimeError("no network\\x1b[31m")
        return Liveness(answer)

    def check(self, profile, *, torch_gpus=None):
        return (Check("moon", profile.launch.crater != "Copernicus", profile.launch.crater),)
'''


@pytest.fixture
def installed(here: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of packages with the target ``moon``, and ``mars``, which raises at import."""
    folder = here / "packages"
    for name, files in (
        ("moon", {"table.py": TABLE, "launcher.py": LAUNCHER}),
        ("mars", {"table.py": "raise OSError('no air')"}),
    ):
        (folder / name).mkdir(parents=True)
        for file, text in files.items():
            (folder / name / file).write_text(text)
        about = folder / f"{name}-1.0.dist-info"
        about.mkdir()
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (about / "entry_points.txt").write_text(f"[kdtui.launchers]\n{name} = {name}.table:{name.title()}Launch\n")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, (str(folder), os.environ.get("PYTHONPATH")))))
    return folder


def commands(*lines: str) -> list[tuple[str, str, int]]:
    """What commands printed to stdout and stderr, and their exit codes, carried out in one process."""
    process = subprocess.run(several(*(line.split() for line in lines)), capture_output=True, text=True)
    both = zip(printed(process.stdout), printed(process.stderr), strict=True)
    return [(out, err, code) for (out, code), (err, _) in both]


def made(
    store: RunStore, trained: Trained, name: str, target: str | None = None, process: ProcessIdentity = GONE
) -> Run:
    """A run that was started on a target, and that has no events yet."""
    run = trained(name)
    run.events_path.unlink()
    host = "far" if process is GONE else hostname()
    launched = {**LAUNCHED, **process, "job_id": "job-1"}
    run.write_launch_record(LaunchRecord(host=host, target=target, argv=(), **launched))
    return run


@pytest.fixture
def process() -> Iterator[ProcessIdentity]:
    """A process that runs until the end of the test."""
    with subprocess.Popen(["sleep", "600"], start_new_session=True) as child:
        yield identity_of(child.pid)
        child.kill()


def test_every_command_uses_the_launcher_of_the_target(installed: Path, store: RunStore) -> None:
    Path("job-2").write_text("unknown")
    train = "train baseline --set data.kind=synthetic --set launch.target=moon --name"
    dry, refused, launched, row, stopped, after, resumed, again, killed = commands(
        f"{train} one --set launch.crater=Plato --dry-run --json",
        f"{train} two --set launch.crater=Copernicus --dry-run --json",
        f"{train} three --set launch.crater=Plato --detach",
        "runs --json",
        "stop three",
        "runs --json",
        "resume three --detach",
        "runs --json",
        "stop three --kill",
    )
    checks = {check["name"]: check["ok"] for check in json.loads(dry[0])["runs"][0]["checks"]}
    assert checks["moon"]
    assert "device" not in checks  # this machine's
    assert json.loads(refused[0])["ok"] is False
    assert launched[2] == 0, launched
    [shown] = json.loads(row[0])
    assert (shown["state"], shown["detail"]) == ("QUEUED", "submitted on moon, job job-1")
    assert stopped[2] == 0, stopped
    assert json.loads(after[0])[0]["state"] == "STOPPED"
    assert resumed[2] == 0, resumed
    assert json.loads(again[0])[0]["detail"] == "submitted on moon, job job-2"
    assert (killed[2], store.summary(store.runs()[0]).detail) == (0, "killed")
    assert json.loads(store.runs()[0].launch_path.read_text())["target"] == "moon"


@pytest.mark.parametrize(
    ("target", "answer", "message"),
    [
        ("moon", "raise", "the launcher of target 'moon' failed: RuntimeError: no network"),
        ("mars", "", "launch target 'mars' of package mars is broken: OSError: no air"),
        ("venus", "", "launch target 'venus' is not installed"),
    ],
)
def test_a_launch_target_without_liveness_is_reported_with_its_run(
    installed: Path, store: RunStore, trained: Trained, target: str, answer: str, message: str
) -> None:
    run = made(store, trained, "elsewhere", target)
    finished = trained("finished")
    Path("job-1").write_text(answer)
    listed, stopped = commands("runs --json", f"stop {run.id}")
    rows = {row["id"]: row for row in json.loads(listed[0])}
    assert (listed[1], listed[2]) == ("", 0)
    assert rows[finished.id]["state"] == "FINISHED"
    assert rows[run.id]["detail"].startswith(message)
    assert rows[run.id]["state"] == "LOST"
    if target != "moon":
        assert (stopped[2], stopped[1].splitlines()[0]) == (3, f"error: {message.partition(':')[0]}")


def test_runs_of_this_machine_load_no_other_target(
    installed: Path, store: RunStore, trained: Trained, process: ProcessIdentity
) -> None:
    trained("finished")
    running = made(store, trained, "running", process=process)
    listed, stopped = commands("runs --json", f"stop {running.id}")
    assert {row["name"]: row["state"] for row in json.loads(listed[0])} == {"finished": "FINISHED", "running": "QUEUED"}
    assert stopped[2] == 0
    assert not Path("loaded").exists()


def test_a_record_of_this_machine_names_no_target(store: RunStore, trained: Trained, process: ProcessIdentity) -> None:
    run = made(store, trained, "a", process=process)
    assert "target" not in json.loads(run.launch_path.read_text())
    assert isinstance(launcher_of(run, store), LocalLauncher)
    assert open_store(store.root).summary(run).state is State.QUEUED
