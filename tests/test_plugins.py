"""Tables of other packages: valid ones are used; each invalid one is left out with its reason, and all else works."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from kdtui import plugins
from kdtui.errors import UsageError
from kdtui.text import clean
from tests.cli.conftest import printed, several
from tests.extensions import install, on_path
from tests.fake_engine import COMMAND

TABLE = '''
from typing import ClassVar, Literal

from kdtui.profile.{module} import {base}


class {name}({base}):
    """A test."""

    implementation: ClassVar[str] = "absent.module:Attribute"
    {field}
'''


def data_table(name: str, field: str) -> str:
    return TABLE.format(module="data_tables", base="DataTable", name=name, field=field)


KIND = 'kind: Literal["{0}"] = "{0}"'
PACKAGES = {
    # module text, entry-point name, what the reason must contain (empty: it is used)
    "sound": (data_table("T", KIND.format("sound")), "sound", ""),
    "printing": ("print('to stdout')\n" + data_table("T", KIND.format("printing")), "printing", ""),
    "writing": (
        r"import os; os.write(1, b'to descriptor 1\n')" + data_table("T", KIND.format("writing")),
        "writing",
        "",
    ),
    "raising": ("raise OSError('no\\nair')", "raising", "OSError: no air"),
    "exiting": ("raise SystemExit(3)", "exiting", "SystemExit: 3"),
    "interrupted": ("import absent_library", "interrupted", "No module named 'absent_library'"),
    "missing": ("", "missing", "no attribute 'T'"),
    "wrongbase": (
        TABLE.format(module="term_tables", base="DistillationTerm", name="T", field=KIND.format("wrongbase")),
        "wrongbase",
        "not a subclass of kdtui.profile.data_tables.DataTable",
    ),
    "othername": (data_table("T", KIND.format("another")), "othername", "its field 'kind'"),
    "anytext": (data_table("T", 'kind: str = "anytext"'), "anytext", "its field 'kind'"),
    "nowork": (
        data_table("T", KIND.format("nowork")).replace("absent.module:Attribute", "absent"),
        "nowork",
        "'implementation' must be",
    ),
    "undefined": (
        data_table("T", KIND.format("undefined") + '\n    other: "Nowhere | None" = None'),
        "undefined",
        "type of one of its fields",
    ),
    "dotted": (data_table("T", KIND.format("a.b")), "a.b", "its name must be"),
    "coloured": (data_table("T", KIND.format("a\\x1b[31m")), "a\x1b[31m", "its name must be"),
    "mutable": (
        data_table("T", KIND.format("mutable") + '\n    model_config = {"frozen": False}'),
        "mutable",
        "it must be frozen",
    ),
    "open": (data_table("T", KIND.format("open") + '\n    model_config = {"extra": "allow"}'), "open", "unknown keys"),
    "default": (data_table("T", KIND.format("default") + "\n    height: int = 1.5"), "default", "field 'height'"),
    "required": (data_table("T", KIND.format("required") + "\n    root: str"), "required", ""),
    "builtin": (data_table("T", KIND.format("folder")), "folder", "built-in kind"),
    "twina": (data_table("T", KIND.format("twin")), "twin", ""),
    "twinb": (data_table("T", KIND.format("twin")), "twin", "another package declares the same name"),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("packages")
    for package, (text, name, _) in PACKAGES.items():
        install(folder, package, {"__init__.py": text}, {plugins.DATA: {name: f"{package}:T"}})
    return folder


@pytest.fixture(scope="module")
def loaded(folder: Path) -> dict[str, dict[str, Any]]:
    """The entry points by their package, as a fresh interpreter loads them; it reads a profile after them."""
    code = (
        "import dataclasses, json\nfrom kdtui.profile import load\nload('baseline')\nfrom kdtui import plugins\n"
        "print(json.dumps([dataclasses.asdict(e) | {'table': e.table is not None} for e in plugins.extensions()]))"
    )
    environment = {**os.environ, "PYTHONPATH": on_path(folder)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert done.stderr == "to stdout\nto descriptor 1\n"
    return {entry["package"]: entry for entry in json.loads(done.stdout)}


@pytest.mark.parametrize("package", PACKAGES)
def test_each_entry_point_is_used_or_left_out_with_its_reason(loaded: dict[str, Any], package: str) -> None:
    _, name, reason = PACKAGES[package]
    entry = loaded[package]
    assert (entry["group"], entry["name"], entry["version"]) == (plugins.DATA, name, "1.0")
    assert reason in entry["reason"]
    assert "\n" not in entry["reason"]
    assert entry["table"] == (not reason)
    assert bool(entry["reason"]) == bool(reason)


COMMANDS = (
    "doctor --json",
    "doctor",
    "train demo-baseline --name x --set training.epochs=1",
    "train demo-baseline --dry-run --set data.kind=raising",
    "train demo-baseline --dry-run --set data.kind=soundd",
    "profiles demo-baseline --set data.kind=sound --json",
)


def answers(folder: Path, cwd: Path) -> list[tuple[str, str, int]]:
    """Stdout, stderr and exit code of each of :data:`COMMANDS`, carried out where those packages are installed."""
    environment = {
        **os.environ,
        "PYTHONPATH": on_path(folder),
        "KDTUI_RUNS": str(cwd / "runs"),
        "KDTUI_ENGINE": COMMAND,
        "COLUMNS": "200",
    }
    process = subprocess.run(
        several(*(words.split() for words in COMMANDS)), capture_output=True, text=True, cwd=cwd, env=environment
    )
    both = zip(printed(process.stdout), printed(process.stderr), strict=True)
    return [(out, err, code) for (out, code), (err, _) in both]


def test_doctor_reports_extensions_and_other_profiles_work(folder: Path, tmp_path: Path) -> None:
    as_json, as_text, trained, broken, unknown, resolved = answers(folder, tmp_path)
    checks = {check["name"]: check for check in json.loads(as_json[0])["checks"]}
    assert as_json[2] == as_text[2] == 4
    for _, name, reason in PACKAGES.values():
        if reason and name != "twin":
            check = checks[f"extension {name}"]
            assert not check["ok"]
            assert reason in check["message"]
            assert f"FAIL extension {clean(name)}: " in as_text[0]
    assert checks["extensions"]["ok"]
    assert "sound (sound 1.0)" in checks["extensions"]["message"]
    assert "update or uninstall raising" in as_text[0]
    assert trained[2] == 0, trained
    assert broken[2] == 2
    assert "the extension raising of raising cannot be used: OSError: no air" in broken[1]
    assert unknown[2] == 2
    assert (
        "allowed: synthetic, coco, folder, printing, required, sound, twin, writing; did you mean sound?" in unknown[1]
    )
    assert json.loads(resolved[0])["data"]["kind"] == "sound"


def test_an_import_that_takes_long_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The import ends only after the report, so this test hangs without it."""
    started = "import threading\nnext(t for t in threading.enumerate() if isinstance(t, threading.Timer)).join()\n"
    install(
        tmp_path,
        "slowpackage",
        {"__init__.py": started + "raise ValueError"},
        {plugins.DATA: {"slow": "slowpackage:T"}},
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(plugins, "PATIENCE", 0.0)
    monkeypatch.setattr(plugins, "_results", {})
    plugins._installed.cache_clear()
    try:
        plugins.tables(plugins.DATA, object, "kind")
    finally:
        plugins._installed.cache_clear()
    assert "still importing the extension slow of slowpackage (slowpackage:T)" in capsys.readouterr().err


@pytest.mark.parametrize("reference", ["absent.module:Attribute", "json:absent", "json"])
def test_code_that_cannot_be_imported_is_one_message(reference: str) -> None:
    with pytest.raises(UsageError, match="cannot be imported") as failed:
        plugins.imported(reference)
    assert failed.value.where == reference
