"""Real child processes in a folder of hostile files: none of them is executed."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from kdtui.launch.engine_process import ask, converse
from kdtui.launch.local import LocalLauncher
from kdtui.launch.slots import visible_gpus
from kdtui.store.state import State
from kdtui.store.store import RunStore
from kdtui.tui.clipboard import copy
from kdtui.tui.machine import MachineSource
from tests.launch.processes import make, reaches, record_of, wait_until_exited

MODULES = ["random.py", "profile.py", "timm/", "torch.py", "json.py", "sitecustomize.py", "kdtui/", "__future__.py"]
PROGRAMS = ["git", "nvidia-smi", "tmux"]

IMPORT = (
    "import random, profile, json, kdtui; from importlib.util import find_spec; find_spec('torch'); find_spec('timm')"
)
# By `-c`, which puts the working folder first on its path; a grandchild inherits the variables alone.
ENGINE = f"""
import json, subprocess, sys
{IMPORT}
subprocess.run([sys.executable, "-c", {IMPORT!r}], check=True)
print(json.dumps({{"path": sys.path}}), flush=True)
"""


@pytest.fixture
def executed(tmp_path: Path) -> Path:
    """The file that hostile code writes its name into."""
    return tmp_path / "executed.txt"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, in every list of folders by all the names that it can have there."""
    folder = tmp_path / "downloads"
    folder.mkdir()
    monkeypatch.chdir(folder)
    for name in ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH"):
        rest = [os.environ[name]] if os.environ.get(name) else []
        monkeypatch.setenv(name, os.pathsep.join(["", ".", f"../{folder.name}", *rest, ""]))
    return folder


def put(folder: Path, name: str, executed: Path) -> None:
    """A module, package or program of this name that writes it into ``executed``."""
    path = folder / name
    if name in PROGRAMS:
        path.write_text(f"#!/bin/sh\necho {name} >> {shlex.quote(str(executed))}\n")
        path.chmod(0o755)
        return
    if name.endswith("/"):
        path.mkdir()
        path = path / "__init__.py"
    path.write_text(f"with open({str(executed)!r}, 'a') as file:\n    print({name!r}, file=file)\n")


def names_in(executed: Path) -> list[str]:
    return executed.read_text().split() if executed.exists() else []


@pytest.mark.parametrize("name", MODULES)
def test_no_engine_process_imports_a_file_of_it(
    folder: Path, executed: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(folder, name, executed)
    monkeypatch.setenv("KDTUI_ENGINE", shlex.join([sys.executable, "-c", ENGINE]))
    for answer in (ask("any"), converse("any")):
        assert str(folder) not in answer["path"]
    assert names_in(executed) == []


@pytest.mark.slow
def test_the_real_engine_imports_no_file_of_it(folder: Path, executed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in MODULES:
        put(folder, name, executed)
    monkeypatch.delenv("KDTUI_ENGINE")
    checks = ask("doctor")["checks"]
    assert all(check["ok"] for check in checks)
    assert names_in(executed) == []


def test_files_of_a_run_are_never_executed(
    folder: Path, executed: Path, store: RunStore, launcher: LocalLauncher, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (*MODULES, *PROGRAMS):
        put(folder, name, executed)
    run = make(store, devices=2)
    launcher.launch(run)
    reaches(store, run, State.FINISHED)
    wait_until_exited(record_of(run))
    monkeypatch.setenv("TMUX", "/tmp/tmux,1,0")
    copy(lambda text: None, "text", folder.parent / "clipboard.txt")
    list(MachineSource(1.0, lambda: True).poll())
    visible_gpus()
    assert names_in(executed) == []


def test_the_command_itself_imports_nothing_of_it(folder: Path, executed: Path) -> None:
    # What Python imports before the first line of a program is beyond the reach of one; it takes `os` from itself.
    argv = [sys.executable, "-c", "import runpy, sys; print(*sys.modules)"]
    before = subprocess.run(argv, capture_output=True, text=True, check=True).stdout.split()
    # A start script or an editable installation imports some before, and looks for those of other platforms.
    names = {name for name in sys.stdlib_module_names - {*before, "antigravity", "this"} if find_spec(name) is not None}
    assert {"random", "json"} < names
    for name in (*(f"{name}.py" for name in (*names, "os")), "typer/", "rich/", "pydantic/"):
        put(folder, name, executed)
    script = f"import sys; sys.path[0] = {str(folder.parent)!r}\nfrom kdtui.cli.door import main\nmain()"  # a script's
    for argv in (["-c", script], ["-m", "kdtui"]):
        for words in (["--version"], ["profiles"]):
            done = subprocess.run([sys.executable, *argv, *words], capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
    assert names_in(executed) == []


def test_settings_of_a_git_repository_start_no_program(folder: Path, executed: Path, store: RunStore) -> None:
    subprocess.run(["git", "init", "-q"], check=True)
    (folder / "file").write_text("")
    who = ["-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run(["git", "add", "file"], check=True)
    subprocess.run(["git", *who, "commit", "-qm", "first"], check=True)
    put(folder, "tmux", executed)
    hostile = folder / "tmux"
    for setting in ("core.fsmonitor", "core.sshCommand", "core.pager", "core.editor", "core.alternateRefsCommand"):
        subprocess.run(["git", "config", setting, str(hostile)], check=True)
    commit = make(store).manifest().git_commit
    assert commit is not None and len(commit) == 40
    assert names_in(executed) == []
