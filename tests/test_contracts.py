"""What each face may load, seen in a fresh interpreter: static tools can't tell a deferred import from an eager one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = ("torch", "torchvision", "lightning_fabric", "segmentation_models_pytorch", "timm")


def loaded(code: str, cwd: Path, *suspects: str) -> set[str]:
    """Which of ``suspects`` an interpreter has loaded after ``code``."""
    script = f"import sys\n{code}\nimport json\nprint(json.dumps([m for m in {suspects!r} if m in sys.modules]))"
    environment = {key: value for key, value in os.environ.items() if not key.startswith("KDTUI_")}
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=cwd, env=environment, check=True
    )
    return set(json.loads(done.stdout.splitlines()[-1]))


RUN_COMMAND = """
from kdtui.cli.app import main
try:
    main({arguments!r})
except SystemExit as end:
    assert end.code in (0, None), end.code
"""


def test_help_loads_neither_torch_nor_textual_nor_pydantic(tmp_path: Path) -> None:
    code = RUN_COMMAND.format(arguments=["--help"])
    assert loaded(code, tmp_path, *HEAVY, "textual", "pydantic", "numpy", "rich") == set()


@pytest.mark.parametrize(
    "arguments", [["train", "--help"], ["--version"], ["runs"], ["runs", "--json"], ["runs", "--filter", "T>=4"]]
)
def test_quick_commands_load_no_profile(arguments: list[str], tmp_path: Path) -> None:
    # Typer's own parameter conversion may bring pydantic, as 0.29 does; ours is left out.
    code = RUN_COMMAND.format(arguments=arguments)
    assert loaded(code, tmp_path, *HEAVY, "textual", "kdtui.profile.tables", "numpy", "rich.progress") == set()


def test_completion_is_light(tmp_path: Path) -> None:
    code = """
from kdtui.cli.options import complete_encoder, complete_profile, complete_run
assert "baseline" in complete_profile("base")
assert complete_encoder("resnet")
assert complete_run("") == ["latest"]
"""
    assert loaded(code, tmp_path, *HEAVY, "textual", "pydantic", "numpy") == set()


@pytest.mark.parametrize(
    "module",
    ["kdtui.cli.app", "kdtui.store.store", "kdtui.launch.local", "kdtui.launch.supervise", "kdtui.launch.plan"],
)
def test_the_light_wing_loads_no_pydantic_when_imported(module: str, tmp_path: Path) -> None:
    assert loaded(f"import {module}", tmp_path, *HEAVY, "textual", "pydantic") == set()


@pytest.mark.parametrize("module", ["kdtui.profile.loading", "kdtui.compare", "kdtui.events", "kdtui.catalog"])
def test_what_both_wings_share_loads_no_torch(module: str, tmp_path: Path) -> None:
    assert loaded(f"import {module}", tmp_path, *HEAVY, "textual") == set()


@pytest.mark.parametrize("module", ["app", "screens.help", "screens.run", "screens.new_run", "screens.compare"])
def test_the_cockpit_loads_nothing_that_its_first_screen_can_do_without(module: str, tmp_path: Path) -> None:
    code = f"import kdtui.tui.{module}"
    assert loaded(code, tmp_path, *HEAVY, "pydantic", "numpy", "psutil", "PIL", "typer", "click") == set()


def test_the_cockpit_opens_without_the_command_line(tmp_path: Path) -> None:
    code = "import kdtui.cli.door, kdtui.cli.opening, kdtui.tui.app"
    assert loaded(code, tmp_path, *HEAVY, "typer", "click", "kdtui.cli.app", "kdtui.cli.console", "pydantic") == set()


def test_the_key_table_is_printed_without_textual(tmp_path: Path) -> None:
    code = RUN_COMMAND.format(arguments=["keys", "--json"])
    assert loaded(code, tmp_path, *HEAVY, "textual", "pydantic", "numpy") == set()


def test_the_engine_loads_no_textual(tmp_path: Path) -> None:
    assert loaded("import kdtui.engine.__main__, kdtui.engine.fit", tmp_path, "textual") == set()
