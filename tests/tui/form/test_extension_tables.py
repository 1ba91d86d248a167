"""The form with a package's terms, data and network, which is put on the path without an installer."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from kdtui import plugins
from tests.extensions import install, on_path

ROOT = Path(__file__).resolve().parents[3]
PACKAGE = ROOT / "tests" / "extension_package"
THEIRS = ("data-npz", "student-plain", "distillation.terms-direction", "distillation.terms-logit_distance")


@pytest.mark.slow
def test_everything_that_holds_for_built_in_kinds_holds_for_those_of_a_package(tmp_path: Path) -> None:
    project = tomllib.loads((PACKAGE / "pyproject.toml").read_text())["project"]
    modules = {path.name: path.read_text() for path in (PACKAGE / "kdtui_example").glob("*.py")}
    groups = {group: entries for group, entries in project["entry-points"].items() if group in plugins.GROUPS}
    install(tmp_path, "kdtui_example", modules, groups)

    tests = ("tests/tui/form/test_tables.py", "tests/tui/new_run/test_tables.py", "tests/tui/views/test_panels.py")
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-rp",
            "-p",
            "no:cacheprovider",
            "-k",
            " or ".join(("added", "recipe", "registered", "without_encoders", *THEIRS)),
            *tests,
        ],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": on_path(tmp_path), "PYTEST_ADDOPTS": ""},
    )

    assert done.returncode == 0, done.stdout
    passed = [line for line in done.stdout.splitlines() if "PASSED" in line]
    for name in THEIRS:
        assert sum(name in line for line in passed) >= 2, name
