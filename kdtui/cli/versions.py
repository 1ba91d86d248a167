"""``profiles``, ``methods`` and ``doctor``: what runs can be made of, and checks of this machine."""

from __future__ import annotations

import shutil
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from kdtui.cli.console import (
    Exit,
    Json,
    RunsDir,
    Sets,
    Wide,
    complete_method,
    complete_profile,
    emit,
    next_step,
    open_store,
    out,
    say,
    table,
)
from kdtui.cli.layout import hanging
from kdtui.errors import KdtuiError, UsageError
from kdtui.profile.find import SHIPPED, ProfileFile
from kdtui.text import counted, mebibytes, one_line

_NAMED = 5  # maximum number of files that a check lists; the others are only counted


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(profiles)
    app.command()(methods)
    app.command()(doctor)


def profiles(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="Show this profile.", autocompletion=complete_profile)
    ] = None,
    resolved: Annotated[
        bool, typer.Option("--resolved", help="Print the complete profile: with inherited and default values.")
    ] = False,
    sets: Sets = None,
    wide: Wide = False,
    as_json: Json = False,
) -> None:
    """List the profiles, or print one as written or resolved."""
    from kdtui.profile.find import listing, locate
    from kdtui.profile.loading import read_text

    if name is None:
        if resolved or sets:
            raise UsageError("--resolved and --set need a profile's name", hint="kdtui profiles NAME --resolved")
        found = listing()
        if as_json:
            emit(
                [
                    {
                        "name": file.name,
                        "path": str(file.path),
                        "shipped": file.shipped,
                        "description": file.description,
                        "extends": file.extends,
                        "hides": [str(path) for path in file.hides],
                    }
                    for file in found
                ]
            )
        else:
            rows = [[file.name, "shipped" if file.shipped else _from(file.path), _described(file)] for file in found]
            table(["profile", "from", ""], rows, wrap=("",), drop=("from",), wide=wide)
        return
    if resolved or sets or as_json:
        from kdtui.profile import dump, load

        profile = load(name, sets or [])
        if as_json:
            emit(profile.model_dump(mode="json", exclude_none=True))
        else:
            out(dump(profile).decode().rstrip("\n"))
        return
    path = locate(name)
    text = read_text(path)
    say(str(path))
    out(text.rstrip("\n"))


def methods(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="Print this method.", autocompletion=complete_method)
    ] = None,
    wide: Wide = False,
    as_json: Json = False,
) -> None:
    """List the methods of distillation with their terms and when they help, or print one as written."""
    from kdtui.profile import methods as catalog
    from kdtui.profile.loading import read_text

    found = catalog.methods() if name is None else [catalog.find_method(name)]
    if as_json:
        emit([asdict(method) | {"path": str(method.path)} for method in found])
    elif name is None:
        rows = [[one.name, " + ".join(one.kinds), one.description] for one in found]
        table(["method", "terms", ""], rows, wrap=("",), drop=("terms",), wide=wide)
    else:
        say(str(found[0].path))
        out(read_text(found[0].path).rstrip("\n"))


def _from(path: Path) -> str:
    """The folder of a profile, relative to the current one if it is below it."""
    folder, here = path.parent, Path.cwd()
    if not folder.is_relative_to(here):
        return str(folder)
    return "." if folder == here else f"./{folder.relative_to(here)}"


def _described(file: ProfileFile) -> str:
    hidden = ["the shipped one" if path.parent == SHIPPED else str(path) for path in file.hides]
    return f"{file.description} (hides {', '.join(hidden)})".strip() if hidden else file.description


def doctor(as_json: Json = False, runs_dir: RunsDir = None) -> None:
    """Check this machine: Python, disk, run store, profiles, torch and a few training steps."""
    checks = [_python(), _store(runs_dir), _checkpoints(runs_dir), _profiles(), *_extensions(), *_engine()]
    if as_json:
        emit({"ok": all(check["ok"] for check in checks), "checks": checks})
    else:
        for check in checks:
            out(f"{'ok  ' if check['ok'] else 'FAIL'} {check['name']}: {hanging(check['message'], 5)}", prose=True)
            if check.get("hint") and not check["ok"]:
                out(f"     next: {next_step(check['hint'])}", prose=True)
    if not all(check["ok"] for check in checks):
        raise typer.Exit(Exit.ENGINE)


