"""``data``: read every image and label of a profile and report what is wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kdtui.cli.console import (
    Exit,
    Json,
    RunsDir,
    Sets,
    complete_profile,
    emit,
    next_step,
    open_store,
    out,
    say,
    table,
)
from kdtui.cli.export import progress_line
from kdtui.errors import DataError, Interrupted
from kdtui.text import counted

if TYPE_CHECKING:
    from kdtui.profile import Profile

_WEIGHTS_PER_LINE = 10


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(data)


def data(
    source: Annotated[
        str,
        typer.Argument(
            metavar="PROFILE|FOLDER",
            help="Name or file of a profile, or a folder whose layout is guessed as by `kdtui init`.",
            autocompletion=complete_profile,
        ),
    ],
    splits: Annotated[
        list[str] | None,
        typer.Option(
            "--split", help="Split; train, val or test. Repeatable; default: all that exist.", show_default=False
        ),
    ] = None,
    sheet: Annotated[
        Path | None,
        typer.Option("--sheet", metavar="FILE", help="PNG of the contact sheet; default: in the run store."),
    ] = None,
    sets: Sets = None,
    as_json: Json = False,
    runs_dir: RunsDir = None,
) -> None:
    """Read every image and label, and report what is wrong; exit code 4 if training is impossible.

    What was read is kept in the run store: a repeated check reads only new and changed files, also after Ctrl-C.
    """
    report = checked(_profile_of(source, sets or []), open_store(runs_dir).root, splits=splits or (), sheet=sheet)
    if as_json:
        emit(report)
    else:
        show_report(report)
    if not report["ok"]:
        raise typer.Exit(Exit(DataError.exit_code))


def _profile_of(source: str, sets: Sequence[str]) -> Profile:
    """The profile of that name or file, or one for a folder."""
    from kdtui.profile import amend, load
    from kdtui.profile.find import names

    if not Path(source).is_dir() or source in names():
        return load(source, sets)
    from kdtui.launch.new_profiles import profile_of_folder

    return amend(profile_of_folder(Path(source)), sets)


def checked(profile: Profile, root: Path, *, splits: Sequence[str] = (), sheet: Path | None = None) -> dict[str, Any]:
    """The report on a profile's data, with progress on stderr.

    Raises:
        Interrupted: The user interrupted it.
        KdtuiError: The engine reported an error.
    """
    from kdtui.launch.data_check import check_data
    from kdtui.launch.engine_process import EngineStep

    show_step = progress_line()
    try:
        report = check_data(profile, root, splits=splits, sheet=sheet, on_step=show_step)
    except KeyboardInterrupt as error:
        raise Interrupted("cancelled; repeat the command to read the remaining samples") from error
    show_step(EngineStep("finished"))
    return report


def show_report(report: Mapping[str, Any]) -> None:
    """Print the report as text."""
    from kdtui.launch.data_check import headline

    splits = {name: facts for name, facts in report["splits"].items() if facts.get("labels")}
    out(headline(report), prose=True)
    if report.get("unlabelled"):
        out(f"{counted(report['unlabelled'], 'image')} without labels")
    if splits:
        _show_images(splits)
        _show_labels(report["classes"], splits)
    for finding in report["findings"]:
        mark = "FAIL" if finding["level"] == "error" else "WARN"
        first, *facts = finding["message"].split("\n")
        out(f"{mark} {first}", prose=True)
        for fact in facts:
            out(f"   {fact}", prose=True)
        if finding["hint"]:
            out(f"     next: {next_step(finding['hint'])}", prose=True)
    if not report["findings"]:
        out("nothing wrong was found")
    _show_weights(report["class_weights"], len(report["classes"]))
    if report["sheet"]:
        out(f"contact sheet: {report['sheet']}")
    if not report["kept"]:
        say("the result is not kept: the run store is not writable; choose another one with --runs-dir")


def _show_images(splits: Mapping[str, Mapping[str, Any]]) -> None:
    rows = []
    for name, facts in splits.items():
        sizes = facts["sizes"]
        low, middle, high = ("x".join(map(str, sizes[key])) for key in ("min", "median", "max"))
        size = low if sizes["different"] == 1 else f"{low} to {high}"
        size += "" if middle in (low, high) else f", median {middle}"
        kind = f"{_most(facts['channels'])} x {_most(facts['bits'])} bit"
        values = "{:g} to {:g}".format(*facts["values"])
        rows.append([name, str(facts["usable"]), size, kind, values, str(facts["near_duplicates"])])
    header = ["split", "usable", "size", "channels", "values", "near copies"]
    out()
    table(header, rows, right=frozenset({"usable", "near copies"}), drop=["near copies", "values"])


def _most(counts: Mapping[str, int]) -> str:
    """The values in order of their frequency."""
    return "/".join(sorted(counts, key=lambda value: -counts[value]))


def _show_labels(classes: Sequence[str], splits: Mapping[str, Mapping[str, Any]]) -> None:
    header = ["class", *(heading for name in splits for heading in (name, f"{name} images"))]
    rows = []
    for label, name in enumerate(classes):
        row = [name]
        for facts in splits.values():
            entry = facts["labels"][label]
            row += [f"{entry['share']:.2%}", str(entry["images"])]
        rows.append(row)
    if any(facts["ignored"]["pixels"] for facts in splits.values()):
        rows.append(["(ignored)", *(t for facts in splits.values() for t in (f"{facts['ignored']['share']:.2%}", ""))])
    out()
    table(header, rows, right=frozenset(header[1:]))
    out()


def _show_weights(weights: Mapping[str, Sequence[float]] | None, classes: int) -> None:
    """Class weights as lines of TOML, for a term of the loss."""
    for name, values in (weights or {}).items():
        if classes <= _WEIGHTS_PER_LINE:
            out(f'class_weights = [{", ".join(f"{value:g}" for value in values)}]  # "{name}"')
            continue
        out(f'class_weights = [  # "{name}"')
        for start in range(0, classes, _WEIGHTS_PER_LINE):
            part = values[start : start + _WEIGHTS_PER_LINE]
            out(f"    {', '.join(f'{value:g}' for value in part)},")
        out("]")
