"""What is built from the tree and installed without it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import kdtui
from tests.docs import ROOT
from tests.oldest import oldest

BUILD = "import sys, setuptools.build_meta as backend; print(getattr(backend, 'build_' + sys.argv[1])(sys.argv[2]))"


def run(*command: str | Path, folder: Path) -> str:
    done = subprocess.run(
        [str(word) for word in command],
        cwd=folder,
        env={name: value for name, value in os.environ.items() if not name.startswith("PYTHON")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what is built: building writes into the tree."""
    copy = tmp_path_factory.mktemp("tree")
    for file in ("pyproject.toml", "MANIFEST.in", "README.md", "LICENSE"):
        shutil.copy(ROOT / file, copy)
    for folder in ("kdtui", "tests"):
        shutil.copytree(
            ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__", "old_runs", "corpus")
        )
    return copy


@pytest.fixture(scope="module")
def wheel(tree: Path) -> Path:
    name = run(sys.executable, "-c", BUILD, "wheel", tree, folder=tree).split()[-1]
    return tree / name


@dataclass(frozen=True)
class Environment:
    """An environment that holds kdtui from its wheel, and its dependencies from the running environment."""

    folder: Path

    @property
    def command(self) -> Path:
        return self.folder / "bin" / "kdtui"


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    folder = tmp_path_factory.mktemp("installed") / "environment"
    venv.create(folder, symlinks=True)
    python = folder / "bin" / "python"
    options = ("--quiet", "--no-deps", "--no-index", "--no-compile", "--disable-pip-version-check")
    run(sys.executable, "-m", "pip", "--python", python, "install", *options, wheel, folder=folder)
    (site,) = folder.glob("lib/python*/site-packages")
    dependencies = [path for path in sys.path if Path(path).name == "site-packages"]
    (site / "dependencies.pth").write_text("\n".join(dependencies), encoding="utf-8")
    return Environment(folder)


def shipped_files() -> Iterator[str]:
    """Every file of the package but compiled modules."""
    package = Path(kdtui.__file__).parent
    for path in package.rglob("*"):
        if path.is_file() and "__pycache__" not in path.parts:
            yield f"kdtui/{path.relative_to(package)}"


def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert names == set(shipped_files())
    assert {"kdtui/py.typed", "kdtui/profiles/demo-teacher.toml", "kdtui/engine/encoder_table.json"} <= names
    assert any(name.endswith(".tcss") for name in names)


def test_the_source_distribution_builds_the_same_wheel(tree: Path, wheel: Path, tmp_path: Path) -> None:
    name = run(sys.executable, "-c", BUILD, "sdist", tmp_path, folder=tree).split()[-1]
    with tarfile.open(tmp_path / name) as archive:
        names = {entry.partition("/")[2] for entry in archive.getnames()}
    assert names >= {*shipped_files(), "README.md", "LICENSE", "pyproject.toml"}
    assert not any(name.startswith("tests") for name in names)


def test_the_installed_command_lists_its_profiles(installed: Environment, tmp_path: Path) -> None:
    listed = run(installed.command, "profiles", folder=tmp_path)
    assert "demo-distilled" in listed and "shipped" in listed
    assert run(installed.command, "--version", folder=tmp_path) == f"kdtui {kdtui.__version__}\n"
    where = run(installed.folder / "bin" / "python", "-c", "import kdtui; print(kdtui.__file__)", folder=tmp_path)
    assert Path(where.strip()).is_relative_to(installed.folder)


@pytest.mark.slow
def test_the_installed_command_trains(installed: Environment, tmp_path: Path) -> None:
    smallest = {
        "data.height": 32,
        "data.width": 32,
        "data.train_samples": 16,
        "data.val_samples": 4,
        "student.encoder": "tu-test_resnet",
        "student.encoder_depth": 3,
        "student.decoder_channels": "[8, 8, 8]",
        "training.batch_size": 8,
        "training.epochs": 1,
    }
    settings = [word for key, value in smallest.items() for word in ("--set", f"{key}={value}")]
    run(installed.command, "train", "baseline", *settings, folder=tmp_path)
    assert "FINISHED" in run(installed.command, "runs", folder=tmp_path)


def test_every_dependency_has_a_lower_bound() -> None:
    assert all(re.fullmatch(r"[\w-]+==[\d.]+", line) for line in oldest())