def _check(name: str, ok: bool, message: str, hint: str | None = None) -> dict[str, Any]:
    return {"name": name, "ok": ok, "message": message, "hint": hint}


def _python() -> dict[str, Any]:
    version = ".".join(map(str, sys.version_info[:3]))
    return _check("python", sys.version_info >= (3, 11), version, "Python 3.11 or newer is needed")


def _store(runs_dir: Path | None) -> dict[str, Any]:
    from kdtui.store.writable import check_writable

    store = open_store(runs_dir)
    existing = next(folder for folder in (store.root, *store.root.parents) if folder.exists())
    free = shutil.disk_usage(existing).free / 2**30
    try:
        count = len(store.summaries())
        check_writable(store.root)
    except KdtuiError as error:
        return _check("run store", False, error.message, error.hint)
    return _check(
        "run store",
        free > 1,
        f"{store.root}: {counted(count, 'run')}, {free:.1f} GiB free",
        "free some space, or use --runs-dir",
    )


def _checkpoints(runs_dir: Path | None) -> dict[str, Any]:
    """Disk usage of the store's checkpoints, and temporary files that killed processes left in it."""
    from kdtui.store.aside import leftovers
    from kdtui.store.checkpoint_files import disk_usage

    store = open_store(runs_dir)
    try:
        checkpoints = sum(map(disk_usage, store.runs()))
    except KdtuiError as error:
        return _check("checkpoints", False, error.message, error.hint)
    lines = [f"{mebibytes(checkpoints)} in all runs"]
    left = leftovers(store.root)
    parts = (
        ([one for one in left if one.ownerless], "left by killed processes; the next training removes them"),
        (
            [one for one in left if not one.ownerless],
            "being written, or left by another host and removed after a day without changes",
        ),
    )
    for found, words in parts:
        if found:
            count = "1 file or folder" if len(found) == 1 else f"{len(found)} files or folders"
            lines.append(f"{count} ({mebibytes(sum(one.bytes for one in found))}) {words}")
            lines += [f"  {one_line(str(one.path))}" for one in found[:_NAMED]]
    return _check("checkpoints", True, "\n".join(lines))


def _profiles() -> dict[str, Any]:
    from kdtui.profile import load
    from kdtui.profile.find import listing

    wrong = []
    for file in listing():
        try:
            load(file.path)
        except KdtuiError as error:
            wrong.append(f"{file.name}: {error.message}")
    message = "\n".join(wrong) if wrong else "all are valid"
    return _check("profiles", not wrong, message, "kdtui profiles NAME --resolved lists all errors")


def _extensions() -> list[dict[str, Any]]:
    """What other packages add, and one failed check for each part that cannot be used."""
    import kdtui.profile.tables  # noqa: F401  # loads every group
    from kdtui import plugins

    used: dict[str, list[str]] = {}
    for extension in plugins.extensions():
        if not extension.reason:
            used.setdefault(extension.group, []).append(f"{extension.name} ({extension.package} {extension.version})")
    lines = [f"{group}: {', '.join(names)}" for group, names in used.items()]
    return [
        _check("extensions", True, "\n".join(lines) or "none are installed"),
        *(
            _check(
                f"extension {extension.name}",
                False,
                f"{extension.reference} of {extension.package} ({extension.group}) is not used: {extension.reason}",
                f"update or uninstall {extension.package}; profiles that do not use it are not affected",
            )
            for extension in plugins.broken()
        ),
    ]


def _engine() -> list[dict[str, Any]]:
    from kdtui.launch.engine_process import ask, engine_command

    try:
        answer = ask("doctor")
    except KdtuiError as error:
        return [_check("engine", False, error.message, error.hint)]
    versions = answer.get("versions") or {}
    listed = ", ".join(f"{name} {version}" for name, version in versions.items())
    checks = [_check("engine", True, listed or " ".join(engine_command("doctor")))]
    return [*checks, *(_check(c["name"], bool(c["ok"]), str(c["message"]), c.get("hint")) for c in answer["checks"])]
