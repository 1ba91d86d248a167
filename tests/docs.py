"""The parts of the documents that are made from the code: ``python -m tests.docs`` writes them."""

from __future__ import annotations

import contextlib
import functools
import io
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import typer
from pydantic import BaseModel

from kdtui.cli.app import app
from kdtui.cli.setting_options import option_help
from kdtui.profile import (
    CocoData,
    CocoSplit,
    Distillation,
    FolderData,
    Loss,
    Model,
    Profile,
    RoiModel,
    SyntheticData,
    Teacher,
    Training,
    Unfreezing,
)
from kdtui.profile.data_tables import Unlabelled
from kdtui.profile.launch_tables import LocalLaunch
from kdtui.profile.settings import SETTINGS
from kdtui.profile.table_fields import attributes
from kdtui.profile.term_tables import DISTILLATION_TERMS, SUPERVISED_TERMS
from kdtui.tui.keys import KEYS, SCOPES

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.glob("*.md")])
"""Every document."""
TABLES: list[tuple[str, type[BaseModel]]] = [
    ("(top)", Profile),
    ('data, kind = "synthetic"', SyntheticData),
    ('data, kind = "coco"', CocoData),
    ("data.train, data.val, data.test of coco", CocoSplit),
    ('data, kind = "folder"', FolderData),
    ("data.unlabelled", Unlabelled),
    ("student", Model),
    ('student, kind = "roi"', RoiModel),
    ("teacher", Teacher),
    ("distillation", Distillation),
    *((f'distillation.terms, kind = "{table.model_fields["kind"].default}"', table) for table in DISTILLATION_TERMS),
    ("loss", Loss),
    *((f'loss.terms, kind = "{table.model_fields["kind"].default}"', table) for table in SUPERVISED_TERMS),
    ("training", Training),
    ("training.unfreezing", Unfreezing),
    ("launch", LocalLaunch),
]


@functools.cache
def kdtui(*arguments: str) -> str:
    """What a command prints, as a terminal of 100 columns without colour shows it."""
    environment = {"COLUMNS": "100", "TERMINAL_WIDTH": "100", "NO_COLOR": "1", "TERM": "dumb"}
    with mock.patch.dict(os.environ, environment), contextlib.redirect_stdout(io.StringIO()) as printed:
        assert command_line().main(list(arguments), prog_name="kdtui", standalone_mode=False) in (0, None)
    return "\n".join(line.rstrip() for line in printed.getvalue().strip().splitlines())


@functools.cache
def command_line() -> Any:
    return typer.main.get_command(app)


def commands() -> list[str]:
    """Names of all commands."""
    listed = kdtui("--help").split("Commands:")[1]
    return re.findall(r"^  ([a-z][a-z-]*(?: [a-z]+)?)  ", listed, flags=re.MULTILINE)


def command_reference() -> str:
    """Every command with its own help."""
    parts = [f"## kdtui {name}\n\n```\n{kdtui(*name.split(), '--help')}\n```\n" for name in commands()]
    return "\n".join(parts)


def profile_reference() -> str:
    """Every table of a profile with its keys."""
    parts = []
    for title, table in TABLES:
        said = _settings("" if table is Profile else f"{title}.") | attributes(table)
        rows = [_row(key, _allowed(table, key), _default(table, key), said.get(key, "")) for key in _keys(table)]
        parts.append(f"### {title}\n\n| key | allowed | default | |\n|---|---|---|---|\n" + "\n".join(rows) + "\n")
    return "\n".join(parts)


def _row(*cells: str) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _keys(table: type[BaseModel]) -> list[str]:
    tables = {"data", "student", "teacher", "distillation", "loss", "training", "launch"}
    return [key for key in table.model_fields if not (table is Profile and key in tables)]


def _settings(prefix: str) -> dict[str, str]:
    """The help of settings, by their keys below a table."""
    helps = {one.key: option_help(one) for one in SETTINGS.values() if one.key and not one.words}
    return {key.removeprefix(prefix): text for key, text in helps.items() if key.startswith(prefix)}


def _allowed(table: type[BaseModel], key: str) -> str:
    schema = table.model_json_schema()["properties"][key]
    return _words(schema)


def _words(schema: dict[str, Any]) -> str:
    if "anyOf" in schema:
        return " or ".join(_words(option) for option in schema["anyOf"] if option.get("type") != "null")
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if "const" in schema:
        return f"`{schema['const']}`"
    if "$ref" in schema or "oneOf" in schema or schema.get("type") == "object":
        return "a table"
    if schema.get("type") == "array":
        if "items" not in schema:  # the allowed lengths are fixed
            schema = schema | {"items": schema["prefixItems"][0]}
        return "list of " + ("tables" if "oneOf" in schema["items"] else _words(schema["items"]))
    words = {"integer": "integer", "number": "number", "boolean": "`true`, `false`", "string": "text"}[schema["type"]]
    signs = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    limits = [f"{sign} {schema[name]:.12g}" for name, sign in signs.items() if name in schema]
    return " ".join([words, ", ".join(limits)]).strip()


def _default(table: type[BaseModel], key: str) -> str:
    field = table.model_fields[key]
    if field.is_required():
        return "the file's name" if key == "name" else "required"
    if field.default is None or field.default in ("", ()):
        return "–"
    value = field.default
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def key_reference() -> str:
    """Every key of the cockpit."""
    rows = [
        f"| {SCOPES[key.scope]} | {_code(key.shown)} | {key.help} | {_code(key.command)} |".replace("  |", " |")
        for key in KEYS
    ]
    return "| screen | key | what it does | command line |\n|---|---|---|---|\n" + "\n".join(rows) + "\n"


def _code(text: str) -> str:
    escaped = text.replace("|", "\\|")
    return f"`{escaped}`" if text else ""


GENERATED: dict[str, tuple[Path, Callable[[], str]]] = {
    "keys": (DOCS / "cockpit.md", key_reference),
    "commands": (DOCS / "commands.md", command_reference),
    "profile": (DOCS / "profiles.md", profile_reference),
}
"""Page and content of each generated part."""


def filled(name: str) -> str:
    """The page of a generated part, with that part as the code has it now."""
    page, content = GENERATED[name]
    begin, end = f"<!-- {name}: made by `make docs` -->", f"<!-- end of {name} -->"
    before, rest = page.read_text(encoding="utf-8").split(begin)
    return f"{before}{begin}\n\n{content()}\n{end}{rest.split(end)[1]}"


if __name__ == "__main__":
    for name, (page, _) in GENERATED.items():
        page.write_text(filled(name), encoding="utf-8")
