"""What each face may load, seen in a fresh interpreter: static tools can't tell a deferred import from an eager one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from kdtui import plugins
from tests import fake_engine
from tests.engine import preloaded
from tests.extensions import install, on_path
from tests.waiting import finished

EXTENSION = "extension_of_a_test"
HEAVY = ("torch", "torchvision", "lightning_fabric", "segmentation_models_pytorch", "timm")


def loaded(cwd: Path, *steps: tuple[str, tuple[str, ...]]) -> dict[str, list[str]]:
    """Run each step's code after the others in one interpreter; which of its suspects are loaded then, by its code.

    What an earlier step loads counts for the later ones too, so the strictest steps come first.
    """
    script = "import json, sys\n"
    script += "for code, suspects in json.loads(sys.argv[1]):\n    exec(code, {})\n"
    script += "    print('loaded', json.dumps([code, [name for name in suspects if name in sys.modules]]))\n"
    environment = {key: value for key, value in os.environ.items() if not key.startswith("KDTUI_")}
    argv = [sys.executable, "-c", script, json.dumps(steps)]
    done = subprocess.run(argv, capture_output=True, text=True, cwd=cwd, env=environment, check=True)
    return dict(
        json.loads(line.removeprefix("loaded")) for line in done.stdout.splitlines() if line.startswith("loaded")
    )


RUN_COMMAND = """
from kdtui.cli.app import main
try:
    main({arguments!r})
except SystemExit as end:
    assert end.code in (0, None), end.code
"""


COMPLETE = """
from kdtui.cli.console import complete_encoder, complete_profile, complete_run
assert "baseline" in complete_profile("base")
assert complete_encoder("resnet")
assert complete_run("") == ["latest"]
"""


def command(*words: str) -> str:
    return RUN_COMMAND.format(arguments=list(words))


DRY_RUN = f"import os\nos.environ['KDTUI_ENGINE'] = {fake_engine.COMMAND!r}\n" + command(
    "train", "baseline", "--dry-run"
)


def test_the_light_wing_loads_no_torch_and_nothing_before_it_is_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Commands that read no profile load no extension.
    for group in plugins.GROUPS:
        install(tmp_path / "packages", group.replace(".", "_"), {"__init__.py": ""}, {group: {"x": f"{EXTENSION}:T"}})
    (tmp_path / "packages" / f"{EXTENSION}.py").write_text("")
    monkeypatch.setenv("PYTHONPATH", on_path(tmp_path / "packages"))
    light = (*HEAVY, "textual", "pydantic", EXTENSION)
    # Typer's own parameter conversion may bring pydantic, as 0.29 does; ours is left out.
    quick = (*HEAVY, "textual", "kdtui.profile.tables", "numpy", "rich.progress", EXTENSION)
    steps = [
        (command("--help"), (*light, "numpy", "rich", "kdtui.events", "kdtui.catalog")),
        *((f"import {module}", light) for module in ("kdtui.store.store", "kdtui.launch.local")),
        *((f"import {module}", light) for module in ("kdtui.launch.supervise", "kdtui.launch.plan", "kdtui.cli.app")),
        (COMPLETE, (*light, "numpy")),
        (command("keys", "--json"), (*light, "numpy")),
        (command("--version"), quick),
        (command("train", "--help"), quick),
        (command("runs"), quick),
        (command("runs", "--json"), quick),
        (command("runs", "--filter", "T>=4"), quick),
        *(
            (f"import kdtui.{name}", (*HEAVY, "textual"))
            for name in ("events", "catalog", "compare", "profile.loading")
        ),
    ]
    # Without following a run.
    dry_run = (DRY_RUN, (*HEAVY, "textual", "numpy", "rich.progress", "kdtui.compare"))
    reads = ("from kdtui.profile import load; load('baseline')", (EXTENSION,))
    assert loaded(tmp_path, *steps, reads) == {**{code: [] for code, _ in steps}, reads[0]: [EXTENSION]}
    assert loaded(tmp_path, dry_run) == {DRY_RUN: []}


def test_the_cockpit_loads_nothing_that_its_first_screen_can_do_without(tmp_path: Path) -> None:
    command_line = ("typer", "click", "kdtui.cli.app", "kdtui.cli.console", "pydantic")
    modules = ("app", "screens.dialogs", "screens.run", "screens.new_run", "screens.compare")
    steps = [
        ("import kdtui.cli.door, kdtui.cli.opening, kdtui.tui.app", (*HEAVY, *command_line)),
        *((f"import kdtui.tui.{name}", (*HEAVY, *command_line, "numpy", "psutil", "PIL")) for name in modules),
    ]
    assert loaded(tmp_path, *steps) == {code: [] for code, _ in steps}


# In a process that has imported the engine and nothing else.
ENGINE = """
import sys, kdtui.engine.__main__, kdtui.engine.fit
print([name for name in ("textual", "scipy.signal") if name in sys.modules])
"""
SIGNAL = """
import scipy.signal
print(len(scipy.signal.windows.hamming(3)))
"""


def test_the_engine_loads_neither_textual_nor_what_torchmetrics_does_not_use() -> None:
    assert finished(preloaded.Process("-c", ENGINE)) == ("[]\n", "")


def test_other_packages_find_the_scipy_that_the_engine_did_not_load() -> None:
    pytest.importorskip("scipy")  # kdtui does not need it
    assert finished(preloaded.Process("-c", ENGINE + SIGNAL)) == ("[]\n3\n", "")
