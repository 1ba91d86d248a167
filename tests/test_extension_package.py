"""A package installed beside kdtui, ``tests/extension_package``: what it adds works like what is built in."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kdtui import plugins
from kdtui.store.run import Run
from kdtui.store.state import State
from kdtui.store.store import RunStore
from tests.extensions import install, on_path

PACKAGE = Path(__file__).with_name("extension_package")
ENTRY_POINTS: dict[str, dict[str, str]] = tomllib.loads((PACKAGE / "pyproject.toml").read_text())["project"][
    "entry-points"
]
PROFILE = """
[data]
kind = "npz"
archive = "data.npz"
classes = ["ground", "square"]
height = 32
width = 32
augmentation = "light"

[student]
encoder = "tu-test_resnet"
encoder_depth = 3
decoder_channels = [8, 8, 8]

[training]
epochs = 2
batch_size = 4
threads = 1
accelerator = "cpu"
"""
DISTILLED = """
extends = "plain"

[student]
encoder = "resnet18"
decoder_channels = [4, 4, 4]

[distillation]
enabled = true
terms = [{ kind = "logit_distance" }, { kind = "direction" }, { kind = "kl" }]
"""


PLAIN = """
extends = "plain"

[student]
kind = "plain"
width = 6

[distillation]
enabled = true
terms = [{ kind = "logit_distance" }, { kind = "direction", on = "body", teacher_on = "encoder" }]

[launch]
target = "detached"
"""


def squares(path: Path) -> None:
    """Squares on a darker ground, and where they are."""
    rng = np.random.default_rng(0)
    arrays: dict[str, Any] = {}
    for split, count in (("train", 8), ("val", 4), ("test", 2)):
        masks = np.zeros((count, 32, 32), np.uint8)
        for mask in masks:
            row, column = rng.integers(0, 20, 2)
            mask[row : row + 12, column : column + 12] = 1
        images = rng.integers(0, 100, (count, 32, 32, 3)) + masks[..., None] * 120
        arrays |= {f"{split}_images": images.astype(np.uint8), f"{split}_masks": masks}
    np.savez(path, **arrays)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with data and profiles, and a run store in it."""
    squares(tmp_path / "data.npz")
    (tmp_path / "plain.toml").write_text(PROFILE)
    (tmp_path / "distilled.toml").write_text(DISTILLED)
    monkeypatch.setenv("KDTUI_RUNS", str(tmp_path / "runs"))
    return tmp_path


def called(home: Path, packages: Path, *words: str, code: int = 0) -> str:
    """What a command prints where the packages of a folder are installed."""
    argv = [sys.executable, "-c", "from kdtui.cli.app import main; main()", *words]
    environment = {**os.environ, "PYTHONPATH": on_path(packages), "COLUMNS": "200"}
    done = subprocess.run(argv, capture_output=True, text=True, cwd=home, env=environment)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout


def test_its_tables_are_read_and_written_as_built_in_ones(home: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    packages = tmp_path_factory.mktemp("packages")
    files = {path.name: path.read_text() for path in (PACKAGE / "kdtui_example").glob("*.py")}
    install(packages, "kdtui_example", files, ENTRY_POINTS)
    shown: dict[str, Any] = json.loads(called(home, packages, "profiles", "distilled", "--json"))
    assert shown["data"]["archive"] == "data.npz"
    assert [term["kind"] for term in shown["distillation"]["terms"]] == ["logit_distance", "direction", "kl"]
    code = (
        "import sys, tomllib\nfrom kdtui.profile import absolute, dump, load\n"
        "profile = absolute(load('distilled'))\nprint(profile.data.archive, profile.data.class_names())\n"
        "assert 'torch' not in sys.modules\nopen('again.toml', 'wb').write(dump(profile))\n"
        "assert load('again.toml') == profile.model_copy(update={'name': 'distilled'})"
    )
    environment = {**os.environ, "PYTHONPATH": on_path(packages)}
    printed = subprocess.check_output([sys.executable, "-c", code], text=True, cwd=home, env=environment)
    assert printed == f"{home / 'data.npz'} ('ground', 'square')\n"


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package, installed by pip without a network."""
    source, target = tmp_path_factory.mktemp("source") / "package", tmp_path_factory.mktemp("packages")
    shutil.copytree(PACKAGE, source)  # a build writes beside its source
    offline = ["--no-index", "--no-deps", "--no-build-isolation", "--disable-pip-version-check"]
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", *offline, "--target", target, source], check=True)
    return target


def weights(run: Run) -> dict[str, Any]:
    """The student's weights, and what the terms train of their own, at the end of a run."""
    from kdtui.engine import checkpoint

    content = checkpoint.load(run.last)
    return {**content["student"], **content["resume"].get("terms", {})}


def run_of(home: Path, name: str) -> Run:
    store = RunStore(home / "runs")
    (run,) = [run for run in store.runs() if run.id.endswith(f"-{name}")]
    assert store.summary(run).state is State.FINISHED
    return run


@pytest.mark.slow
def test_it_trains_resumes_bit_equal_runs_on_two_ranks_and_is_reported(home: Path, packages: Path) -> None:
    import torch

    called(home, packages, "train", "plain", "--name", "teacher", "--set", "training.epochs=1")
    distil = ("train", "distilled", "--teacher", "teacher")
    called(home, packages, *distil, "--name", "whole")
    whole = run_of(home, "whole")
    called(home, packages, *distil, "--name", "resumed", "--resume", str(whole.epoch_checkpoint(1)))
    resumed = run_of(home, "resumed")
    expected, reached = weights(whole), weights(resumed)
    assert any("projection" in key for key in expected)  # resnet18 is wider than test_resnet
    assert expected.keys() == reached.keys()
    assert all(torch.equal(expected[key], reached[key]) for key in expected)

    called(home, packages, *distil, "--name", "ranks", "--set", "training.devices=2", "--set", "training.epochs=1")
    run_of(home, "ranks")
    for name in ("whole", "ranks"):
        text = run_of(home, name).events_path.read_text()
        assert '"loss.distill.logit_distance"' in text
        assert '"loss.distill.direction"' in text

    checks = {check["name"]: check for check in json.loads(called(home, packages, "doctor", "--json"))["checks"]}
    for group, entries in ENTRY_POINTS.items():
        assert group in plugins.GROUPS
        for name in entries:
            assert f"{name} (kdtui-example 1.0)" in checks["extensions"]["message"]
            assert group == plugins.LAUNCHERS or checks[f"extension {name}"]["ok"]


@pytest.mark.slow
def test_its_network_trains_on_its_launcher_resumes_exports_is_evaluated_and_teaches(
    home: Path, packages: Path
) -> None:
    import torch

    (home / "ours.toml").write_text(PLAIN)
    called(home, packages, "train", "plain", "--name", "teacher", "--set", "training.epochs=1")
    called(home, packages, "train", "ours", "--teacher", "teacher", "--name", "ours")
    run = run_of(home, "ours")
    record = run.launch_record()
    assert record is not None
    assert record.target == "detached"
    resume = ("--resume", str(run.epoch_checkpoint(1)))
    called(home, packages, "train", "ours", "--teacher", "teacher", "--name", "resumed", *resume)
    expected, reached = weights(run), weights(run_of(home, "resumed"))
    assert expected.keys() == reached.keys()
    assert all(torch.equal(expected[key], reached[key]) for key in expected)

    scored = json.loads(called(home, packages, "evaluate", "ours", "--split", "val", "--json"))
    assert scored["architecture"] == "plain"
    assert scored["miou"] == pytest.approx(RunStore(home / "runs").summary(run).best_miou)
    exported = json.loads(called(home, packages, "export", "ours", "--json"))
    assert exported[0]["verified"]["validation"]["miou"] == pytest.approx(scored["miou"])
    [row] = [row for row in json.loads(called(home, packages, "runs", "--json")) if row["name"] == "ours"]
    assert row["student"]["encoder"] == "plain"

    one_epoch = ("--set", "distillation.enabled=true", "--set", "training.epochs=1")
    called(home, packages, "train", "plain", "--teacher", "ours", "--name", "taught", *one_epoch)
    run_of(home, "taught")

    inputs = ("--set", "student.brightness=true", "--set", "launch.target=local", "--set", "training.epochs=1")
    ranks = ("--set", "training.devices=2", "--set", "training.micro_batch_size=1", "--set", "training.workers=1")
    called(home, packages, "train", "ours", "--teacher", "teacher", "--name", "inputs", *inputs, *ranks)
    [row] = [row for row in json.loads(called(home, packages, "runs", "--json")) if row["name"] == "inputs"]
    scored = json.loads(called(home, packages, "evaluate", "inputs", "--split", "val", "--json"))
    assert scored["metrics"] == {"recall": pytest.approx(row["metrics"]["recall"])}  # one process; two while training
    assert row["metrics"]["best_recall"] == row["metrics"]["recall"]
    [exported] = json.loads(called(home, packages, "export", "inputs", "--json"))
    assert exported["exporter"] == "dynamo"
    assert exported["inputs"].keys() == {"images", "brightness"}
    assert exported["inputs"]["brightness"]["shape"] == exported["inputs"]["images"]["shape"][:1] == ["batch"]
    assert exported["verified"]["validation"]["miou"] == pytest.approx(scored["miou"], abs=1e-3)
    assert exported["verified"]["outputs"]["logits"]["agreement"] > 0.999
    called(
        home, packages, "export", "inputs", "--precision", "int8", "--limit", "100", "--dynamic", "none", "--batch", "3"
    )
    called(home, packages, "train", "ours", "--teacher", "teacher", *inputs, "--set", "data.kind=synthetic", code=4)
